"""Long answers, a page at a time.

An answer is a stream of numbered items; a cursor says where the next page begins, `item` or
`item+characters` inside an item that is longer than a page. Promise: pages put together are the
whole answer, each item once; no page holds more than asked for, and nothing is kept between calls.
"""

import re
from collections.abc import Callable, Iterable
from typing import TypeAlias

from automem.errors import UsageError

PAGE_CHARS = 12_000
"""About 3,000 tokens."""

Items: TypeAlias = Callable[[int], Iterable[tuple[int, str]]]
"""From an item's number on: (number, text), in rising order."""

_CURSOR = re.compile(r"(\d{1,12})(?:\+(\d{1,12}))?")


def page(items: Items, cursor: str = "", first: int = 0, chars: int = PAGE_CHARS) -> str:
    """One page from `cursor` on, or from item `first`; UsageError where that is no cursor."""
    start, skip = _read(cursor) if cursor else (first, 0)
    parts: list[str] = []
    room = chars
    for number, text in items(start):
        rest = text[skip:] if number == start else text
        done = skip if number == start else 0
        if len(rest) > room:
            if parts and (room <= 0 or len(text) <= chars):  # it may fit on a page of its own
                return _closed(parts, f"{number}")
            parts.append(rest[:room])
            return _closed(parts, f"{number}+{done + room}")
        parts.append(rest)
        room -= len(rest) + 1
    return "\n".join(parts) if parts else "(nothing)"


def _closed(parts: list[str], cursor: str) -> str:
    return "\n".join([*parts, f'(more: ask again with cursor "{cursor}")'])


def _read(cursor: str) -> tuple[int, int]:
    found = _CURSOR.fullmatch(cursor.strip())
    if not found:
        raise UsageError(f"{cursor!r} is no cursor: give back the one that ended the last page")
    return int(found[1]), int(found[2] or 0)
