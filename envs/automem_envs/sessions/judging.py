"""How answers of recorded sessions are judged: by words, without a model.

Case, articles and punctuation around words do not count, and up to ten other words may stand beside
the right ones. What makes another word of it does count: the sign and the decimals of a number
(`-5`, `3.5`), and signs inside or behind a name (`C++`, `x^1`). `1,000` is `1000`, `5.00` is `5`.
An answer of nothing but punctuation or articles (`++`, `The`) has to be said as it stands.

`unknown` is right alone or not at all, and next to other words it spoils them: who hedges is wrong.
Not covered: other words for the same thing, which are wrong, and `not Rome`, which is right.
"""

import re
from collections.abc import Iterator

from automem_envs.sessions.records import UNKNOWN

MORE_WORDS = 10
_ARTICLES = frozenset({"a", "an", "the"})
_DASHES = str.maketrans({"\N{MINUS SIGN}": "-", "\N{EN DASH}": "-"})
_CURRENCY = re.compile(r"[$€£¥]")
_THOUSANDS = re.compile(r"(?<![\d.])\d{1,3}(?:,\d{3})+(?![\d,])")
_WORD = re.compile(
    r"""
    (?: (?<!\w) -? \.? (?=\d) )?                        # a sign, and the point of .5
    [^\W_]+
    (?: (?: [.,:](?<=\d.)(?=\d)                         # 3.5 and 10:30, but not the end of a clause
          | [-/](?=\d)                                  # x-1 and 1/2; elsewhere they join two words
          | [+^=<>*_]-?                                 # x^1
        ) [^\W_]+
    )*
    [+#]*                                               # C++
    """,
    re.VERBOSE,
)
_DECIMAL = re.compile(r"-?\d*\.\d+")
_QUOTES, _ENDS = "\"'`", ".,;:!?"


def has_words(said: str, answers: tuple[str, ...]) -> bool:
    """Whether what was said is one of the answers; see the module's docstring."""
    return any(_is_right(said, answer) for answer in answers)


def _is_right(said: str, answer: str) -> bool:
    if _bare(said) == _bare(answer):
        return True
    words, right = list(_words(said)), list(_words(answer))
    if right == [UNKNOWN] or UNKNOWN in words:
        return words == right
    starts = range(len(words) - len(right) + 1)
    is_in = any(words[start : start + len(right)] == right for start in starts)
    return bool(right) and is_in and len(words) <= len(right) + MORE_WORDS


def _bare(text: str) -> str:
    """The text itself, but for case, blanks and what commonly ends or quotes it."""
    text = " ".join(text.casefold().split())
    return text.strip(_QUOTES).rstrip(_ENDS + _QUOTES) or text


def _words(text: str) -> Iterator[str]:
    text = _CURRENCY.sub("", text.casefold().translate(_DASHES))
    text = _THOUSANDS.sub(lambda found: found[0].replace(",", ""), text)
    for word in _WORD.findall(text):
        if _DECIMAL.fullmatch(word):
            word = word.rstrip("0").rstrip(".")
        if word not in _ARTICLES:
            yield word


def has_files(said: str, answers: tuple[str, ...]) -> bool:
    """Whether every path is named, and at most as many others."""
    named = {word.strip(",;`'\"") for word in said.split()}
    return set(answers) <= named and len(named) <= 2 * len(answers)
