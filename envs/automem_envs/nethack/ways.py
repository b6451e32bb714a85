"""Which of the eight ways from the player's square are open, barred or dangerous: a notice.

Read off the glyphs around the player, the memory of earlier sights included. It says nothing of
what is not displayed: a secret door is a wall, an unseen trap is floor.
"""

from typing import Any

from numpy.typing import NDArray

from automem_envs.nethack.glyphs import BLOCKED, DANGEROUS, DOOR, FREE, UNKNOWN, Tables
from automem_envs.nethack.sight import STEPS, Place

_TITLES = {
    FREE: "passable",
    DANGEROUS: "dangerous",
    DOOR: "closed doors",
    BLOCKED: "blocked",
    UNKNOWN: "unknown",
}


def ways(glyphs: NDArray[Any], here: Place, tables: Tables, is_on_door: bool = False) -> str:
    """`passable: north, east (open door); dangerous: south (molten lava); blocked: ...`."""
    found: dict[int, list[str]] = {title: [] for title in _TITLES}
    height, width = glyphs.shape
    for word, (east, south) in STEPS.items():
        column, row = here[0] + east, here[1] + south
        if not (0 <= column < width and 0 <= row < height):
            found[BLOCKED].append(word)
            continue
        glyph = int(glyphs[row, column])
        passing = int(tables.passing[glyph])
        is_door = glyph in tables.doors_open or passing == DOOR
        if east and south and (is_door or is_on_door):
            # Nobody squeezes diagonally through a door.
            passing = BLOCKED
        name = tables.names[glyph]
        is_told = passing == DANGEROUS or is_door or glyph == tables.boulder
        found[passing].append(f"{word} ({name})" if is_told and name else word)
    return "; ".join(f"{_TITLES[key]}: {', '.join(words)}" for key, words in found.items() if words)
