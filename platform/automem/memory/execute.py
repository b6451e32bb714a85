"""Carrying operations out: each is planned against the folder as it is, then applied elsewhere.

Promise: `plan` reads only and never raises on a bad operation; whatever cannot be done is an error
result that says what to do and changes nothing. The caller journals the edit, then applies it.
Broken disks are StoreError: that is nobody's operation. Operations per turn are the session's.

Text written has newlines and tabs as its only control characters: CRLF becomes a newline, the rest
(NUL, a lone CR, line separators that only some programs know) is refused, so that a line is the
same for everyone who reads the file.
"""

import re
from collections.abc import Iterable, Mapping
from itertools import pairwise

from automem.memory.edits import apply_edit_to_bytes, edit_at, edit_between
from automem.memory.lines import (
    Page,
    ResultLimits,
    count_characters,
    count_lines,
    find_lines,
    first_lines,
    last_lines,
    lines_starting,
)
from automem.memory.names import OpRefused
from automem.memory.ops import (
    AnyOp,
    Append,
    Count,
    Create,
    Delete,
    Edit,
    List,
    OpResult,
    OpStatus,
    Read,
    Replace,
    Search,
    Tail,
    Upsert,
    Write,
)
from automem.memory.sandbox import Sandbox
from automem.suggest import nearest

__all__ = ["DEFAULT_SEPARATOR", "EVERY_FILE", "Executor", "ResultLimits"]

EVERY_FILE = "*"
"""SEARCH and COUNT take it for "all files"."""

DEFAULT_SEPARATOR = ": "
"""Between key and text of an UPSERT in a file whose schema names none."""

_FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_FORBIDDEN_ASCII = bytes(c for c in range(128) if _FORBIDDEN.match(chr(c)))
_NAMES_LISTED = 5
_WORTH_REMEMBERING = 16_384
"""Bytes from which lower case is kept for the next search."""

Planned = tuple[OpResult, Edit | None]


