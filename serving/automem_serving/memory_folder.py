"""A memory directory as tools: AutoMem's operations, and the `memory_20250818` tool.

For agents that are not AutoMem's own, on a folder that belongs to no episode: the folder itself is
the truth, there is no journal. Promise: nothing outside the folder is read or written; commands of
several processes come one after the other (an flock on the folder for the length of a command);
each file is replaced whole. Not covered: a command of several edits (renaming a folder) that a
death interrupts is left half done.

An episode's memory is a cache of its journal, so such a folder is opened for reading only.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from automem.engine.protocol import ToolCall
from automem.errors import StoreError, UsageError
from automem.memory.dialects.base import Malformed
from automem.memory.dialects.memory_tool import MemoryTool
from automem.memory.dialects.tools import ToolsDialect
from automem.memory.execute import Executor
from automem.memory.ops import OPS, READING, AnyOp, Op, OpStatus
from automem.memory.sandbox import Quota, Sandbox
from automem.rollout.chain import journal_epochs

MEMORY = "memory"
"""Name of the tool with commands of its own."""
_PATH = {"type": "string", "description": "/memories, or beneath it: /memories/notes.md"}
_TEXT = {"type": "string"}
_MEMORY_FIELDS: dict[str, dict[str, Any]] = {
    "command": {
        "type": "string",
        "enum": ["view", "create", "str_replace", "insert", "delete", "rename"],
    },
    "path": _PATH,
    "view_range": {
        "type": "array",
        "items": {"type": "integer"},
        "description": "view: [first, last] line; -1 as the last is the end",
    },
    "file_text": {**_TEXT, "description": "create: the whole text"},
    "old_str": {**_TEXT, "description": "str_replace: a text that is in the file exactly once"},
    "new_str": {**_TEXT, "description": "str_replace: what takes its place"},
    "insert_line": {"type": "integer", "description": "insert: after this line; 0 is the top"},
    "insert_text": {**_TEXT, "description": "insert: the lines"},
    "old_path": _PATH,
    "new_path": _PATH,
}


class ToolDefinition(msgspec.Struct, frozen=True):
    """A tool as a client is told of it."""

    name: str
    description: str
    schema: dict[str, Any]
    """JSON schema of its arguments."""
    is_reading: bool


class ToolResult(msgspec.Struct, frozen=True):
    """What a call gives; always for the model to read."""

    text: str
    is_error: bool = False


class MemoryFolder:
    """See the module's docstring."""

    def __init__(self, path: Path, quota: Quota | None = None, is_read_only: bool = False) -> None:
        """UsageError where `path` is no folder and none can be made there."""
        self._path = path
        self._quota = quota or Quota()
        self.is_read_only = is_read_only or bool(journal_epochs(path.absolute().parent))
        self._dialect = ToolsDialect()
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{path} cannot be a memory folder: {error.strerror}") from error

    def tools(self) -> list[ToolDefinition]:
        """Every tool that may be called."""
        known = [name for name in OPS if not self.is_read_only or name in READING]
        commands = "view, create, str_replace, insert, delete, rename"
        memory = ToolDefinition(
            MEMORY,
            f"Files under /memories: {'view' if self.is_read_only else commands}.",
            {"type": "object", "properties": _MEMORY_FIELDS, "required": ["command"]},
            self.is_read_only,
        )
        schemas = self._dialect.tool_schemas(known, commits=False)
        return [memory, *(_definition(one) for one in schemas[:-1])]  # the last one is `done`

    def call(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        """Carry out one call; what is wrong with it is said in the result."""
        try:
            with self._alone() as sandbox:
                if name == MEMORY:
                    return self._command(sandbox, arguments)
                return self._operation(sandbox, name, arguments)
        except StoreError as error:
            return ToolResult(f"Error: {error}", is_error=True)

    @contextmanager
    def _alone(self) -> Iterator[Sandbox]:
        """The folder as it is now, with nobody else in it."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise StoreError(f"the memory folder cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            sandbox = Sandbox.open(self._path, self._quota)
            try:
                yield sandbox
            finally:
                sandbox.close()
        finally:
            os.close(descriptor)

    def _command(self, sandbox: Sandbox, arguments: Mapping[str, Any]) -> ToolResult:
        if self.is_read_only and arguments.get("command") != "view":
            return _read_only()
        answer = MemoryTool(sandbox, Executor(sandbox)).run(arguments)
        for edit in answer.edits:
            sandbox.apply(edit)
        return ToolResult(answer.text, answer.is_error)

    def _operation(self, sandbox: Sandbox, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        call = ToolCall(id="call", name=name, arguments=json.dumps(dict(arguments)))
        [item] = self._dialect.parse("", [call])
        if isinstance(item.value, Malformed):
            return ToolResult(f"error: {item.value.message}", is_error=True)
        if not isinstance(item.value, Op):
            return ToolResult(f"error: {name} is no tool here", is_error=True)
        op: AnyOp = item.value
        if self.is_read_only and op.name not in READING:
            return _read_only()
        result, edit = Executor(sandbox).plan(op)
        if edit is not None:
            sandbox.apply(edit)
        return ToolResult(result.text, result.status is OpStatus.ERROR)


def _definition(schema: Mapping[str, Any]) -> ToolDefinition:
    """From a chat engine's tool definition."""
    function = schema["function"]
    name = function["name"]
    return ToolDefinition(
        name, function["description"], function["parameters"], name.upper() in READING
    )


def _read_only() -> ToolResult:
    return ToolResult("Error: this memory is open for reading only", is_error=True)
