"""The `memory_20250818` tool: commands `view create str_replace insert delete rename` on /memories.

Answers word for word as that tool's public documentation has them, so that models trained on it
feel at home. Like an operation, a command is planned against the folder as it is and gives edits
that the caller journals and applies in order; nothing here writes. Paths are under `/memories`,
folders exist where a file is in them. Text is kept as given (no newline is added), under the
executor's rules for control characters and quotas. Not covered: images, and a cap on what `view`
returns beyond the quota of a file.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from automem.memory.dialects.tools import MEMORY_ROOT
from automem.memory.edits import edit_at
from automem.memory.execute import Executor, clean_text
from automem.memory.names import OpRefused, check_name
from automem.memory.ops import Edit
from automem.memory.sandbox import Sandbox

_MAX_LINES = 999_999
_CONTEXT_LINES = 2
"""Lines shown before and after an edit."""


class MemoryAnswer(msgspec.Struct, frozen=True):
    """What a command gives."""

    text: str
    edits: tuple[Edit, ...] = ()
    """To be journalled and applied in this order; empty where nothing changes."""
    is_error: bool = False


class MemoryTool:
    """See the module's docstring."""

    def __init__(self, sandbox: Sandbox, executor: Executor) -> None:
        self._sandbox = sandbox
        self._executor = executor
        self._commands = {
            "view": self._view,
            "create": self._create,
            "str_replace": self._str_replace,
            "insert": self._insert,
            "delete": self._delete,
            "rename": self._rename,
        }

    def run(self, command: Mapping[str, Any]) -> MemoryAnswer:
        """Plan one command; a bad one is answered with an error text and no edits."""
        try:
            run = self._commands.get(_text(command, "command"))
            if run is None:
                raise OpRefused(f"`command` is one of {', '.join(self._commands)}")
            return run(command)
        except _Answered as answered:
            return MemoryAnswer(str(answered), is_error=True)
        except OpRefused as refusal:
            return MemoryAnswer(f"Error: {refusal}", is_error=True)

    def _view(self, command: Mapping[str, Any]) -> MemoryAnswer:
        name, path = _path(command, "path")
        if not name or self._beneath(name):
            return MemoryAnswer(self._folder(name, path))
        text = self._sandbox.find_text(name)
        if text is None:
            raise _Answered(f"The path {path} does not exist. Please provide a valid path.")
        lines = _lines(text)
        if len(lines) > _MAX_LINES:
            raise _Answered(f"File {path} exceeds maximum line limit of 999,999 lines.")
        first, last = _range(command.get("view_range"), len(lines))
        shown = _numbered(lines, first, last)
        return MemoryAnswer("\n".join([f"Here's the content of {path} with line numbers:", *shown]))

    def _create(self, command: Mapping[str, Any]) -> MemoryAnswer:
        name, path = _path(command, "path")
        text = clean_text(_text(command, "file_text"))
        if not name or self._beneath(name) or self._sandbox.exists(name):
            raise _Answered(f"Error: File {path} already exists")
        edit = Edit(name, inserted=text, creates=True)
        self._executor.check_quota(edit)
        return MemoryAnswer(f"File created successfully at: {path}", (edit,))

    def _str_replace(self, command: Mapping[str, Any]) -> MemoryAnswer:
        name, path = _path(command, "path")
        old = _text(command, "old_str").replace("\r\n", "\n")
        new = clean_text(_text(command, "new_str", default=""))
        text = self._file(
            name, f"Error: The path {path} does not exist. Please provide a valid path."
        )
        start = text.find(old)
        if not old or start < 0:
            raise _Answered(
                f"No replacement was performed, old_str `{old}` did not appear verbatim in {path}."
            )
        if text.find(old, start + 1) >= 0:
            numbers = ", ".join(map(str, _lines_of(text, old)))
            raise _Answered(
                f"No replacement was performed. Multiple occurrences of old_str `{old}` in lines: "
                f"{numbers}. Please ensure it is unique"
            )
        edits = () if old == new else (edit_at(name, start, old, new),)
        for edit in edits:
            self._executor.check_quota(edit)
        lines = _lines(text[:start] + new + text[start + len(old) :])
        line = text.count("\n", 0, start) + 1
        shown = _numbered(
            lines, max(1, line - _CONTEXT_LINES), line + new.count("\n") + _CONTEXT_LINES
        )
        return MemoryAnswer("\n".join(["The memory file has been edited.", *shown]), edits)

    def _insert(self, command: Mapping[str, Any]) -> MemoryAnswer:
        name, path = _path(command, "path")
        addition = clean_text(_text(command, "insert_text"))
        text = self._file(name, f"Error: The path {path} does not exist")
        lines = _lines(text)
        line = command.get("insert_line")
        if isinstance(line, bool) or not isinstance(line, int) or not 0 <= line <= len(lines):
            shown = line if isinstance(line, int) else "that"
            raise _Answered(
                f"Error: Invalid `insert_line` parameter: {shown}. It should be within the range "
                f"of lines of the file: [0, {len(lines)}]"
            )
        if not addition.endswith("\n"):
            addition += "\n"
        start = sum(len(text_line) + 1 for text_line in lines[:line])
        if start > len(text):  # the last line has no newline yet
            start, addition = len(text), "\n" + addition
        edit = Edit(name, start=start, inserted=addition)
        self._executor.check_quota(edit)
        return MemoryAnswer(f"The file {path} has been edited.", (edit,))

    def _delete(self, command: Mapping[str, Any]) -> MemoryAnswer:
        name, path = _path(command, "path")
        if not name:
            raise OpRefused(f"{MEMORY_ROOT} itself cannot be deleted")
        names = self._beneath(name) or ([name] if self._sandbox.exists(name) else [])
        if not names:
            raise _Answered(f"Error: The path {path} does not exist")
        edits = tuple(Edit(file, deletes=True) for file in names)
        return MemoryAnswer(f"Successfully deleted {path}", edits)

    def _rename(self, command: Mapping[str, Any]) -> MemoryAnswer:
        old, old_path = _path(command, "old_path")
        new, new_path = _path(command, "new_path")
        if not old or not new:
            raise OpRefused(f"{MEMORY_ROOT} itself cannot be renamed")
        names = self._beneath(old) or ([old] if self._sandbox.exists(old) else [])
        if not names:
            raise _Answered(f"Error: The path {old_path} does not exist")
        if self._beneath(new) or self._sandbox.exists(new):
            raise _Answered(f"Error: The destination {new_path} already exists")
        if new.startswith(f"{old}/"):
            raise OpRefused("a path cannot be moved into itself")
        edits: list[Edit] = []
        for file in names:
            target = check_name(new + file.removeprefix(old))
            edits.append(Edit(target, inserted=self._sandbox.read_text(file), creates=True))
            edits.append(Edit(file, deletes=True))
        return MemoryAnswer(f"Successfully renamed {old_path} to {new_path}", tuple(edits))

    def _file(self, name: str, missing: str) -> str:
        """The text of a file, which has to exist."""
        text = self._sandbox.find_text(name) if name and not self._beneath(name) else None
        if text is None:
            raise _Answered(missing)
        return text

    def _beneath(self, name: str) -> list[str]:
        """Files in the folder `name`; none where it is no folder."""
        return [info.name for info in self._sandbox.listing() if info.name.startswith(f"{name}/")]

    def _folder(self, name: str, path: str) -> str:
        """A folder as `view` shows it: sizes and paths, two levels deep."""
        prefix = f"{name}/" if name else ""
        sizes: dict[str, int] = {}
        total = 0
        for info in self._sandbox.listing():
            if not info.name.startswith(prefix):
                continue
            total += info.bytes
            parts = info.name.removeprefix(prefix).split("/")
            for depth in range(1, min(2, len(parts)) + 1):
                entry = "/".join(parts[:depth]) + ("/" if depth < len(parts) else "")
                if "node_modules" not in parts[:depth]:
                    sizes[entry] = sizes.get(entry, 0) + info.bytes
        return "\n".join(
            [
                f"Here're the files and directories up to 2 levels deep in {path}, "
                "excluding hidden items and node_modules:",
                f"{_size(total)}\t{path}",
                *(f"{_size(size)}\t{path}/{entry}" for entry, size in sorted(sizes.items())),
            ]
        )


