"""Lines of a file and how many of them an operation may show.

Works on UTF-8 bytes and decodes only what is shown: a file is searched at memory speed, and line
numbers are counted, not built. A line ends at a newline and at nothing else. Knows no files.
"""

import ctypes
import operator
from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from typing import cast

import msgspec
import numpy

NumberedLine = tuple[int, str]
"""1-based number and text, without its newline."""


_MANY = 150
"""Lines from which splitting the rest of the file costs less than finding them one by one."""


_LARGE = 4_000
"""Bytes from which counting by vector instructions is the faster way."""

_NEWLINE = ord("\n")

_FIRST_BYTES = -64
"""Continuing bytes of UTF-8 are 0x80 to 0xBF: less than this as signed numbers."""


def _load_memmem() -> Callable[[int, int, bytes, int], int | None] | None:
    try:
        function = ctypes.CDLL(None).memmem
    except (OSError, AttributeError, TypeError):
        return None
    function.restype = ctypes.c_void_p
    function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t)
    return cast(Callable[[int, int, bytes, int], int | None], function)


_memmem = _load_memmem()


class ResultLimits(msgspec.Struct, frozen=True):
    """Caps of one operation's result."""

    chars: int = 8_000
    lines: int = 400


def count_lines(data: bytes) -> int:
    """Lines of a file; the last one counts with or without its newline."""
    return count_newlines(data, 0, len(data)) + (not data.endswith(b"\n") if data else 0)


def count_newlines(data: bytes, start: int, end: int) -> int:
    """Newlines in `data[start:end]`; `bytes.count` takes four times as long on a large part."""
    if end - start < _LARGE:
        return data.count(b"\n", start, end)
    part = numpy.frombuffer(data, numpy.uint8, end - start, start)
    return int(numpy.count_nonzero(part == _NEWLINE))


def count_characters(data: bytes, end: int) -> int:
    """Characters in `data[:end]`, which is UTF-8: every byte but the continuing ones begins one."""
    if data.isascii():
        return end
    part = numpy.frombuffer(data, numpy.int8, end)
    return int(numpy.count_nonzero(part >= _FIRST_BYTES))


def lines_starting(data: bytes, start: bytes) -> list[tuple[int, int]]:
    """Where the lines that begin with `start` begin and end (before their newline), in bytes."""
    spans: list[tuple[int, int]] = []
    position = 0 if data.startswith(start) else _find(data, b"\n" + start, 0) + 1
    while position or (not spans and data.startswith(start)):
        end = data.find(b"\n", position)
        end = len(data) if end < 0 else end
        spans.append((position, end))
        position = _find(data, b"\n" + start, end) + 1
    return spans


def _find(data: bytes, needle: bytes, start: int) -> int:
    """`data.find(needle, start)`, by the C library's search where there is one: on lines that begin
    alike, as keyed ones do, it is three times as fast."""
    if _memmem is None or len(data) - start < _LARGE:
        return data.find(needle, start)
    address = ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0
    found = _memmem(address + start, len(data) - start, needle, len(needle))
    return -1 if found is None else int(found) - address


def first_lines(data: bytes, limit: int) -> Iterator[NumberedLine]:
    """The first `limit` lines."""
    pieces = data.split(b"\n", limit)
    # What follows the last newline taken is the rest, or nothing.
    if len(pieces) > limit or not pieces[-1]:
        pieces.pop()
    return ((number, line.decode()) for number, line in enumerate(pieces, 1))


def last_lines(data: bytes, limit: int, total: int) -> list[NumberedLine]:
    """The last `limit` of `total` lines, in order."""
    if limit <= 0 or not data:
        return []
    pieces = data.removesuffix(b"\n").rsplit(b"\n", limit)
    if len(pieces) > limit:
        pieces.pop(0)
    first = total - len(pieces) + 1
    return [(number, line.decode()) for number, line in enumerate(pieces, first)]


