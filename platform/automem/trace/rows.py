"""From events to rows of the tables: one pass, one row out for each thing that happened.

Promise: nothing but the present step, the memory directory and the episode's texts is kept, so the
pass can be as long as the episode. An episode without an end gives the rows of its finished steps
and no row of `episodes`. Not covered: reading journals, writing files.
"""

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import msgspec

from automem.errors import StoreError
from automem.memory.ops import READING, Edit, OpStatus
from automem.trace.credit import Credit
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
    StopReason,
    ToolUsed,
    Turn,
)
from automem.trace.metrics import WRITING, Tally
from automem.trace.migrate import check_schema
from automem.trace.provenance import Change, Memory, Writer, split_lines
from automem.trace.texts import Prompts, Texts

Row: TypeAlias = tuple[str, dict[str, Any]]
"""Table and values by column."""

_ARGUMENT = {"SEARCH": "keyword", "COUNT": "keyword", "TAIL": "lines", "UPSERT": "key",
             "REPLACE": "old"}  # fmt: skip
_TEXT = {"APPEND": "text", "WRITE": "text", "UPSERT": "text", "REPLACE": "new"}
_SUMMED = ("turns", "ops", "tokens_in", "tokens_out", "tokens_cached", "model_s", "world_s")


def rows(events: Iterable[Event]) -> Iterator[Row]:
    """The rows of one episode, `episodes` last; see the module's docstring."""
    pass_ = _Pass()
    for event in events:
        yield from pass_.take(event)


