"""Seeds: disjoint named ranges, and counter-based derivation of everything random.

Promise: a number drawn anywhere is a function of the run's seed and of where it is drawn (episode,
step, turn), never of the order in which things happened.
"""

import hashlib
from enum import StrEnum


class SeedRange(StrEnum):
    """What a world seed may be used for. Ranges never overlap."""

    PUBLISHED = "published"
    """0-999: holds the paper's seeds (42-51). Described, never decided upon."""
    TRAIN = "train"
    """Episodes that training data is picked from."""
    SELECT = "select"
    """Racing of candidates: eliminates, never accepts."""
    CONFIRM = "confirm"
    """Gate decisions; each seed is used once."""
    REPORT = "report"
    """Tables made during development."""
    CALIBRATE = "calibrate"
    """Checks of a shipped model against its teacher."""
    FINAL = "final"
    """Only `automem finalize` reads these."""


_RANGE_SIZE = 10_000_000
_RANGE_START = {
    name: (i * _RANGE_SIZE if i else 0) for i, name in enumerate(SeedRange)
}  # published is the first range, cut to 1,000 seeds below


def seed_range(name: SeedRange | str) -> range:
    """All seeds of a named range."""
    name = SeedRange(name)
    start = _RANGE_START[name]
    return range(start, start + (1000 if name is SeedRange.PUBLISHED else _RANGE_SIZE))


def seeds_from(name: SeedRange | str, count: int, offset: int = 0) -> list[int]:
    """`count` consecutive seeds of a named range, from its `offset`-th on."""
    seeds = seed_range(name)[offset : offset + count]
    if len(seeds) < count:
        raise ValueError(f"range {name!s} has {len(seed_range(name))} seeds, not {offset + count}")
    return list(seeds)


def range_of(seed: int) -> SeedRange | None:
    """The named range that holds `seed`, or None."""
    return next((name for name in SeedRange if seed in seed_range(name)), None)


def derive(*parts: int | str) -> int:
    """A 63-bit seed from any path of names and counters, e.g. `derive(run_seed, "ep-3", 7, 1)`."""
    text = "\x1f".join(str(part) for part in parts)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