def find_lines(
    data: bytes,
    keyword: str,
    limit: int,
    chars: int = 0,
    lower: Callable[[bytes], bytes] = bytes.lower,
) -> tuple[list[NumberedLine], int]:
    """The first lines that hold `keyword` in any case, and how many hold it in all.

    At most `limit` lines, and none more once they have `chars` characters. `lower` may remember.

    An ASCII keyword matches letters A to Z in either case; another one is compared line by line
    under Unicode case folding, which is slower."""
    if not keyword.isascii():
        return _find_folded(data, keyword, limit)
    needle = keyword.lower().encode()
    lowered = data if keyword.lower() == keyword.upper() else lower(data)
    found: list[NumberedLine] = []
    position = counted = newlines = 0
    while len(found) < limit and chars > 0:
        hit = lowered.find(needle, position)
        if hit < 0:
            return found, len(found)
        newlines += count_newlines(data, counted, hit)
        start = data.rfind(b"\n", counted, hit) + 1 or counted
        end = data.find(b"\n", hit)
        end = len(data) if end < 0 else end
        found.append((newlines + 1, data[start:end].decode()))
        chars -= end - start
        position = counted = end
    return found, _count_holding(lowered, needle, position, len(found))


def _count_holding(data: bytes, needle: bytes, position: int, total: int) -> int:
    """`total` and how many lines hold `needle` at or after `position`."""
    while total < _MANY:
        hit = data.find(needle, position)
        if hit < 0:
            return total
        total += 1
        end = data.find(b"\n", hit)
        position = len(data) if end < 0 else end
    # Latin-1 maps bytes to characters one to one, and `in` is much faster on text than on bytes.
    rest = data[position:].decode("latin-1").split("\n")
    return total + sum(map(operator.contains, rest, repeat(needle.decode("latin-1"))))


def _find_folded(data: bytes, keyword: str, limit: int) -> tuple[list[NumberedLine], int]:
    needle = keyword.casefold()
    lines = data.decode().removesuffix("\n").split("\n")
    numbers = [n for n, line in enumerate(lines, 1) if needle in line.casefold()]
    return [(n, lines[n - 1]) for n in numbers[:limit]], len(numbers)


class Page:
    """What one result shows: lines in order, until a cap is reached; the rest is counted."""

    def __init__(self, limits: ResultLimits) -> None:
        self._limits = limits
        self._texts: list[str] = []
        self._room = limits.chars
        self.lines: dict[str, list[int]] = {}
        """Line numbers shown, per file."""
        self.cut = 0
        """Lines that found no room, as the caller counts them; nothing is shown after."""

    @property
    def is_empty(self) -> bool:
        """Nothing shown and nothing cut."""
        return not self._texts and not self.cut

    @property
    def chars_left(self) -> int:
        """How many more characters could be shown."""
        return 0 if self.cut else max(0, self._room)

    @property
    def lines_left(self) -> int:
        """How many more lines could be shown."""
        return 0 if self.cut else self._limits.lines - len(self._texts)

    def show(self, lines: Iterable[NumberedLine], file: str = "", prefix: str = "") -> int:
        """Show lines of one file while there is room, and say how many were shown.

        A first line that is too long by itself shows its beginning."""
        texts, room, limit = self._texts, self._room, self._limits.lines
        numbers: list[int] = []
        for number, line in () if self.cut else lines:
            text = prefix + line
            if len(texts) >= limit or (texts and len(text) >= room):
                break
            if len(text) > room:
                text = text[: max(0, room - 4)] + " ..."
            room -= len(text) + 1
            texts.append(text)
            numbers.append(number)
        self._room = room
        if file and numbers:
            self.lines.setdefault(file, []).extend(numbers)
        return len(numbers)

    def turn_around(self) -> None:
        """Put lines that were shown last first into the file's order."""
        self._texts.reverse()
        for numbers in self.lines.values():
            numbers.reverse()

    def text(self) -> str:
        """The lines, and a note of what was cut."""
        note = [f"... {self.cut} more lines not shown"] if self.cut else []
        return "\n".join([*self._texts, *note])
