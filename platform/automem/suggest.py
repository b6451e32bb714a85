"""Did-you-mean: the nearest right name for a wrong one, said in one sentence.

Only words: it knows no config and no command line.
"""

import difflib
from collections.abc import Iterable

_CUTOFF = 0.55
"""Similarity (difflib's ratio) below which a name is no help: found by typing badly."""


def nearest(word: str, candidates: Iterable[str], limit: int = 3) -> list[str]:
    """Up to `limit` candidates that look like `word`, best first.

    A dotted candidate also matches by its last part: `episodes` finds `rollout.episodes`."""
    lowered = word.lower()
    scores: dict[str, float] = {}
    for candidate in candidates:
        names = {candidate.lower(), candidate.lower().rpartition(".")[2]}
        if "." in lowered:
            names = {candidate.lower()}
        scores[candidate] = max(_similarity(lowered, name) for name in names)
    good = [name for name, score in scores.items() if score >= _CUTOFF]
    return sorted(good, key=lambda name: (-scores[name], name))[:limit]


def _similarity(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def did_you_mean(word: str, candidates: Iterable[str], limit: int = 3) -> str:
    """`; did you mean 'a' or 'b'?`, or nothing where no candidate is near."""
    names = nearest(word, candidates, limit)
    if not names:
        return ""
    return f"; did you mean {' or '.join(repr(name) for name in names)}?"


def no_such(kind: str, word: str, candidates: Iterable[str]) -> str:
    """`no env 'crafterr'; did you mean 'crafter'? There are: concentration, crafter`."""
    known = sorted(candidates)
    guess = did_you_mean(word, known, limit=1) or "."
    return f"no {kind} {word!r}{guess} There are: {', '.join(known) or 'none'}"
