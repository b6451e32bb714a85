"""What a gate sees of a step: a few dozen numbers, cheap, and of any world.

They are a pure function of the observation, the last `RECENT_STEPS` steps and the size of memory,
so a resumed episode sees the same. None of them looks into the model, and none knows a world's
words: what an observation says comes in as counts of hashed words. Not covered: anything older than
the recent steps.
"""

import math
import re
import zlib
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

from automem.agent.gating.decision import Depth
from automem.agent.recorder import RECENT_STEPS, LastStep
from automem.trace.events import Outcome

BUCKETS = 24
"""Of the hashed words."""
NAMES = (
    "elapsed",  # share of the episode's steps that are played
    "changed",  # the observation differs from the last one
    "lines_changed",  # share of its lines that the last one did not have
    "novelty_first",  # of the first changed line: share of its word pairs not seen recently
    "novelty",  # the same, mean over the changed lines
    "since_log",  # steps since the last LOG, of RECENT_STEPS
    "since_consult",
    "searched",  # the last step looked something up ...
    "found_nothing",  # ... and nothing was there
    "found",  # how many lines the last look-ups gave, as log(1 + n) / 3
    "memory",  # size of memory, as log(1 + bytes) / 10
    "same_observation",  # stuck: steps in a row with this observation, of 8
    "same_action",  # steps in a row with the last action, of 8
    "oscillating",  # the last four actions are a, b, a, b
    "gained",  # progression rose with the last action
    "invalid",  # the last action was none of the world's
    "vital",  # the lowest of the vitals, of 9; 1 where the world has none
    "vital_fell",  # one of them is lower than a step before
    *(f"word_{bucket}" for bucket in range(BUCKETS)),  # of the changed lines, up to 2, halved
)
INDEX = {name: index for index, name in enumerate(NAMES)}
_LONGEST = 8
_WORD = re.compile(r"[^\W_]+")
_DIGITS = re.compile(r"\d+")
_VITAL = re.compile(r"\b(health|food|drink|energy|hp)\b\W{0,3}(\d+)", re.IGNORECASE)


def features(
    step: int,
    max_steps: int,
    observation: str,
    outcome: Outcome,
    recent: Sequence[LastStep],
    memory_bytes: int,
) -> tuple[float, ...]:
    """One number for each of `NAMES`, to four digits: what the journal holds and the gate sees.

    `recent`: finished steps, oldest first."""
    last = recent[-1] if recent else None
    before = last.observation if last else ""
    old = set(before.splitlines())
    lines = observation.splitlines()
    changed = [line for line in lines if line not in old] if last else lines
    novel = [_novelty(line, recent) for line in changed] or [0.0]
    vital, fell = _vitals(observation, before)
    values = (
        step / max_steps if max_steps else 0.0,
        float(last is None or before != observation),
        len(changed) / len(lines) if lines else 0.0,
        novel[0],
        sum(novel) / len(novel),
        _since(recent, "log") / RECENT_STEPS,
        _since(recent, "consult") / RECENT_STEPS,
        float(last is not None and last.found >= 0),
        float(last is not None and last.found == 0),
        math.log1p(max(0, last.found if last else 0)) / 3,
        math.log1p(memory_bytes) / 10,
        _in_a_row([each.observation for each in recent], observation) / _LONGEST,
        _in_a_row([each.action for each in recent[:-1]], last.action if last else "") / _LONGEST,
        float(_oscillates(recent)),
        float(last is not None and outcome.progression > last.outcome.progression),
        float(outcome.invalid_action),
        vital,
        fell,
        *_words(changed),
    )
    return tuple(round(value, 4) for value in values)


def _novelty(line: str, recent: Sequence[LastStep]) -> float:
    """Share of the line's word pairs that no line of the recent observations has."""
    pairs = _pairs(line)
    if not pairs:
        return 0.0
    seen: set[tuple[str, str]] = set()
    for each in recent:
        seen |= pairs & _pairs_of(each.observation)
    return 1.0 - len(seen) / len(pairs)


@lru_cache(maxsize=4096)
def _pairs_of(observation: str) -> frozenset[tuple[str, str]]:
    return frozenset(pair for line in observation.splitlines() for pair in _pairs(line))


@lru_cache(maxsize=4096)
def _pairs(line: str) -> frozenset[tuple[str, str]]:
    """Words that stand next to each other, or with one between; a lone word with itself."""
    words = _WORD.findall(line.lower())
    if len(words) == 1:
        return frozenset([(words[0], words[0])])
    return frozenset([*pairwise(words), *zip(words, words[2:], strict=False)])


def _since(recent: Sequence[LastStep], routine: str) -> int:
    """Steps since the routine was last done, 0 where it was in the last step."""
    for steps, last in enumerate(reversed(recent)):
        if last.gated is None or getattr(last.gated, routine) != Depth.SKIP:
            return steps
    return len(recent)


def _in_a_row(values: Sequence[str], value: str) -> int:
    count = 0
    for each in reversed(values):
        if each != value or count == _LONGEST:
            break
        count += 1
    return count


def _oscillates(recent: Sequence[LastStep]) -> bool:
    actions = [last.action for last in recent[-4:]]
    return len(actions) == 4 and actions[:2] == actions[2:] and actions[0] != actions[1]


def _vitals(observation: str, before: str) -> tuple[float, float]:
    now = {name.lower(): int(value[:3]) for name, value in _VITAL.findall(observation)}
    then = {name.lower(): int(value[:3]) for name, value in _VITAL.findall(before)}
    if not now:
        return 1.0, 0.0
    fell = any(value < then.get(name, 0) for name, value in now.items())
    return min(1.0, min(now.values()) / 9), float(fell)


def _words(lines: Sequence[str]) -> list[float]:
    """Counts by bucket. Numbers count as one word: which one it is would be noise here."""
    counts = [0] * BUCKETS
    for line in lines:
        for word in _WORD.findall(_DIGITS.sub("0", line.lower())):
            counts[zlib.crc32(word.encode()) % BUCKETS] += 1
    return [min(count, 2) / 2 for count in counts]
