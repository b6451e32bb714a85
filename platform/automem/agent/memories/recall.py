"""A rival memory at work: what it writes of a step, and what it shows of the steps before.

Promise: what is written is journalled before it is made (`MemoryChanged`), once per step whatever
dies when; what is shown follows from the memory file and the present observation alone, so a
resumed session and one on any other worker show the same. The present step, which the prompt holds
anyway, is not among what is shown. Not covered: steps beyond the scaffold's `max_file_bytes`: the
oldest quarter of the log goes.
"""

from contextlib import suppress
from typing import Protocol

import msgspec

from automem.agent.conversation import Counter
from automem.agent.memories.bm25 import Bm25Index
from automem.agent.memories.budget import LineCounter, best_within, newest_within
from automem.agent.memories.entries import EntryWriter
from automem.agent.memories.options import AUTOMATIC, RIVALS, RecallOptions
from automem.agent.record import SessionRecord
from automem.agent.schema import FileSchema, Notice, ScaffoldSchema
from automem.memory.names import OpRefused
from automem.memory.ops import Edit, Search
from automem.memory.sandbox import Sandbox
from automem.trace.events import MemoryChanged

HISTORY = "history.txt"
"""File of an automatic log."""
SUMMARY = "memo.txt"
"""File of a rolling summary."""
SUMMARY_OPS = ("WRITE", "APPEND")
ADDED, TRIMMED = "logged", "trimmed"
"""Causes of the changes that an automatic log makes."""


class Recall(Protocol):
    """A rival memory of one session."""

    file: str
    tokens: int | None
    """Most tokens of it in one prompt; None: all that the context leaves."""

    @property
    def search(self) -> Search | None:
        """The operation whose result is shown, done in the model's place; None: a file is shown."""
        ...

    def note(self, step: int, action: str, observation: str) -> None:
        """The world has answered: keep what is to be kept of it."""
        ...

    def shown(self, tokens: int, counter: Counter) -> str:
        """Lines for the prompt, within so many tokens; empty where there are none."""
        ...


def make_recall(
    memory: str, options: RecallOptions, schema: ScaffoldSchema, record: SessionRecord
) -> Recall | None:
    """The rival of that name; None for the files and their controls."""
    tokens = options.tokens or schema.result_tokens
    if memory == "summary":
        return Summary(tokens, record)
    if memory not in AUTOMATIC:
        return None
    return AutomaticLog(memory, options, None if memory == "full" else tokens, record)


def schema_with(memory: str, schema: ScaffoldSchema) -> ScaffoldSchema:
    """The scaffold's schema as a session with this memory runs it: a rival is one file with the
    purposes of all the scaffold's; a summary is written in LOG; PLAN offers no operation."""
    if memory not in RIVALS:
        return schema
    replace = msgspec.structs.replace
    purposes = "; ".join(file.purpose for file in schema.files if file.purpose)
    is_summary = memory == "summary"
    return replace(
        schema,
        files=(FileSchema(name=SUMMARY if is_summary else HISTORY, purpose=purposes),),
        log=replace(schema.log, ops=SUMMARY_OPS if is_summary else (), op_limits={}),
        plan=replace(schema.plan, ops=(), op_limits={}),
        notices=tuple(notice for notice in schema.notices if not _names_a_file(notice, schema)),
    )


def _names_a_file(notice: Notice, schema: ScaffoldSchema) -> bool:
    return any(file.name in notice.when + notice.text for file in schema.files)


class Summary:
    """One text, which the model keeps by WRITE and APPEND in LOG. Beyond the budget its beginning
    is not shown, and the prompt says so: it is for the model to write a shorter one."""

    file = SUMMARY
    search = None

    def __init__(self, tokens: int, record: SessionRecord) -> None:
        self.tokens: int | None = tokens
        self._record = record

    def note(self, step: int, action: str, observation: str) -> None:
        """Nothing: the model writes."""

    def shown(self, tokens: int, counter: Counter) -> str:
        return newest_within(_lines_of(self._record.sandbox, SUMMARY), 0, tokens, counter)


class AutomaticLog:
    """Every step's line, written by the session; `kind` is one of `AUTOMATIC`."""

    file = HISTORY

    def __init__(
        self, kind: str, options: RecallOptions, tokens: int | None, record: SessionRecord
    ) -> None:
        self.tokens = tokens
        self._kind = kind
        self._entries = options.entries
        self._writer = EntryWriter(options)
        self._record = record
        self._present: list[str] = []
        """What the step under way was kept as: the last lines of the file."""
        self._query = ""
        self._index = Bm25Index() if kind == "bm25" else None
        self._indexed: list[str] = []
        self._line_counter = LineCounter()

    @property
    def search(self) -> Search | None:
        """`bm25` searches for the present step; a step of which nothing is kept asks nothing."""
        return Search(HISTORY, self._query) if self._index is not None and self._query else None

    def note(self, step: int, action: str, observation: str) -> None:
        self._present = self._writer.of(action, observation)
        self._query = self._writer.query(action, observation)
        record = self._record
        is_done = False
        while (change := record.next_if(MemoryChanged)) and change.cause in (ADDED, TRIMMED):
            record.recall(MemoryChanged)
            is_done = True
        if record.is_replaying:
            return
        with suppress(OpRefused):
            if self._present and not is_done:
                self._append(step, "".join(f"{line}\n" for line in self._present))
            self._trim(step)

    def shown(self, tokens: int, counter: Counter) -> str:
        lines = _lines_of(self._record.sandbox, HISTORY)
        before = lines[: len(lines) - len(self._present)]
        if self._index is None:
            most = self._entries if self._kind == "window" else 0
            return newest_within(before, most, tokens, counter, self._line_counter)
        self._follow(self._index, lines)
        ranked, found = self._index.find(self._query, self._entries, len(before))
        return best_within(before, ranked, found, tokens, counter)

    def _append(self, step: int, text: str) -> None:
        held = self._record.sandbox.find_text(HISTORY)
        edit = Edit(HISTORY, start=len(held or ""), inserted=text, creates=held is None)
        self._record.change_memory(step, ADDED, edit)

    def _trim(self, step: int) -> None:
        """Drop the oldest quarter of a log that has outgrown the memory folder's quota for a file;
        what is within it is left alone, so that doing it again changes nothing."""
        text = self._record.sandbox.find_text(HISTORY) or ""
        most = self._record.sandbox.quota.file_bytes * 3 // 4
        if len(text) * 4 <= most or len(text.encode()) <= most:
            return
        end = text.find("\n", len(text) // 4) + 1
        self._record.change_memory(step, TRIMMED, Edit(HISTORY, removed=end or len(text)))

    def _follow(self, index: Bm25Index, lines: list[str]) -> None:
        """Index the lines that are new; all of them where others have changed."""
        known = len(self._indexed)
        if lines[:known] != self._indexed:
            index.clear()
            known = 0
        index.add(lines[known:])
        self._indexed = lines


def _lines_of(sandbox: Sandbox, name: str) -> list[str]:
    """The file's lines; none where it is missing or unreadable: one bad file stops no episode."""
    with suppress(OpRefused):
        return (sandbox.find_text(name) or "").splitlines()
    return []
