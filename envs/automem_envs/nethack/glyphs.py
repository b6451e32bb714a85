"""What glyphs are, as lookup arrays over all of NetHack's glyph numbers, from nle's own tables.

Built once per process. Names that depend on the game (what an unidentified scroll looks like, who
is peaceful) are not in here: the game itself describes those, see `scene`.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from nle import nethack
from numpy.typing import NDArray

NOTHING, THING, CREATURE, TERRAIN = range(4)
"""What a glyph is to the description: not worth a word; one thing; a creature; ground that comes in
many squares, of which the nearest is told."""
UNKNOWN, FREE, BLOCKED, DANGEROUS, DOOR = range(5)
"""What stepping there means."""

DOORWAY, OPEN_DOORS, CLOSED_DOORS = 12, (13, 14), (15, 16)
STAIRS_UP, STAIRS_DOWN = 23, 24
FEATURES = int(nethack.MAXPCHARS)
"""How many features of the dungeon there are."""
_WALLS = (*range(1, 12), 17, 18, 37, 38)
_THINGS = (*range(12, 17), *range(23, 32), *range(35, 39), *range(42, 65))
_TERRAIN = (17, 18, 21, 22, 32, 33, 34, 41, 77)
_FREE = (12, 19, 20, 21, 22, *range(23, 32), 33, 35, 36, 39, 40, 64)
_DANGEROUS = (32, 34, 41, *range(42, 64), 77)
_ALIKE = {22: 21, 41: 32}
"""Lit corridor is corridor; water is water."""


class Tables(NamedTuple):
    """All arrays are indexed by glyph."""

    kind: NDArray[np.uint8]
    passing: NDArray[np.uint8]
    names: list[str]
    """Plain names; empty where there is nothing to say."""
    alike: NDArray[np.int16]
    """The glyph that stands for a terrain."""
    boulder: int
    doors_open: tuple[int, ...]


@cache
def tables() -> Tables:
    """See the module's docstring."""
    size = nethack.MAX_GLYPH
    kind = np.zeros(size, np.uint8)
    passing = np.zeros(size, np.uint8)
    names = [""] * size
    _fill_creatures(kind, passing, names)
    boulder = _fill_objects(kind, passing, names)
    first = nethack.GLYPH_CMAP_OFF
    for number in range(nethack.MAXPCHARS):
        names[first + number] = nethack.symdef.from_idx(number).explanation
    for numbers, table, value in (
        (_THINGS, kind, THING),
        (_TERRAIN, kind, TERRAIN),
        (_WALLS, passing, BLOCKED),
        (_FREE, passing, FREE),
        (_DANGEROUS, passing, DANGEROUS),
        (OPEN_DOORS, passing, FREE),
        (CLOSED_DOORS, passing, DOOR),
    ):
        table[[first + number for number in numbers]] = value
    alike = np.arange(size, dtype=np.int16)
    for number, other in _ALIKE.items():
        alike[first + number] = first + other
    doors = tuple(first + number for number in OPEN_DOORS)
    return Tables(kind, passing, names, alike, boulder, doors)


def names() -> tuple[str, ...]:
    """Of all that the game has a glyph for, each once: creatures, objects, features."""
    return tuple(sorted({name for name in tables().names if name}))


def cmap(number: int) -> int:
    """The glyph of a feature of the dungeon."""
    return int(nethack.GLYPH_CMAP_OFF) + number


def _fill_creatures(kind: NDArray[np.uint8], passing: NDArray[np.uint8], names: list[str]) -> None:
    count = nethack.NUMMONS
    for first, form in (
        (nethack.GLYPH_MON_OFF, "{}"),
        (nethack.GLYPH_PET_OFF, "tame {}"),
        (nethack.GLYPH_DETECT_OFF, "detected {}"),
        (nethack.GLYPH_RIDDEN_OFF, "ridden {}"),
    ):
        kind[first : first + count] = CREATURE
        passing[first : first + count] = FREE if first == nethack.GLYPH_PET_OFF else BLOCKED
        for number in range(count):
            names[first + number] = form.format(nethack.permonst(number).mname)
    warnings = slice(nethack.GLYPH_WARNING_OFF, nethack.GLYPH_WARNING_OFF + nethack.WARNCOUNT)
    for place, name in (
        (nethack.GLYPH_INVISIBLE, "unseen creature"),
        (warnings, "sensed creature"),
    ):
        kind[place] = CREATURE
        passing[place] = BLOCKED
        for number in range(*place.indices(len(names))) if isinstance(place, slice) else [place]:
            names[number] = name


def _fill_objects(kind: NDArray[np.uint8], passing: NDArray[np.uint8], names: list[str]) -> int:
    """Objects, corpses and statues lie on ground that can be walked on, but for boulders and
    statues. The boulder's glyph."""
    boulder = -1
    for number in range(nethack.NUM_OBJECTS):
        name = nethack.OBJ_NAME(nethack.objclass(number)) or "object"
        names[nethack.GLYPH_OBJ_OFF + number] = name
        if name == "boulder":
            boulder = nethack.GLYPH_OBJ_OFF + number
    for first, form in (
        (nethack.GLYPH_BODY_OFF, "{} corpse"),
        (nethack.GLYPH_STATUE_OFF, "statue of {}"),
    ):
        for number in range(nethack.NUMMONS):
            names[first + number] = form.format(nethack.permonst(number).mname)
    for first, count, value in (
        (nethack.GLYPH_OBJ_OFF, nethack.NUM_OBJECTS, FREE),
        (nethack.GLYPH_BODY_OFF, nethack.NUMMONS, FREE),
        (nethack.GLYPH_STATUE_OFF, nethack.NUMMONS, BLOCKED),
    ):
        kind[first : first + count] = THING
        passing[first : first + count] = value
    passing[boulder] = BLOCKED
    return boulder
