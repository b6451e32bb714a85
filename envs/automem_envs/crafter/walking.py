"""What the scripted player knows at one moment, and how it walks.

A step is never taken onto a square that may be lava; the way leads around what is known to be
blocked and, with a pickaxe, through stone.
"""

import msgspec

from automem_envs.crafter.notes import (
    FREE_GROUND,
    STEP,
    Place,
    Recalled,
    exact_offset,
    likely_offsets,
    neighbour,
)
from automem_envs.crafter.path import first_step
from automem_envs.crafter.recipes import Recipe
from automem_envs.crafter.sight import Sight, Thing


class Known(msgspec.Struct):
    """Everything a decision rests on."""

    sight: Sight
    recalled: Recalled
    done: set[str]
    """Achievements in plain words."""
    places: dict[str, list[Place]]
    """Remembered places by kind."""
    goal: Place | None
    """Where exploring leads."""
    avoid: Place | None
    """Where the player last got nowhere: what is near there is left alone."""
    recipes: dict[str, Recipe]

    def has(self, item: str) -> int:
        """How many of an item are carried."""
        return self.sight.inventory.get(item, 0)

    def thing(self, kind: str) -> Thing | None:
        """The nearest thing of a kind in view."""
        return next((thing for thing in self.sight.things if thing.kind == kind), None)

    def is_near(self, kind: str, within: int) -> bool:
        """Whether a thing of a kind is in view so near."""
        thing = self.thing(kind)
        return thing is not None and thing.distance <= within


def go(known: Known, thing: Thing) -> str | None:
    """Towards a thing in view."""
    here = known.recalled.place
    return walk(known, [(here[0] + east, here[1] + south) for east, south in likely_offsets(thing)])


def walk(known: Known, targets: list[Place]) -> str | None:
    """One step towards the nearest of `targets`; digs where the way is stone."""
    here = known.recalled.place
    squares = known.recalled.squares
    digs = bool(known.has("wood pickaxe"))
    danger = _dangerous(known)

    def is_passable(place: Place) -> bool:
        kind = squares.get(place)
        if place in danger:
            return False
        return kind is None or kind in FREE_GROUND or (digs and kind in ("stone", "arrow"))

    visits: dict[Place, int] = {}
    for place in known.recalled.trail:
        visits[place] = visits.get(place, 0) + 1
    targets = [t for t in targets if squares.get(t) not in FREE_GROUND or t != here]
    heading = first_step(here, set(targets), is_passable, visits) if targets else None
    if heading is None:
        return None
    ahead = squares.get(neighbour(here, heading))
    if ahead == "stone" and digs and known.sight.heading == heading:
        return "Do"
    return move_if_safe(known, heading)


def _dangerous(known: Known) -> set[Place]:
    """Squares next to lava, and lava."""
    lava = [place for place, kind in known.recalled.squares.items() if kind == "lava"]
    thing = known.thing("lava")
    here = known.recalled.place
    if thing is not None and exact_offset(thing) is None:
        lava += [(here[0] + east, here[1] + south) for east, south in likely_offsets(thing)]
    return {neighbour(place, heading) for place in lava for heading in STEP} | set(lava)


def move_if_safe(known: Known, heading: str) -> str | None:
    """A move, unless it may lead into lava."""
    ahead = neighbour(known.recalled.place, heading)
    kind = known.recalled.squares.get(ahead)
    if kind == "lava":
        return None
    if known.is_near("lava", 1) and kind is None:
        return None
    return move(heading)


def move(heading: str) -> str:
    return f"Move {heading.capitalize()}"