class _Pass:
    """State of one pass over an episode."""

    def __init__(self) -> None:
        self.started: EpisodeStarted | None = None
        self.texts = Texts()
        self.prompts = Prompts()
        self.memory = Memory()
        self.credit = Credit()
        self.tally = Tally()
        self.totals: dict[str, float] = dict.fromkeys((*_SUMMED, "platform_s"), 0)
        self.failures: list[dict[str, Any]] = []
        self.attempts = 0
        self.turn: Turn | None = None
        self.step: dict[str, Any] | None = None
        self.step_began = 0.0
        """Wall clock; 0 where the step's time cannot be measured."""
        self.named: set[str] = set()
        self.task: str | None = None
        self.task_scores: list[dict[str, Any]] | None = None

    def take(self, event: Event) -> Iterator[Row]:
        """Fold one event; the rows that it completes."""
        match event:
            case EpisodeStarted():
                check_schema(event.schema)
                self.started = event
                self.credit.begin(self.texts.resolve(event.instruction))
            case Attempt():
                self.attempts += 1
                self.step_began = 0.0
            case Blob():
                yield from self._blob(event)
            case Observed():
                yield from self._observe(event)
            case Turn():
                yield from self._turn(event)
            case OpDone():
                yield from self._op(event)
            case MemoryChanged():
                yield from self._change(event.step, event.cause, event.edit)
            case ToolUsed():
                for edit in event.edits:
                    yield from self._change(event.step, TOOL_CAUSE, edit)
            case Gated() if self.step is not None:
                self.step.update(gate=event.by, gate_log=event.log, gate_consult=event.consult)
            case Committed():
                if self.step is not None:
                    self.step.update(action=event.action, source=event.source.value)
                self.credit.commit(event.action, self.texts.resolve(event.reasoning))
            case Failed():
                failure = msgspec.to_builtins(event)
                self.failures.append(
                    {k: failure[k] for k in ("step", "boundary", "error", "is_infrastructure")}
                )
            case Ended():
                yield from self._close_step(None, event.time)
                yield from self._own(self.credit.last_rows())
                yield "episodes", self._episode(event)

    def _id(self) -> str:
        if self.started is None:
            raise StoreError("the trace does not begin with an `episode` record: it is incomplete")
        return self.started.episode

    def _own(self, found: Iterable[Row]) -> Iterator[Row]:
        for table, row in found:
            yield table, {"episode": self._id(), **row}

    def _blob(self, blob: Blob) -> Iterator[Row]:
        self.texts.add(blob)
        if blob.digest not in self.named:
            self.named.add(blob.digest)
            yield "blobs", {"episode": self._id(), "name": blob.digest, "text": blob.text}

    def _observe(self, event: Observed) -> Iterator[Row]:
        yield from self._close_step(event, event.time)
        self.step_began = event.time
        if event.step == 0:
            self.totals["world_s"] += event.world_s
            task = event.outcome.info.get("task")
            self.task = task if isinstance(task, str) else None
        if isinstance(scores := event.outcome.info.get("task_scores"), dict):
            self.task_scores = [{"task": t, "progression": float(v)} for t, v in scores.items()]
        observation = self.texts.resolve(event.observation)
        self.credit.observe(observation)
        self.step = {
            "episode": self._id(),
            "step": event.step,
            "observation": observation,
            "changed": event.changed,
            "progression": event.outcome.progression,
            **dict.fromkeys(_SUMMED, 0),
            "malformed": 0,
            "context_tokens": 0,
        }

    def _close_step(self, after: Observed | None, time: float) -> Iterator[Row]:
        """Finish the step at hand; `after` is what the world answered to its action."""
        step = self.step
        if step is None:
            return
        if after is not None:
            invalid = after.outcome.invalid_action
            step.update(
                reward=after.outcome.reward,
                gain=after.outcome.progression - step["progression"],
                invalid_action=invalid,
                unproductive=invalid or not after.changed,
                world_s=after.world_s,
            )
        if self.step_began and time:
            wall = time - self.step_began
            step["platform_s"] = max(0.0, wall - step["model_s"] - step["world_s"])
            self.totals["platform_s"] += step["platform_s"]
        step.update(
            memory_files=len(self.memory.files),
            memory_lines=self.memory.line_count,
            memory_bytes=self.memory.byte_count,
        )
        for name in _SUMMED:
            self.totals[name] += step[name]
        self.step = None
        yield from self._own(self.credit.step_rows())
        yield self._counted("steps", step)

    def _counted(self, table: str, row: dict[str, Any]) -> Row:
        full = {**_BLANK[table], **row}
        self.tally.add(table, full)
        return table, full

    def _turn(self, turn: Turn) -> Iterator[Row]:
        self.turn = turn
        if self.step is not None:
            used = turn.prompt_tokens + turn.completion_tokens
            self.step["turns"] += 1
            self.step["malformed"] += len(turn.malformed)
            self.step["tokens_in"] += turn.prompt_tokens
            self.step["tokens_out"] += turn.completion_tokens
            self.step["tokens_cached"] += turn.cached_tokens
            self.step["model_s"] += turn.seconds
            self.step["context_tokens"] = max(self.step["context_tokens"], used)
        opening = (
            [text for role, text in turn.prompt if role == "user"] if turn.base_turn < 0 else ()
        )
        self.credit.open_turn(turn, map(self.texts.resolve, opening), self.memory)
        prompt = [{"role": role, "text": text} for role, text in self.prompts.add(turn)]
        row = {
            "episode": self._id(),
            "routine": turn.routine.value,
            "role": turn.role.value,
            "prompt": prompt,
            "completion": self.texts.resolve(turn.completion),
            "tokens_in": turn.prompt_tokens,
            "tokens_out": turn.completion_tokens,
            "tokens_cached": turn.cached_tokens,
        }
        same = ("step", "turn", "adapter", "kept", "finish_reason", "malformed", "forced",
                "seconds", "token_ids", "logprobs", "prompt_ids")  # fmt: skip
        yield self._counted("turns", {**row, **{name: getattr(turn, name) for name in same}})

    def _op(self, event: OpDone) -> Iterator[Row]:
        name, op, result = event.op.name, event.op, event.result
        if self.step is not None:
            self.step["ops"] += 1
        sources = self._sources(result.lines)
        argument = getattr(op, _ARGUMENT[name]) if name in _ARGUMENT else None
        self.credit.did(event, self.memory)
        change = self._apply(event.edit, Writer(event.step, event.turn, event.index), name)
        written, redundant = _redundancy(event, change)
        row = {
            "episode": self._id(),
            "step": event.step,
            "turn": event.turn,
            "index": event.index,
            "op": name,
            "routine": self.turn.routine.value if self.turn is not None else None,
            "file": getattr(op, "file", None),
            "argument": None if argument is None else str(argument),
            "text": getattr(op, _TEXT[name]) if name in _TEXT else None,
            "status": result.status.value,
            "result": result.text,
            "result_lines": [{"file": f, "lines": n} for f, n in result.lines.items()],
            "cut": result.cut,
            "sources": sources,
            "edit": msgspec.structs.asdict(event.edit) if event.edit else None,
            "written_lines": written,
            "redundant_lines": redundant,
        }
        yield self._counted("ops", row)

    def _sources(self, lines: dict[str, list[int]]) -> list[dict[str, int] | None]:
        writers = (self.memory.writer(file, n) for file, numbers in lines.items() for n in numbers)
        return [
            None if w is None else {"step": w.step, "turn": w.turn, "index": w.index}
            for w in writers
        ]

    def _change(self, step: int, cause: str, edit: Edit) -> Iterator[Row]:
        self._apply(edit, Writer(step), cause)
        row = {
            "episode": self._id(),
            "step": step,
            "turn": -1,
            "index": -1,
            "op": "CHANGE",
            "cause": cause,
            "file": edit.file,
            "status": OpStatus.OK.value,
            "edit": msgspec.structs.asdict(edit),
        }
        yield self._counted("ops", row)

    def _apply(self, edit: Edit | None, writer: Writer, cause: str) -> Change | None:
        if edit is None:
            return None
        change = self.memory.apply(edit, writer)
        self.credit.changed(change, writer.step, cause)
        return change

    def _episode(self, ended: Ended) -> dict[str, Any]:
        started = self.started
        assert started is not None
        same = ("episode", "world", "seed", "replicate", "run_seed", "policy", "scaffold",
                "max_steps", "schema")  # fmt: skip
        return {
            **{name: getattr(started, name) for name in same},
            "task": self.task,
            "task_scores": self.task_scores,
            "instruction": self.texts.resolve(started.instruction),
            "progression": ended.progression,
            "stop": ended.stop.value,
            "detail": ended.detail,
            "failed": ended.stop is StopReason.PLAYER_FAILED,
            "steps": ended.steps,
            **self.totals,
            "memory_files": len(self.memory.files),
            "memory_lines": self.memory.line_count,
            "memory_bytes": self.memory.byte_count,
            "failures": self.failures,
            "attempts": self.attempts,
            **self.tally.values(),
        }


def _redundancy(event: OpDone, change: Change | None) -> tuple[int | None, int | None]:
    """Lines that a writing operation wrote, and how many of them were there already; blank lines
    count as neither. (None, None) for operations that write no text, and for refused ones."""
    name, status = event.op.name, event.result.status
    if name in READING or name not in WRITING or status is OpStatus.ERROR:
        return None, None
    if change is None:  # it left memory as it was: everything it wrote was there
        text = str(getattr(event.op, _TEXT[name]))
        asked = max(1, sum(1 for line in split_lines(text) if line.strip()))
        return asked, asked
    return sum(1 for line in change.written if line.strip()), change.repeated


_BLANK: dict[str, dict[str, Any]] = {
    "steps": dict.fromkeys(
        ("action", "source", "reward", "gain", "invalid_action", "unproductive", "platform_s",
         "gate", "gate_log", "gate_consult")
    ),
    "turns": {},
    "ops": dict.fromkeys(
        ("routine", "cause", "argument", "text", "result", "result_lines", "cut", "sources",
         "written_lines", "redundant_lines")
    ),
}  # fmt: skip
"""Columns that are null where a row does not say otherwise."""
