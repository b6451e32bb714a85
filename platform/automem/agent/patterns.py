"""Patterns of plain text with `{name}` for any one word and `{name*}` for one to eight words.

What scaffolds may say instead of regular expressions. Promise: matching takes time in proportion to
the text, whoever wrote the pattern (a stranger's regular expression can run for years). Letters
match in any case, white space matches any white space, and a pattern begins and ends with whole
words. A word is letters, digits and `_`, with a minus before it or not.
"""

import re
from collections.abc import Iterator

MAX_CHARS = 200
"""Of a pattern: they are lines, not programs."""

_BRACES = re.compile(r"\{([^{}]*)\}")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_WORD = r"-?\w{1,64}+"
_WORDS = _WORD + r"(?:[ \t]{1,4}+" + _WORD + "){0,7}?"


class PatternError(ValueError):
    """The pattern cannot be used; the message says why."""


class Pattern:
    """One compiled pattern; `names` in the order in which they stand."""

    def __init__(self, text: str) -> None:
        if not text.strip() or len(text) > MAX_CHARS or "\n" in text:
            raise PatternError(f"expected one line of 1 to {MAX_CHARS} characters")
        parts = _BRACES.split(text.strip())
        self.names = tuple(part.removesuffix("*") for part in parts[1::2])
        check_names(_BRACES.sub(lambda found: found[0].replace("*", ""), text), self.names)
        if len(set(self.names)) < len(self.names):
            raise PatternError("a name stands for one thing; the same {name} is there twice")
        if sum(part.endswith("*") for part in parts[1::2]) > 1:
            raise PatternError("only one {name*} to a pattern")
        if any(not part or _is_wordlike(part[0]) for part in parts[2:-1:2]) or (
            len(parts) > 1 and parts[-1] and _is_wordlike(parts[-1][0])
        ):
            raise PatternError("a {name} needs a space or a sign between it and what follows")
        pieces = [
            f"(?P<{part.removesuffix('*')}>{_WORDS if part.endswith('*') else _WORD})"
            if index % 2
            else r"\s++".join(re.escape(words) for words in re.split(r"\s+", part))
            for index, part in enumerate(parts)
        ]
        self._regex = re.compile(rf"(?<!\w){''.join(pieces)}(?!\w)", re.IGNORECASE)

    def find(self, line: str) -> Iterator[dict[str, str]]:
        """What the names stand for, at each place in `line` where the pattern fits."""
        for match in self._regex.finditer(line):
            yield match.groupdict()

    def fits(self, text: str) -> bool:
        """Whether the whole text is of this form."""
        return self._regex.fullmatch(text) is not None


def check_names(text: str, known: tuple[str, ...]) -> None:
    """PatternError where braces are unbalanced or a `{name}` is none of `known`."""
    for name in _BRACES.findall(text):
        if not _NAME.fullmatch(name):
            raise PatternError(f"{{{name}}}: a name has small letters, digits and _")
        if name not in known:
            there = ", ".join(f"{{{each}}}" for each in known) or "none"
            raise PatternError(f"{{{name}}} is not in the pattern; there are: {there}")
    rest = _BRACES.sub("", text)
    if "{" in rest or "}" in rest:
        raise PatternError("a brace without its partner")


def fill(text: str, values: dict[str, str]) -> str:
    """`text` with every `{name}` replaced."""
    return _BRACES.sub(lambda match: values[match[1]], text)


def holds_words(line: str, words: str) -> bool:
    """Whether `words` stand in `line` as whole words, in any case."""
    text, target = line.casefold(), words.strip().casefold()
    start = text.find(target) if target else -1
    while start >= 0:
        end = start + len(target)
        is_joined = (start and _is_wordlike(text[start - 1]) and _is_wordlike(target[0])) or (
            end < len(text) and _is_wordlike(text[end]) and _is_wordlike(target[-1])
        )
        if not is_joined:
            return True
        start = text.find(target, start + 1)
    return False


def _is_wordlike(character: str) -> bool:
    return character.isalnum() or character == "_"
