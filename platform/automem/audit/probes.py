"""Asking an agent for planted facts, with the model held fixed and the store varied.

A probe is a session like any other: the facts come into memory by a command from outside, the fact
in question is deleted by another, and the agent plans one action. Its trace says which lines it
retrieved, and provenance (`automem.trace.provenance`) which of the planted lines they are. Sampling
is seeded by fact, variant and repeat: the same in every condition and for every model.
"""

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from automem.agent.recorder import MemoryRecorder
from automem.audit.facts import Condition, Fact, FactSource, Kind, Line, Variant
from automem.engine.protocol import Engine
from automem.memory.edits import edit_between
from automem.memory.ops import Edit
from automem.memory.sandbox import Sandbox
from automem.rollout.parts import Parts, build_parts, build_session
from automem.rollout.spec import RolloutSpec
from automem.trace.events import (
    SCHEMA,
    EpisodeStarted,
    Event,
    MemoryChanged,
    OpDone,
    Outcome,
    ToolUsed,
)
from automem.trace.provenance import Memory, Writer

AT_ONCE = 128
"""Sessions that ask at the same time: they share the engine's batches."""
_PLANT, _DELETE = "plant", "delete"


class Retrieved(msgspec.Struct, frozen=True):
    """A line of memory that the agent saw before it acted."""

    file: str
    text: str
    kind: Kind | None
    """Which planted line it is; None: the agent or the scaffold wrote it."""


class Answer(msgspec.Struct, frozen=True):
    """What came of one probe."""

    fact: str
    variant: Variant
    condition: Condition
    repeat: int
    action: str
    is_correct: bool
    retrieved: tuple[Retrieved, ...]
    follows: str = ""
    """The near neighbour (its line) whose action was taken."""


class Prober:
    """Asks one agent: a template's roles, with an adapter or without."""

    def __init__(
        self, source: FactSource, with_memory: Parts, without: Parts, run_seed: int
    ) -> None:
        self._source = source
        self._parts = {
            Condition.FULL: with_memory,
            Condition.DEL_ON: with_memory,
            Condition.DEL_OFF: without,
        }
        self._run_seed = run_seed

    async def ask(self, facts: Sequence[Fact], repeats: int) -> list[Answer]:
        """Every fact in every variant and condition, so often each."""
        slots = asyncio.Semaphore(AT_ONCE)

        async def one(fact: Fact, variant: Variant, condition: Condition, repeat: int) -> Answer:
            async with slots:
                return await self._probe(fact, variant, condition, repeat)

        return list(
            await asyncio.gather(
                *(
                    one(fact, variant, condition, repeat)
                    for fact in facts
                    for variant in Variant
                    for condition in Condition
                    for repeat in range(repeats)
                )
            )
        )

    async def opening(self, seed: int) -> list[tuple[str, str]]:
        """The prompt of a LOG turn in another world, as (role, text): nothing of the facts."""
        first, action, before, second, after = self._source.moment(seed)
        recorder = MemoryRecorder()
        with tempfile.TemporaryDirectory(prefix="automem-audit-") as folder:
            parts = self._parts[Condition.FULL]
            sandbox = Sandbox.open(Path(folder) / "memory", parts.quota)
            try:
                session = build_session(
                    parts, self._started(f"opening-{seed}", seed), sandbox, recorder, None
                )
                await session.start()
                await session.step(first, before)
                await session.close(after, second)
            finally:
                sandbox.close()
        return first_log(recorder.events, action)

    def _started(self, episode: str, seed: int) -> EpisodeStarted:
        parts, source = self._parts[Condition.FULL], self._source
        return EpisodeStarted(
            schema=SCHEMA,
            episode=episode,
            world=source.world,
            seed=seed,
            replicate=0,
            run_seed=self._run_seed,
            max_steps=source.max_steps,
            policy=parts.model,
            scaffold=parts.loaded_scaffold().digest,
            instruction=source.instruction,
            fallback_action=source.fallback_action,
        )

    async def _probe(
        self, fact: Fact, variant: Variant, condition: Condition, repeat: int
    ) -> Answer:
        parts, recorder = self._parts[condition], MemoryRecorder()
        planted = fact.planted(variant)
        started = self._started(f"{fact.name}-{variant}-{repeat}", repeat)
        with tempfile.TemporaryDirectory(prefix="automem-audit-") as folder:
            sandbox = Sandbox.open(Path(folder) / "memory", parts.quota)
            try:
                session = build_session(parts, started, sandbox, recorder, None)
                await session.start()
                files = _files(recorder.events)
                session.change_from_outside(_command(_PLANT, _plant(files, planted)))
                if condition is not Condition.FULL:
                    session.change_from_outside(_command(_DELETE, [_delete(files, fact.direct)]))
                action = await session.step(fact.question, fact.outcome)
            finally:
                sandbox.close()
        retrieved = tuple(retrieved_lines(recorder.events, planted))
        return Answer(
            fact=fact.name,
            variant=variant,
            condition=condition,
            repeat=repeat,
            action=action,
            is_correct=action == fact.answer,
            retrieved=retrieved,
            follows=_followed(fact, action, retrieved),
        )


