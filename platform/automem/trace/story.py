"""An episode told step by step: what was seen, said, done to memory, committed and answered.

One pass over the events, texts resolved; finished or not makes no difference. For people and
reports; numbers come from the tables.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from automem.trace.credit import Credit, Retrieval
from automem.trace.events import (
    TOOL_CAUSE,
    Attempt,
    Blob,
    Committed,
    Ended,
    EpisodeStarted,
    Event,
    Failed,
    Gated,
    MemoryChanged,
    Observed,
    OpDone,
    ToolUsed,
    Turn,
)
from automem.trace.migrate import check_schema
from automem.trace.provenance import Change, Memory, Writer
from automem.trace.texts import Messages, Prompts, Texts


class DoneOp(msgspec.Struct, frozen=True):
    """An operation, what it changed, and who wrote the lines that it showed."""

    event: OpDone
    change: Change | None
    shown: tuple[tuple[str, Writer], ...]
    """(line, its writer) for each line of the result, in order."""


@dataclass(slots=True)
class ToldTurn:
    """A model call with the operations that it asked for."""

    event: Turn
    prompt: Messages
    completion: str
    ops: list[DoneOp] = field(default_factory=list)


@dataclass(slots=True)
class ToldStep:
    """Everything between two answers of the world."""

    observed: Observed
    observation: str
    turns: list[ToldTurn] = field(default_factory=list)
    own_changes: list[tuple[str, Change]] = field(default_factory=list)
    """(cause, change) of what the scaffold itself did to memory, and, after the step, callers from
    outside (`TOOL_CAUSE`)."""
    failures: list[Failed] = field(default_factory=list)
    gated: Gated | None = None
    """What the memory gate let the step spend; None without a gate."""
    committed: Committed | None = None
    reasoning: str = ""
    answer: Observed | None = None
    """What the world answered to the committed action."""
    retrievals: list[Retrieval] = field(default_factory=list)
    """Lines that came into the step's contexts, and which of them its action used."""
    memory_files: int = 0
    memory_lines: int = 0
    memory_bytes: int = 0

    @property
    def step(self) -> int:
        return self.observed.step

    @property
    def ops(self) -> list[DoneOp]:
        return [op for turn in self.turns for op in turn.ops]

    @property
    def changes(self) -> list[Change]:
        """Every change of memory in this step, the scaffold's own first."""
        ours = [change for _, change in self.own_changes]
        return ours + [op.change for op in self.ops if op.change is not None]

    @property
    def gain(self) -> float:
        """Change of progression by this step's action."""
        if self.answer is None:
            return 0.0
        return self.answer.outcome.progression - self.observed.outcome.progression


@dataclass(slots=True)
class Told:
    """An episode, told."""

    started: EpisodeStarted | None = None
    instruction: str = ""
    initial: list[tuple[str, Change]] = field(default_factory=list)
    """Changes of memory before the first observation: the scaffold's initial files."""
    steps: list[ToldStep] = field(default_factory=list)
    ended: Ended | None = None
    early_failures: list[Failed] = field(default_factory=list)
    attempts: int = 0


def tell(events: Iterable[Event]) -> Told:
    """The whole episode."""
    teller = _Teller()
    for event in events:
        teller.take(event)
    return teller.told


class _Teller:
    def __init__(self) -> None:
        self.told = Told()
        self.texts, self.prompts, self.memory = Texts(), Prompts(), Memory()
        self.credit = Credit()

    def take(self, event: Event) -> None:
        told, texts = self.told, self.texts
        step = told.steps[-1] if told.steps else None
        match event:
            case EpisodeStarted():
                check_schema(event.schema)
                told.started, told.instruction = event, texts.resolve(event.instruction)
                self.credit.begin(told.instruction)
            case Attempt():
                told.attempts += 1
            case Blob():
                texts.add(event)
            case Observed():
                if step is not None:
                    step.answer = event
                told.steps.append(ToldStep(event, texts.resolve(event.observation)))
                self.credit.observe(told.steps[-1].observation)
                told.steps[-1].retrievals = self.credit.retrievals
            case MemoryChanged():
                change = self.memory.apply(event.edit, Writer(event.step))
                (told.initial if step is None else step.own_changes).append((event.cause, change))
            case ToolUsed():
                changes = told.initial if step is None else step.own_changes
                for edit in event.edits:
                    changes.append((TOOL_CAUSE, self.memory.apply(edit, Writer(event.step))))
            case Failed():
                (told.early_failures if step is None else step.failures).append(event)
            case Ended():
                told.ended = event
            case _ if step is not None:
                self._take_in(step, event)
        if told.steps:
            last = told.steps[-1]
            last.memory_files = len(self.memory.files)
            last.memory_lines = self.memory.line_count
            last.memory_bytes = self.memory.byte_count

    def _take_in(self, step: ToldStep, event: Event) -> None:
        """Fold an event that belongs to a step under way."""
        resolve = self.texts.resolve
        match event:
            case Turn():
                prompt = [(role, resolve(text)) for role, text in self.prompts.add(event)]
                opening = [text for role, text in prompt if role == "user"]
                self.credit.open_turn(event, opening if event.base_turn < 0 else (), self.memory)
                step.turns.append(ToldTurn(event, prompt, resolve(event.completion)))
            case OpDone() if step.turns:
                self.credit.did(event, self.memory)
                step.turns[-1].ops.append(_done(event, self.memory))
            case Gated():
                step.gated = event
            case Committed():
                step.committed, step.reasoning = event, resolve(event.reasoning)
                self.credit.commit(event.action, step.reasoning)


def _done(event: OpDone, memory: Memory) -> DoneOp:
    shown = []
    for file, numbers in event.result.lines.items():
        for number in numbers:
            writer = memory.writer(file, number)
            if writer is not None:
                shown.append((memory.line(file, number), writer))
    change = None
    if event.edit is not None:
        change = memory.apply(event.edit, Writer(event.step, event.turn, event.index))
    return DoneOp(event, change, tuple(shown))
