"""From the simulation to what its figure sees: the nearest thing of each kind in a 9 x 7 view.

Squares beyond the world's edge hold nothing. Deterministic: among equally near things of a kind,
the one first in `_OFFSETS` is named.
"""

from typing import Any

from crafter import objects

from automem_envs.crafter.sight import (
    EDGE,
    VIEW_HEIGHT,
    VIEW_WIDTH,
    VITALS,
    Sight,
    Thing,
    compass,
)
from automem_envs.crafter.simulation import AREA, OrderedWorld, Simulation

_HALF_WIDTH = VIEW_WIDTH // 2
_HALF_HEIGHT = VIEW_HEIGHT // 2
_OFFSETS = tuple(
    sorted(
        (
            (abs(east) + abs(south), east, south, compass(east, south))
            for east in range(-_HALF_WIDTH, _HALF_WIDTH + 1)
            for south in range(-_HALF_HEIGHT, _HALF_HEIGHT + 1)
            if (east, south) != (0, 0)
        ),
    )
)
"""(steps, east, south, direction) of every square in view but one's own, nearest first."""

_KINDS = {
    objects.Cow: "cow",
    objects.Zombie: "zombie",
    objects.Skeleton: "skeleton",
    objects.Arrow: "arrow",
    objects.Fence: "fence",
}


def look(simulation: Simulation, invalid: str | None = None) -> Sight:
    """What the figure sees now; `invalid` is passed on."""
    hero = simulation.hero
    east, south = (int(part) for part in hero.facing)
    land = simulation.land
    x, y = (int(part) for part in hero.pos)
    carried = {name: int(count) for name, count in hero.inventory.items()}
    return Sight(
        things=_nearest(land, x, y),
        facing=_kind_at(land, x + east, y + south),
        heading=compass(east, south),
        vitals={name: carried.pop(name) for name in VITALS},
        inventory={name.replace("_", " "): count for name, count in carried.items() if count > 0},
        is_asleep=bool(hero.sleeping),
        invalid=invalid,
    )


def _nearest(land: OrderedWorld, x: int, y: int) -> tuple[Thing, ...]:
    """The nearest thing of each kind in view of (x, y), nearest first."""
    # Whole rows as plain lists: scalar access to numpy arrays would dominate a step.
    left, top = max(0, x - _HALF_WIDTH), max(0, y - _HALF_HEIGHT)
    right, bottom = x + _HALF_WIDTH + 1, y + _HALF_HEIGHT + 1
    materials = land.materials[left:right, top:bottom].tolist()
    occupants = land.occupants[left:right, top:bottom].tolist()
    width, height = len(materials), len(materials[0])
    seen: set[str] = set()
    things: list[Thing] = []
    for distance, east, south, direction in _OFFSETS:
        column, row = x + east - left, y + south - top
        if not (0 <= column < width and 0 <= row < height):
            continue
        number = occupants[column][row]
        if number:
            kind = _kind_of(land.occupant(number))
        else:
            kind = land.material_name(materials[column][row])
        if kind not in seen:
            seen.add(kind)
            things.append(Thing(kind, distance, direction))
    return tuple(things)


def _kind_at(land: OrderedWorld, x: int, y: int) -> str:
    """What one square holds: its creature or plant, else its ground."""
    if not (0 <= x < AREA[0] and 0 <= y < AREA[1]):
        return EDGE
    number = int(land.occupants[x, y])
    if number:
        return _kind_of(land.occupant(number))
    return land.material_name(int(land.materials[x, y]))


def _kind_of(thing: Any) -> str:
    """An object's name; a plant's tells, as its picture does, whether it is ripe."""
    if isinstance(thing, objects.Plant):
        return "ripe plant" if thing.ripe else "plant"
    return _KINDS[type(thing)]
