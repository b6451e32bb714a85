"""How the scripted player rests: dug into stone, walled in on all sides, until it is well again.

Sleepers in the open are what kills most simple players. A shelter is judged by what the notes know
of single squares: unknown counts as open, and is tested by walking against it.
"""

from automem_envs.crafter.notes import CREATURES, FREE_GROUND, STEP, Place, neighbour
from automem_envs.crafter.walking import Known, go, move_if_safe

_BACK = {"west": "east", "east": "west", "north": "south", "south": "north"}
_WEAK = 4
"""Health at which rest comes before everything but needs."""
_WELL = 7
"""Health at which a rest in a shelter ends."""
_LARGEST = 5
"""Squares that a shelter may have inside."""


def is_weak(known: Known) -> bool:
    """Whether a fight had better be avoided."""
    return known.sight.vitals["health"] <= _WEAK


def rest(known: Known) -> str | None:
    """Sleep or wait in a shelter, or make one; None where rest is not called for."""
    vitals = known.sight.vitals
    if min(vitals["food"], vitals["drink"]) <= 2:
        return None
    tired = 3 if "wake up" in known.done else 6
    if vitals["health"] >= _WELL and vitals["energy"] > tired:
        return None
    if is_sealed(known, known.recalled.place):
        return "Sleep" if vitals["energy"] < 9 else "Noop"
    if vitals["health"] > _WEAK and vitals["energy"] > tired:
        return None
    if known.has("wood pickaxe") and known.is_near("stone", 6):
        return _make_shelter(known)
    if vitals["energy"] <= 1 and not known.is_near("zombie", 9):
        return "Sleep"
    return None


def is_sealed(known: Known, start: Place, shut: Place | None = None) -> bool:
    """Whether the squares around `start` are known to be closed off, were `shut` a wall."""
    squares = known.recalled.squares
    inside = [start]
    for place in inside:
        for heading in STEP:
            beside = neighbour(place, heading)
            if beside == shut or beside in inside:
                continue
            kind = squares.get(beside)
            if kind is None or kind in CREATURES:
                return False
            if kind in FREE_GROUND:
                inside.append(beside)
                if len(inside) > _LARGEST:
                    return False
    return True


def _make_shelter(known: Known) -> str | None:
    """The next step of: dig three squares into stone, feeling the walls on the way; come back one,
    which turns one's face to the way in; close it."""
    sight, here = known.sight, known.recalled.place
    squares = known.recalled.squares
    beside = {heading: squares.get(neighbour(here, heading)) for heading in STEP}
    unknown = [heading for heading, kind in beside.items() if kind is None or kind in CREATURES]
    opens = [
        heading
        for heading, kind in beside.items()
        if kind in FREE_GROUND and not is_sealed(known, neighbour(here, heading), shut=here)
    ]
    if len(opens) > 1 or len(unknown) > 2:
        return _dig_in(known, beside)
    if unknown:
        return move_if_safe(known, unknown[0])
    if not opens:
        return None
    way_in = opens[0]
    if sight.heading == way_in:
        return "Place Stone" if known.has("stone") else _dig(known, beside, _BACK[way_in])
    if _has_side_walls(known, neighbour(here, way_in), way_in):
        return move_if_safe(known, way_in)
    return _dig(known, beside, _BACK[way_in])


def _has_side_walls(known: Known, place: Place, heading: str) -> bool:
    """Whether a passage along `heading` is walled on both sides at `place`."""
    sides = [side for side in STEP if side not in (heading, _BACK[heading])]
    return all(_is_wall(known.recalled.squares.get(neighbour(place, side))) for side in sides)


def _dig_in(known: Known, beside: dict[str, str | None]) -> str | None:
    """Into the stone from open ground."""
    sight = known.sight
    steps = known.recalled.steps
    if sight.facing == "path" and steps and steps[-1].action == "Do":
        return move_if_safe(known, sight.heading)
    for heading in (sight.heading, *STEP):
        if beside[heading] == "stone":
            return _dig(known, beside, heading)
    stone = known.thing("stone")
    return go(known, stone) if stone is not None else None


def _dig(known: Known, beside: dict[str, str | None], heading: str) -> str | None:
    """Dig on that way, else any way that is stone."""
    if beside[heading] in FREE_GROUND:
        return move_if_safe(known, heading)
    if beside[heading] != "stone":
        heading = next((other for other, kind in beside.items() if kind == "stone"), "")
    if not heading:
        return None
    return "Do" if known.sight.heading == heading else move_if_safe(known, heading)


def _is_wall(kind: str | None) -> bool:
    return kind is not None and kind not in FREE_GROUND and kind not in CREATURES
