"""What lies around the player, in words: each thing with its distance in steps and its direction.

Distances are king's moves. A thing in line is `3 steps north`; any other is told by both legs,
`5 steps: 2 north, 5 east`. Creatures and objects are named as the game's own far look names them
(`tame kitten`, `peaceful dwarf`, `scroll labeled FOOBIE BLETCH`), so nothing unidentified is given
away. As in the game, what was looked at from afar is then called by its full name in messages too:
the only way in which describing changes anything. Of ground that comes in many squares (water,
lava, corridor) the nearest is told.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from automem_envs.nethack.glyphs import NOTHING, TERRAIN, THING, Tables
from automem_envs.nethack.sight import Place

MOST_THINGS = 40
"""More are counted, not told: a shop would fill a context."""


class Scene(NamedTuple):
    """What one look shows."""

    lines: list[str]
    """Nearest first."""
    things: dict[Place, str]
    """Objects and features by place; creatures are not among them."""


def look_around(
    glyphs: NDArray[np.int16],
    descriptions: NDArray[np.uint8],
    here: Place,
    tables: Tables,
) -> Scene:
    """Describe a 21 x 79 array of glyphs as seen from `here`.

    `descriptions` (21 x 79 x 80) holds the game's own words for each square."""
    column, row = here
    width = glyphs.shape[1]
    flat = glyphs.ravel()
    kinds = tables.kind[flat]
    kinds[row * width + column] = NOTHING
    squares = np.flatnonzero(kinds)
    if not squares.size:
        return Scene([], {})
    rows, columns = np.divmod(squares, width)
    east = columns - column
    south = rows - row
    across, along = np.abs(east), np.abs(south)
    steps = np.maximum(across, along)
    # Equally far: what lies straight ahead first.
    order = np.argsort(width * steps + np.minimum(across, along), kind="stable")
    told: list[tuple[str, int, int, int]] = []
    things: dict[Place, str] = {}
    terrain: set[int] = set()
    found = zip(
        squares[order].tolist(),
        kinds[squares[order]].tolist(),
        steps[order].tolist(),
        east[order].tolist(),
        south[order].tolist(),
        strict=True,
    )
    for square, kind, distance, right, down in found:
        if kind == TERRAIN:
            glyph = int(tables.alike[flat[square]])
            if glyph not in terrain:
                terrain.add(glyph)
                told.append((tables.names[glyph], distance, right, down))
            continue
        y, x = divmod(square, width)
        name = _words(descriptions[y, x]) or tables.names[flat[square]]
        if kind == THING:
            things[x, y] = name
        told.append((name, distance, right, down))
    lines = [
        f"{name} {where(distance, right, down)}"
        for name, distance, right, down in told[:MOST_THINGS]
    ]
    if len(told) > MOST_THINGS:
        lines.append(f"and {len(told) - MOST_THINGS} things farther away")
    return Scene(lines, things)


@lru_cache(maxsize=8192)
def where(steps: int, east: int, south: int) -> str:
    """A place relative to the player: `1 step northeast`, `5 steps: 2 north, 5 east`."""
    count = "1 step" if steps == 1 else f"{steps} steps"
    vertical = "" if not south else "south" if south > 0 else "north"
    horizontal = "" if not east else "east" if east > 0 else "west"
    if not east or not south or abs(east) == abs(south):
        return f"{count} {vertical}{horizontal}"
    return f"{count}: {abs(south)} {vertical}, {abs(east)} {horizontal}"


def _words(text: NDArray[np.uint8]) -> str:
    """A zero-ended row of bytes as text."""
    return text.tobytes().split(b"\0", 1)[0].decode("latin-1")
