"""The scripted player's map: which blocks of land it has seen, and where it saw what.

`map.txt` holds one line for each kind of thing and block, `water 1,-2: 12,-7`, and one for each
block seen, `seen 1,-2: yes`. Blocks are 8 x 6 squares, a little less than a view. Pure functions
from notes to lines and back.
"""

from collections.abc import Iterable

from automem_envs.crafter.notes import Place, Recalled, likely_offsets, read_place
from automem_envs.crafter.path import distance

BLOCK_WIDTH, BLOCK_HEIGHT = 8, 6
LANDMARKS = frozenset(
    ("water", "tree", "cow", "stone", "coal", "iron", "diamond", "table", "furnace", "plant")
)
"""Kinds worth a line."""
SEEN = "seen"
GONE = "gone"
_HALF = 32
"""The world is 64 x 64 and play begins in its middle."""


def block_of(place: Place) -> Place:
    """The block that a square lies in."""
    return place[0] // BLOCK_WIDTH, place[1] // BLOCK_HEIGHT


def centre_of(block: Place) -> Place:
    """The square in the middle of a block."""
    return (
        block[0] * BLOCK_WIDTH + BLOCK_WIDTH // 2,
        block[1] * BLOCK_HEIGHT + BLOCK_HEIGHT // 2,
    )


def write_place(place: Place) -> str:
    """`12,-7`."""
    return f"{place[0]},{place[1]}"


def landmarks(recalled: Recalled) -> dict[tuple[str, Place], Place]:
    """(kind, block) to where the notes show that kind; the latest sighting counts."""
    found: dict[tuple[str, Place], Place] = {}
    for noted, place in zip(recalled.steps, recalled.trail, strict=True):
        for thing in noted.sight.things:
            if thing.kind in LANDMARKS:
                offsets = likely_offsets(thing)
                east, south = offsets[len(offsets) // 2]
                spot = (place[0] + east, place[1] + south)
                found[thing.kind, block_of(spot)] = spot
    return found


def blocks_seen(recalled: Recalled) -> set[Place]:
    """Blocks whose middle came well into view."""
    seen = set()
    for east, south in recalled.trail:
        for corner in ((-2, -1), (2, -1), (-2, 1), (2, 1)):
            block = block_of((east + corner[0], south + corner[1]))
            middle = centre_of(block)
            if abs(middle[0] - east) <= 3 and abs(middle[1] - south) <= 2:
                seen.add(block)
    return seen


def read_keyed(lines: Iterable[str]) -> dict[tuple[str, Place], str]:
    """(word, block) to text, from lines of `map.txt`."""
    read = {}
    for line in lines:
        key, colon, text = line.partition(": ")
        word, _, block = key.rpartition(" ")
        place = read_place(block)
        if colon and word and place is not None:
            read[word, place] = text
    return read


def places_by_kind(lines: Iterable[str]) -> dict[str, list[Place]]:
    """Where each kind is remembered."""
    places: dict[str, list[Place]] = {}
    for (kind, _), text in read_keyed(lines).items():
        place = read_place(text)
        if place is not None:
            places.setdefault(kind, []).append(place)
    return places


def gone_landmarks(
    remembered: dict[tuple[str, Place], str], recalled: Recalled
) -> list[tuple[str, Place]]:
    """Remembered places, close to the player now, where nothing of their kind is in view."""
    in_view = {thing.kind for thing in recalled.steps[-1].sight.things}
    here = recalled.place
    gone = []
    for (kind, block), text in remembered.items():
        place = read_place(text)
        if place is None or kind in in_view:
            continue
        if abs(place[0] - here[0]) <= 3 and abs(place[1] - here[1]) <= 2:
            gone.append((kind, block))
    return gone


def next_block(here: Place, seen: set[Place], barred: set[Place], heading: Place) -> Place | None:
    """The unseen block to explore next: near, rather ahead than behind, and away from `barred`
    blocks, to which no way was found."""
    best: tuple[float, Place] | None = None
    for east in range(-_HALF // BLOCK_WIDTH, _HALF // BLOCK_WIDTH):
        for south in range(-(_HALF // BLOCK_HEIGHT), _HALF // BLOCK_HEIGHT):
            block = (east, south)
            if block in seen or block in barred:
                continue
            middle = centre_of(block)
            ahead = (middle[0] - here[0]) * heading[0] + (middle[1] - here[1]) * heading[1]
            score = distance(middle, here) - 0.4 * ahead
            score += 8 * sum(distance(block, other) <= 1 for other in barred)
            if best is None or score < best[0]:
                best = (score, block)
    return best[1] if best else None


def is_stuck(recalled: Recalled) -> bool:
    """Whether much walking stayed within a few squares and brought nothing."""
    trail, steps = recalled.trail, recalled.steps
    columns = [place[0] for place in trail]
    rows = [place[1] for place in trail]
    if max(columns) - min(columns) > 3 or max(rows) - min(rows) > 3:
        return False
    moves = sum(noted.action.startswith("Move ") for noted in steps)
    return moves * 3 >= len(steps) * 2 and steps[0].sight.inventory == steps[-1].sight.inventory
