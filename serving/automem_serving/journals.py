"""What a served episode's journal says to its caller: answers, keys, memory at a step.

Everything here is read from the journal alone, so it is the same from every replica, before and
after any death.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from automem.memory.edits import apply_edit
from automem.memory.ops import Edit
from automem.rollout.chain import decode, iter_events, iter_lines
from automem.trace.events import (
    Committed,
    Ended,
    EpisodeStarted,
    Event,
    MemoryChanged,
    Observed,
    OpDone,
    ToolUsed,
    Turn,
)

_OBSERVED = b'{"kind":"observe"'
_TOOL = b'{"kind":"tool"'


class Usage(msgspec.Struct, frozen=True):
    """What one act took of the models."""

    calls: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    model_s: float
    """Seconds waited for models."""


class Operation(msgspec.Struct, frozen=True):
    """One operation of an act."""

    routine: str
    turn: int
    op: str
    arguments: dict[str, Any]
    status: str
    result: str
    """As the model read it."""


class Answer(msgspec.Struct, frozen=True):
    """What an act is answered with. Made from the journal, so a retry gets the very same."""

    episode: str
    policy: str
    step: int
    action: str | None
    """None where the episode has ended."""
    source: str | None
    """`model`, `forced` or `fallback`."""
    done: bool
    stop: str | None
    """Why it ended."""
    operations: list[Operation]
    changed_files: list[str]
    usage: Usage


class MemoryView(msgspec.Struct, frozen=True):
    """Memory before and now."""

    before: dict[str, str]
    now: dict[str, str]
    steps: int
    """Actions answered so far."""
    is_reached: bool
    """Whether the step asked for has been answered."""


def answer_of(started: EpisodeStarted, step: int, events: Iterable[Event]) -> Answer | None:
    """The answer to act `step`, from (at least) its events; None where it is not finished."""
    turns: dict[int, Turn] = {}
    operations: list[Operation] = []
    changed: dict[str, None] = {}
    committed: Committed | None = None
    ended: Ended | None = None
    for event in events:
        if isinstance(event, Ended):
            ended = event if event.steps == step else None
        elif getattr(event, "step", -1) != step:
            continue
        elif isinstance(event, Turn):
            turns[event.turn] = event
        elif isinstance(event, OpDone):
            operations.append(_operation(event, turns))
            if event.edit is not None:
                changed[event.edit.file] = None
        elif isinstance(event, MemoryChanged):
            if event.cause != "initial":  # those are the episode's, not an act's
                changed[event.edit.file] = None
        elif isinstance(event, Committed):
            committed = event
    if committed is None and ended is None:
        return None
    return Answer(
        episode=started.episode,
        policy=started.policy,
        step=step,
        action=committed.action if committed else None,
        source=committed.source if committed else None,
        done=committed is None,
        stop=ended.stop if committed is None and ended is not None else None,
        operations=operations,
        changed_files=sorted(changed),
        usage=_usage(turns.values()),
    )


def _operation(event: OpDone, turns: dict[int, Turn]) -> Operation:
    arguments: dict[str, Any] = msgspec.to_builtins(event.op)
    return Operation(
        routine=turns[event.turn].routine if event.turn in turns else "",
        turn=event.turn,
        op=arguments.pop("op"),
        arguments=arguments,
        status=event.result.status,
        result=event.result.text,
    )


def _usage(turns: Iterable[Turn]) -> Usage:
    turns = list(turns)
    return Usage(
        calls=len(turns),
        prompt_tokens=sum(turn.prompt_tokens for turn in turns),
        cached_tokens=sum(turn.cached_tokens for turn in turns),
        completion_tokens=sum(turn.completion_tokens for turn in turns),
        model_s=round(sum(turn.seconds for turn in turns), 6),
    )


def observed_steps(directory: Path) -> list[Observed]:
    """What the caller sent, step by step (texts as the journal stores them)."""
    found: dict[int, Observed] = {}
    for line in iter_lines(directory):
        if line.startswith(_OBSERVED):
            event = decode(line)
            if isinstance(event, Observed):
                found[event.step] = event
    return [found[step] for step in sorted(found)]


def used_tools(directory: Path) -> Iterator[ToolUsed]:
    """The commands from outside that changed memory, in order."""
    for line in iter_lines(directory):
        if line.startswith(_TOOL):
            event = decode(line)
            if isinstance(event, ToolUsed):
                yield event


def recorded_answer(directory: Path, started: EpisodeStarted, step: int) -> Answer | None:
    """The answer to act `step` as the journal has it."""
    return answer_of(started, step, iter_events(directory))


def memory_view(directory: Path, since: int | None = None) -> MemoryView:
    """Memory now, and as it was when act `since` was answered (None: before everything)."""
    files: dict[str, str] = {}
    before: dict[str, str] = {}
    steps, is_reached = 0, since is None
    for event in iter_events(directory):
        for edit in _edits_of(event):
            text = apply_edit(files.get(edit.file), edit)
            files.pop(edit.file, None)
            if text is not None:
                files[edit.file] = text
        if isinstance(event, Committed):
            steps = event.step + 1
        if since is not None and since == _answered(event):
            before, is_reached = dict(files), True
    return MemoryView(before, files, steps, is_reached)


def _answered(event: Event) -> int | None:
    """The act that is answered with this event; None where it answers none."""
    if isinstance(event, Committed):
        return event.step
    return event.steps if isinstance(event, Ended) else None


def _edits_of(event: Event) -> Iterable[Edit]:
    if isinstance(event, ToolUsed):
        return event.edits
    if isinstance(event, MemoryChanged | OpDone) and event.edit is not None:
        return (event.edit,)
    return ()