class Executor:
    """Plans operations on one sandbox. `separators` are per file, as its schema says."""

    def __init__(
        self,
        sandbox: Sandbox,
        limits: ResultLimits | None = None,
        separators: Mapping[str, str] | None = None,
    ) -> None:
        self._sandbox = sandbox
        self._limits = limits or ResultLimits()
        self._separators = dict(separators or {})
        self._lowered = (b"", b"")

    def plan(self, op: AnyOp) -> Planned:
        """The operation's result, and the edit that it asks for where it changes anything."""
        try:
            match op:
                case Append() | Write() | Create() | Upsert() | Replace() | Delete():
                    return self._plan_change(op)
                case _:
                    return self._look(op), None
        except OpRefused as refusal:
            return OpResult(OpStatus.ERROR, f"error: {refusal}"), None

    # Reading

    def _look(self, op: Read | Search | Tail | Count | List) -> OpResult:
        match op:
            case Read():
                return self._read(op)
            case Search():
                return self._search(op)
            case Tail():
                return self._tail(op)
            case Count():
                return self._count(op)
            case List():
                return self._list()

    def _read(self, op: Read) -> OpResult:
        data = self._present(op.file)
        page = Page(self._limits)
        shown = page.show(first_lines(data, page.lines_left), op.file)
        page.cut = count_lines(data) - shown
        return _shown(page, "empty")

    def _search(self, op: Search) -> OpResult:
        keyword = self._keyword(op)
        page = Page(self._limits)
        unreadable: list[str] = []
        for file, data in self._contents(op.file):
            if data is None:
                unreadable.append(file)
                continue
            found, total = find_lines(data, keyword, page.lines_left, page.chars_left, self._lower)
            prefix = f"{file}: " if op.file == EVERY_FILE else ""
            page.cut += total - page.show(found, file, prefix)
        result = _shown(page, "no match")
        if unreadable:
            text = f"{result.text}\n... could not search {', '.join(unreadable)}"
            return OpResult(result.status, text, result.lines, result.cut)
        return result

    def _tail(self, op: Tail) -> OpResult:
        if op.lines < 0:
            raise OpRefused("TAIL needs a number of lines, 0 or more")
        data = self._present(op.file)
        page = Page(self._limits)
        total = count_lines(data)
        lines = last_lines(data, min(op.lines, page.lines_left), total)
        page.cut = min(op.lines, total) - page.show(reversed(lines), op.file)
        page.turn_around()
        return _shown(page, "empty")

    def _count(self, op: Count) -> OpResult:
        keyword = self._keyword(op)
        total = 0
        for _, data in self._contents(op.file):
            if data is not None:
                total += find_lines(data, keyword, 0, lower=self._lower)[1]
        return OpResult(OpStatus.OK if total else OpStatus.EMPTY, str(total))

    def _list(self) -> OpResult:
        page = Page(self._limits)
        files = self._sandbox.listing()
        page.cut = len(files) - page.show((0, f"{info.name} {info.lines}") for info in files)
        return _shown(page, "empty")

    def _lower(self, data: bytes) -> bytes:
        """`data` in lower case; the last large content is remembered."""
        if data is not self._lowered[0]:
            if len(data) < _WORTH_REMEMBERING:
                return data.lower()
            self._lowered = (data, data.lower())
        return self._lowered[1]

    def _keyword(self, op: Search | Count) -> str:
        if not op.keyword:
            raise OpRefused(f"{op.name} needs a keyword; READ shows a whole file")
        if "\n" in op.keyword:
            raise OpRefused(f"{op.name} looks at single lines; give one line of the keyword")
        return op.keyword

    def _contents(self, file: str) -> Iterable[tuple[str, bytes | None]]:
        """Name and content; None for one of all files that cannot be read."""
        if file == EVERY_FILE:
            return self._sandbox.read_every()
        return [(file, self._present(file))]

    # Writing

    def _plan_change(self, op: Append | Write | Create | Upsert | Replace | Delete) -> Planned:
        match op:
            case Append():
                edit: Edit | None = self._append(op)
            case Write():
                edit = self._write(op)
            case Create():
                edit = self._create(op)
            case Upsert():
                edit = self._upsert(op)
            case Replace():
                edit = self._replace(op)
            case Delete():
                edit = self._delete(op)
        if edit is None:
            return OpResult(OpStatus.UNCHANGED, "unchanged"), None
        _check_characters(edit.inserted)
        self.check_quota(edit)
        return OpResult(OpStatus.OK, "ok"), edit

    def _append(self, op: Append) -> Edit:
        text = _plain_newlines(op.text)
        if not text.strip():
            raise OpRefused("APPEND needs a text; give the line to add")
        return _added(op.file, self._sandbox.read_bytes(op.file), text)

    def _write(self, op: Write) -> Edit | None:
        text = _plain_newlines(op.text)
        if text and not text.endswith("\n"):
            text += "\n"
        return edit_between(op.file, self._sandbox.find_text(op.file), text)

    def _create(self, op: Create) -> Edit:
        if self._sandbox.exists(op.file):
            raise OpRefused(f"{op.file} exists already; APPEND adds to it, WRITE replaces it")
        return Edit(op.file, creates=True)

    def _upsert(self, op: Upsert) -> Edit | None:
        separator = self._separators.get(op.file, DEFAULT_SEPARATOR)
        key, value = _plain_newlines(op.key), _plain_newlines(op.text)
        if not key.strip():
            raise OpRefused("UPSERT needs a key; the line written starts with it")
        if "\n" in key or "\n" in value.removesuffix("\n"):
            raise OpRefused("UPSERT sets one line; give key and text without line breaks")
        if separator in key:
            raise OpRefused(
                f"an UPSERT key may not hold {separator!r}, which ends the key in {op.file}"
            )
        start = key + separator
        line = start + value.removesuffix("\n")
        data = self._sandbox.read_bytes(op.file)
        spans = lines_starting(data or b"", _encoded(start))
        if data is None or not spans:
            return _added(op.file, data, line)
        # Lines between duplicates stay; the first duplicate is set, the others go.
        between = [
            data[end + 1 : begin].decode().removesuffix("\n")
            for (_, end), (begin, _) in pairwise(spans)
            if begin > end + 1
        ]
        old, new = data[spans[0][0] : spans[-1][1]].decode(), "\n".join([line, *between])
        if old == new:
            return None
        return edit_at(op.file, count_characters(data, spans[0][0]), old, new)

    def _replace(self, op: Replace) -> Edit | None:
        old, new = _plain_newlines(op.old), _plain_newlines(op.new)
        if not old:
            raise OpRefused("REPLACE needs the text to replace; READ shows what is there")
        data, sought = self._present(op.file), _encoded(old)
        start = data.find(sought)
        if start < 0:
            raise OpRefused(f"that text is not in {op.file}; SEARCH or READ shows what is there")
        if data.find(sought, start + 1) >= 0:
            raise OpRefused(
                f"that text is in {op.file} more than once; give more of the line around it"
            )
        return None if old == new else edit_at(op.file, count_characters(data, start), old, new)

    def _delete(self, op: Delete) -> Edit:
        if not self._sandbox.exists(op.file):
            raise self._missing(op.file)
        return Edit(op.file, deletes=True)

    def check_quota(self, edit: Edit) -> None:
        """OpRefused where the folder may not hold what `edit` would make of it."""
        if edit.deletes:
            return
        quota, sizes = self._sandbox.quota, self._sandbox.sizes()
        if edit.creates and len(sizes) >= quota.files:
            raise OpRefused(f"memory is full: {quota.files} files are allowed; DELETE one first")
        before, others = sizes.pop(edit.file, 0), sum(sizes.values())
        # A character is at least a byte; only where this bound is too much is the file read again.
        after = before + len(edit.inserted.encode()) - edit.removed
        if after > quota.file_bytes or others + after > quota.total_bytes:
            after = self._size_after(edit)
        if after > max(before, quota.file_bytes):
            raise OpRefused(
                f"{edit.file} would have {after} bytes and {quota.file_bytes} are allowed; "
                "WRITE a shorter version or use another file"
            )
        if after > before and others + after > quota.total_bytes:
            raise OpRefused(
                f"memory is full: {quota.total_bytes} bytes are allowed; DELETE or shorten a file"
            )

    def _size_after(self, edit: Edit) -> int:
        data = apply_edit_to_bytes(self._sandbox.read_bytes(edit.file), edit)
        return len(data or b"")

    # Files

    def _present(self, file: str) -> bytes:
        """Content of a file that has to exist."""
        data = self._sandbox.read_bytes(file)
        if data is None:
            raise self._missing(file)
        return data

    def _missing(self, file: str) -> OpRefused:
        names = [info.name for info in self._sandbox.listing()]
        if not names:
            return OpRefused(f"there is no {file}; there are no files yet")
        # Compared without endings, which are often all the same.
        stems = {_stem(name): name for name in reversed(names)}
        near = [stems[stem] for stem in nearest(_stem(file), stems, limit=2)]
        if near:
            return OpRefused(f"there is no {file}; did you mean {' or '.join(near)}?")
        more = ", ..." if len(names) > _NAMES_LISTED else ""
        return OpRefused(f"there is no {file}; files: {', '.join(names[:_NAMES_LISTED])}{more}")


