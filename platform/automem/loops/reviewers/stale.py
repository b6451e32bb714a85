"""Pruning rules read off the traces: observations after which a line of memory is never used again.

A line of an observation is taken apart into fixed words and words that vary (they hold a digit, or
are what lines of memory tell apart by). Where the line of memory that holds one of the varying
words has, in all episodes, hardly ever been used later, while lines are otherwise used, that form
of observation says that the line is of no more use:

    33 shows mouse match      ->      seen: "{a} shows {b} match"   drop: "{b}"

Promise: a rule rests on at least `LEAST` lines, in at least three episodes, and on a rate of later
use below `RATIO` of the usual one with 95 % confidence. Not covered: forms of several lines, and
whether the lines would be used if the agent could see them.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from automem.trace.query import query

LEAST = 30
RATIO = 0.5
_EPISODES = 3
_RARE = 0.25
"""A word in at least this share of a file's lines is part of their form, not what they tell."""
_MOST_WORDS = 12
_MOST_STEPS = 20_000
_NAMES = "abcdefgh"
_WORD = re.compile(r"-?\w+")
_RULE_OF_THREE = 3.0
"""The 95 % bound of a rate of which nothing was seen in n tries is 3 / n."""


class StaleRule(msgspec.Struct, frozen=True):
    """A rule as `PruneRule` spells it, and what it rests on."""

    seen: str
    drop: str
    lines: int
    """Lines of memory that it would have dropped, over all episodes."""
    used_later: int
    """Of these, lines that an action used afterwards."""
    retired: float
    """Share of all lines written to the file that it would have dropped."""


class _Line(msgspec.Struct):
    """A line of memory: its words, when it was written, when it was last used."""

    id: int
    words: frozenset[str]
    written: int
    last_used: int


def stale_rules(runs: Sequence[Path], file: str) -> list[StaleRule]:
    """Rules for a file, those that would drop most first."""
    lines = _lines(runs, file)
    total = sum(map(len, lines.values()))
    if total < LEAST:
        return []
    told = _telling_words(lines)
    dropped: dict[tuple[str, str], dict[int, bool]] = defaultdict(dict)
    episodes: dict[tuple[str, str], set[tuple[str, str]]] = defaultdict(set)
    for run, episode, step, observation in query(runs, _STEPS).rows:
        there = lines.get((run, episode), ())
        for text in set(observation.split("\n")):
            for seen, name, word in _forms(text, told):
                for line in there:
                    if line.written <= step and word in line.words:
                        dropped[seen, name].setdefault(line.id, line.last_used > step)
                        episodes[seen, name].add((run, episode))
    return _judged(dropped, episodes, total)


def _judged(
    dropped: dict[tuple[str, str], dict[int, bool]],
    episodes: dict[tuple[str, str], set[tuple[str, str]]],
    total: int,
) -> list[StaleRule]:
    usual = sum(sum(lines.values()) for lines in dropped.values()) / max(
        1, sum(len(lines) for lines in dropped.values())
    )
    rules = []
    for (seen, name), lines in dropped.items():
        later = sum(lines.values())
        bound = (later + _RULE_OF_THREE) / len(lines)
        if len(lines) >= LEAST and len(episodes[seen, name]) >= _EPISODES and bound < RATIO * usual:
            rules.append(StaleRule(seen, f"{{{name}}}", len(lines), later, len(lines) / total))
    return sorted(rules, key=lambda rule: (-rule.lines, rule.seen, rule.drop))


def _lines(runs: Sequence[Path], file: str) -> dict[tuple[str, str], list[_Line]]:
    """Per episode, every line that the agent wrote to the file."""
    found: dict[tuple[str, str], list[_Line]] = defaultdict(list)
    rows = query(runs, _LINES.format(file=file.replace("'", "''"))).rows
    for number, (run, episode, step, text, last_used) in enumerate(rows):
        words = frozenset(_words(text or ""))
        last = -1 if last_used is None else last_used
        found[run, episode].append(_Line(number, words, step, last))
    return found


def _telling_words(lines: dict[tuple[str, str], list[_Line]]) -> frozenset[str]:
    """Words by which lines differ."""
    counts = Counter(word for group in lines.values() for line in group for word in line.words)
    total = sum(map(len, lines.values()))
    return frozenset(word for word, count in counts.items() if count < _RARE * total)


def _forms(text: str, told: frozenset[str]) -> Iterator[tuple[str, str, str]]:
    """(form, name, word) for each varying word of a line of an observation."""
    words = list(_WORD.finditer(text))
    if not 2 <= len(words) <= _MOST_WORDS or "{" in text or "}" in text:
        return
    varying = [w for w in words if any(c.isdigit() for c in w[0]) or w[0].lower() in told]
    if not varying or len(varying) > len(_NAMES) or len(varying) == len(words):
        return
    form, end = "", 0
    for name, word in zip(_NAMES, varying, strict=False):
        form += text[end : word.start()] + f"{{{name}}}"
        end = word.end()
    form = (form + text[end:]).strip()
    for name, word in zip(_NAMES, varying, strict=False):
        yield form, name, word[0].lower()


def _words(text: str) -> Iterator[str]:
    for found in _WORD.finditer(text):
        yield found[0].lower()


_STEPS = f"""
select run, episode, step, observation from steps where step > 0 and changed
order by run, episode, step limit {_MOST_STEPS}
"""
_LINES = """
with used as (
  select run, episode, step, writers[place + 1] as w from (
    select run, episode, step, unnest(used) as place, writers from retrievals
    where routine = 'plan' and len(used) > 0)),
last as (
  select run, episode, w.step as step, w.turn as turn, w."index" as "index", w.line as line,
         max(step) as last_used
  from used where w.file = '{file}' group by all)
select v.run, v.episode, v.step, v.text, l.last_used
from writes v left join last l
  on l.run = v.run and l.episode = v.episode and l.step = v.step and l.turn = v.turn
     and l."index" = v."index" and l.line = v.line
where v.file = '{file}' and v.turn >= 0
order by v.run, v.episode, v.step, v.turn, v."index", v.line
"""