async def build_prober(
    source: FactSource, spec: RolloutSpec, engines: Mapping[str, Engine]
) -> Prober:
    """The prober of the agent that `spec` describes."""
    off = msgspec.structs.replace(spec, agent={**spec.agent, "memory": "none"})
    on = msgspec.structs.replace(spec, agent={**spec.agent, "memory": "files"})
    return Prober(
        source, await build_parts(on, engines), await build_parts(off, engines), spec.run_seed
    )


def retrieved_lines(
    events: Sequence[Event], planted: Sequence[tuple[Kind, Line]]
) -> list[Retrieved]:
    """Lines that operations returned, and which of the planted ones they are by their writer."""
    memory, found = Memory(), []
    kinds: dict[Writer, Kind] = {}
    for event in events:
        if isinstance(event, ToolUsed):
            for index, edit in enumerate(event.edits):
                writer = Writer(event.step, index=index)
                if event.command == _PLANT:
                    kinds[writer] = planted[index][0]
                memory.apply(edit, writer)
        elif isinstance(event, MemoryChanged):
            memory.apply(event.edit, Writer(-1))
        elif isinstance(event, OpDone):
            for file, lines in event.result.lines.items():
                for line in lines:
                    kind = kinds.get(memory.writer(file, line) or Writer(-1))
                    found.append(Retrieved(file, memory.line(file, line), kind))
            if event.edit is not None:
                memory.apply(event.edit, Writer(event.step, event.turn, event.index))
    return found


def first_log(events: Sequence[Event], action: str) -> list[tuple[str, str]]:
    """The prompt of the first LOG turn among `events`, texts resolved."""
    from automem.trace.events import Routine, Turn
    from automem.trace.texts import full_prompt

    for event in events:
        if isinstance(event, Turn) and event.routine is Routine.LOG:
            return full_prompt(events, event.step, event.turn)
    raise AssertionError(f"the session had no LOG after {action!r}: memory is off")


def _command(name: str, edits: list[Edit]) -> ToolUsed:
    return ToolUsed(step=0, command=name, answer="done", edits=edits, chain="")


def _files(events: Sequence[Event]) -> dict[str, str]:
    memory = Memory()
    for event in events:
        if isinstance(event, MemoryChanged):
            memory.apply(event.edit, Writer(-1))
    return dict(memory.files)


def _plant(files: dict[str, str], planted: Sequence[tuple[Kind, Line]]) -> list[Edit]:
    """One edit for each line; `files` as they are afterwards."""
    edits = []
    for _, line in planted:
        old = files.get(line.file)
        new = f"{old or ''}{line.text}\n"
        edit = edit_between(line.file, old, new)
        assert edit is not None
        edits.append(edit)
        files[line.file] = new
    return edits


def _delete(files: dict[str, str], line: Line) -> Edit:
    old = files[line.file]
    kept = [each for each in old.splitlines(keepends=True) if each.rstrip("\n") != line.text]
    edit = edit_between(line.file, old, "".join(kept))
    assert edit is not None
    files[line.file] = "".join(kept)
    return edit


def _followed(fact: Fact, action: str, retrieved: Sequence[Retrieved]) -> str:
    seen = {(each.file, each.text) for each in retrieved if each.kind is Kind.COLLISION}
    for line, wrong in fact.collision:
        if wrong == action and tuple(line) in seen:
            return line.text
    return ""


__all__ = ["Answer", "Outcome", "Prober", "Retrieved", "build_prober", "retrieved_lines"]