def clean_text(text: str) -> str:
    """`text` with CRLF as newlines; OpRefused where a control character is left."""
    text = _plain_newlines(text)
    _check_characters(text)
    return text


def _plain_newlines(text: str) -> str:
    return text.replace("\r\n", "\n") if "\r" in text else text


def _encoded(sought: str) -> bytes:
    """UTF-8 to look for; half a surrogate pair is in no file."""
    return sought.encode(errors="surrogatepass")


def _check_characters(text: str) -> None:
    if text.isascii():  # five times as fast as the pattern
        data = text.encode()
        is_clean = len(data.translate(None, _FORBIDDEN_ASCII)) == len(data)
    else:
        is_clean = _FORBIDDEN.search(text) is None
    if not is_clean:
        raise OpRefused("the text holds a control character; write plain text")


def _added(file: str, data: bytes | None, addition: str) -> Edit:
    """The edit that puts `addition` on lines of its own at the end."""
    if not addition.endswith("\n"):
        addition += "\n"
    if data is None:
        return Edit(file, inserted=addition, creates=True)
    if data and not data.endswith(b"\n"):
        addition = "\n" + addition
    return Edit(file, start=count_characters(data, len(data)), inserted=addition)


def _stem(name: str) -> str:
    return name.rpartition(".")[0] or name


def _shown(page: Page, nothing: str) -> OpResult:
    if page.is_empty:
        return OpResult(OpStatus.EMPTY, nothing)
    return OpResult(OpStatus.OK, page.text(), page.lines, page.cut)
