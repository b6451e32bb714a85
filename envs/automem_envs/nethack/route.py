"""Ways over a map that is only partly known: where one can walk, and what is worth walking to.

Everything here works on a `Sight` and on the set of squares that the player remembers having stood
on. A square is at the frontier where it borders on the unknown and was never stood on.
"""

import random
from collections import deque
from collections.abc import Callable, Collection, Iterable

from automem_envs.nethack.sight import STEPS, Place, Sight

_BARRED = frozenset(" |-}`^")
_DANGERS = ("trap", "pit", "web", "hole", "land mine", "teleporter", "portal", "field", "lava")
_NEAREST = 0.9
_STRAIGHT = frozenset({"north", "south", "west", "east"})


class Ground:
    """What can be walked on, as far as it is shown."""

    def __init__(self, sight: Sight, is_heavy: bool = False) -> None:
        """`is_heavy`: carrying too much to squeeze diagonally between rock and rock."""
        self.sight = sight
        self._is_heavy = is_heavy
        things = sight.things.items()
        self._open = {place for place, name in things if name == "open door"}
        self._closed = {place for place, name in things if name == "closed door"}
        self._doorways = {place for place, name in things if name.endswith("doorway")}
        if "door" in sight.under:
            self._doorways.add(sight.here)
        self._bad = {
            place
            for place, name in things
            if name.endswith(_DANGERS) or name in ("iron bars", "tree", "sink")
        }

    def is_free(self, place: Place) -> bool:
        """One can step there without harm, as far as is known."""
        if place in self._open or place in self._closed:
            return True
        sign = self.sight.sign(place)
        if sign in _BARRED or place in self._bad:
            return False
        name = self.sight.things.get(place, "")
        return not self.sight.is_creature(place) or name.startswith("tame ")

    def steps(self, place: Place) -> list[tuple[str, Place]]:
        """Words and places of the steps from there; none goes diagonally through a door."""
        is_narrow = self._is_narrow(place)
        found = []
        for word, (east, south) in STEPS.items():
            to = (place[0] + east, place[1] + south)
            if not self.is_free(to):
                continue
            if word not in _STRAIGHT and (
                is_narrow or self._is_narrow(to) or (self._is_heavy and self._is_tight(place, to))
            ):
                continue
            found.append((word, to))
        return found

    def is_edge(self, place: Place) -> bool:
        """The unknown begins beside it."""
        column, row = place
        return any(
            self.sight.sign((column + east, row + south)) == " "
            and 1 <= row + south <= 21
            and 0 <= column + east < 79
            for east, south in STEPS.values()
        )

    def _is_tight(self, place: Place, to: Place) -> bool:
        corners = (self.sight.sign((place[0], to[1])), self.sight.sign((to[0], place[1])))
        return all(sign in " |-" for sign in corners)

    def _is_narrow(self, place: Place) -> bool:
        return place in self._open or place in self._closed or place in self._doorways


def ways_from(ground: Ground, start: Place) -> dict[Place, tuple[Place, str]]:
    """Every place that can be reached, in order of distance, with the last step to it."""
    came: dict[Place, tuple[Place, str]] = {start: (start, "")}
    queue = deque([start])
    while queue:
        place = queue.popleft()
        for word, to in ground.steps(place):
            if to not in came:
                came[to] = (place, word)
                queue.append(to)
    return came


def first_step(came: dict[Place, tuple[Place, str]], goal: Place) -> str:
    """The first step of a shortest way to a reachable goal; empty at the goal."""
    word = ""
    while came[goal][1]:
        goal, word = came[goal]
    return word


def nearest(came: dict[Place, tuple[Place, str]], is_goal: Callable[[Place], bool]) -> Place | None:
    """The first reachable place of a kind, the start left out."""
    places = iter(came)
    next(places)
    return next((place for place in places if is_goal(place)), None)


def frontier(
    ground: Ground,
    came: dict[Place, tuple[Place, str]],
    stood: Collection[Place],
    chance: random.Random,
) -> Place | None:
    """A reachable square at the edge of the unknown that was not stood on: the nearest dead end,
    else mostly the nearest of all. Now and then another one, so that whoever does not know where
    they stood comes away from where they are, too."""
    places = iter(came)
    next(places)
    edges = [place for place in places if place not in stood and ground.is_edge(place)]
    ends = [place for place in edges if len(ground.steps(place)) <= 1]
    if ends or not edges:
        return ends[0] if ends else None
    return edges[0] if chance.random() < _NEAREST else chance.choice(edges)


def search_spot(
    ground: Ground,
    came: dict[Place, tuple[Place, str]],
    searched: dict[Place, int],
    chance: random.Random,
) -> Place:
    """Where to look for what is hidden: dead ends first, then walls, then what was searched longest
    ago. A search covers the squares beside it, so spots keep three squares apart."""
    fresh = [place for place in came if _is_apart(place, searched)]
    ends = [place for place in fresh if len(ground.steps(place)) <= 1]
    walls = [place for place in fresh if _is_by_wall(ground.sight, place)]
    if ends:
        return ends[0]
    if walls:
        return walls[0] if searched else chance.choice(walls[:40])
    known = [place for place in came if place in searched]
    return min(known, key=lambda place: searched[place]) if known else chance.choice(list(came))


def _is_apart(place: Place, others: Iterable[Place]) -> bool:
    return all(max(abs(place[0] - x), abs(place[1] - y)) > 2 for x, y in others)


def _is_by_wall(sight: Sight, place: Place) -> bool:
    return any(
        sight.sign((place[0] + east, place[1] + south)) in "|-" for east, south in STEPS.values()
    )
