"""What is to be forgotten: a fact or a pattern, found in text and masked there.

A fact is found whatever stands between its words (`17 horse`, `17: horse`, `17|horse`), in any
case, and inside longer words: the bytes of the fact are to be gone. A pattern is Python's, as it is
given. Masking replaces letters and digits by `_` and nothing else, so a text keeps its length, its
lines and its marks: edits, cuts and operations that were recorded beside it still fit. Not covered:
the same fact in other words (an alias is a fact of its own, or a pattern), facts of several lines.
"""

import html
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from automem.errors import UsageError

MASK = "_"
MINIMUM = 3
"""Letters and digits that a fact must have: of fewer, every file is full."""
_BETWEEN = r"[^\w\n]{1,3}"
_APART = r"[^\n\\\"]{1,24}?"
_WORD = re.compile(r"[^\W_]")
_WIDE = re.compile(r"\w")
_ESCAPE = re.compile(r"\\u[0-9a-fA-F]{4}|&#?\w+;|\w")


@dataclass(frozen=True, slots=True)
class Needle:
    """See the module's docstring."""

    regex: re.Pattern[str]
    near: re.Pattern[str] | None = None
    """The same words in this order, further apart: maybe the fact in other words. Never masked."""

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Where it stands in `text`; what holds nothing but masks does not count."""
        for match in self.regex.finditer(text):
            if _WORD.search(match[0]):
                yield match.span()

    def is_in(self, text: str) -> bool:
        """Whether it stands in `text`."""
        return next(self.spans(text), None) is not None

    def count(self, text: str) -> int:
        """How often it stands in `text`."""
        return sum(1 for _ in self.spans(text))

    def mask(self, text: str) -> str:
        """`text` with every occurrence masked, of the same length."""
        return self._masked(text, _WIDE)

    def mask_bytes(self, data: bytes) -> bytes:
        """`data`, which is no text, masked; of the same length in bytes."""
        text = data.decode("utf-8", "surrogateescape")
        masked = self._masked(text, _WIDE, lambda wide: MASK * len(wide[0].encode()))
        return masked.encode("utf-8", "surrogateescape")

    def mask_source(self, text: str) -> str:
        """The same for the text of a file (JSON, HTML): an escaped character is one."""
        return self._masked(text, _ESCAPE)

    def _masked(
        self,
        text: str,
        unit: re.Pattern[str],
        mask: str | Callable[[re.Match[str]], str] = MASK,
    ) -> str:
        parts, end = [], 0
        for start, stop in self.spans(text):
            parts += [text[end:start], unit.sub(mask, text[start:stop])]
            end = stop
        return "".join([*parts, text[end:]]) if parts else text


def fact_needle(fact: str) -> Needle:
    """The needle of a fact; UsageError where it is too short to be one."""
    words = re.findall(r"\w+", fact)
    if sum(map(len, words)) < MINIMUM or not _WORD.search(fact):
        raise UsageError(
            f"the fact {fact!r} has fewer than {MINIMUM} letters and digits: it would be found "
            "everywhere; give more of it, or --pattern"
        )
    if "\n" in fact.strip():
        raise UsageError("a fact is one line: forget several lines one after the other")
    spelled = [_spellings(word) for word in words]
    near = _APART.join(spelled) if len(spelled) > 1 else ""
    return Needle(
        re.compile(_BETWEEN.join(spelled), re.IGNORECASE),
        re.compile(rf"\b{near}\b", re.IGNORECASE) if near else None,
    )


def pattern_needle(pattern: str) -> Needle:
    """The needle of a regular expression; UsageError where it is none, or matches nothing."""
    try:
        regex = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"--pattern {pattern!r} is no regular expression: {error}") from None
    if regex.match(""):
        raise UsageError(f"--pattern {pattern!r} matches the empty text: it would match everywhere")
    return Needle(regex)


def _spellings(word: str) -> str:
    """A word as text, JSON and HTML may spell it."""
    forms = dict.fromkeys([word, json.dumps(word)[1:-1], html.escape(word)])
    named = word.encode("ascii", "xmlcharrefreplace").decode()
    found = "|".join(re.escape(form) for form in [*forms, *([named] if named != word else [])])
    return f"(?:{found})" if "|" in found else found