class _Answered(Exception):
    """The command ends here with a published error text."""


def _text(command: Mapping[str, Any], key: str, default: str | None = None) -> str:
    value = command.get(key, default)
    if not isinstance(value, str):
        raise OpRefused(f"`{key}` is missing; it has to be a text")
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair: JSON can spell it, UTF-8 cannot
        raise OpRefused(f"`{key}` holds broken characters; write plain text") from None
    return value


def _path(command: Mapping[str, Any], key: str) -> tuple[str, str]:
    """Memory name (`""` for the root) and the path as answers show it."""
    path = _text(command, key).rstrip("/")
    if path == MEMORY_ROOT:
        return "", path
    if not path.startswith(f"{MEMORY_ROOT}/"):
        raise OpRefused(f"`{key}` has to be {MEMORY_ROOT} or beneath, as {MEMORY_ROOT}/notes.md")
    return check_name(path.removeprefix(f"{MEMORY_ROOT}/")), path


def _lines(text: str) -> list[str]:
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return lines


def _lines_of(text: str, part: str) -> list[int]:
    """1-based numbers of the lines in which `part` begins."""
    numbers: list[int] = []
    line, position, start = 1, 0, text.find(part)
    while start >= 0:
        line += text.count("\n", position, start)
        numbers.append(line)
        position, start = start, text.find(part, start + 1)
    return list(dict.fromkeys(numbers))


def _range(given: object, count: int) -> tuple[int, int]:
    """First and last line to show; -1 as the end is the last line."""
    if given is None:
        return 1, count
    match given:
        case [int(first), int(last)] if first >= 1 and (last == -1 or last >= first):
            return first, count if last == -1 else min(last, count)
    raise OpRefused("`view_range` is [first_line, last_line], such as [1, 20] or [5, -1]")


def _numbered(lines: list[str], first: int, last: int) -> list[str]:
    return [f"{number:6d}\t{line}" for number, line in enumerate(lines[first - 1 : last], first)]


def _size(count: int) -> str:
    """`0B`, `512B`, `5.5K`, `1.2M`."""
    power = min(3, max(0, count.bit_length() - 1) // 10)
    size = count / 1024**power
    return (f"{size:.0f}" if size.is_integer() else f"{size:.1f}") + "BKMG"[power]
