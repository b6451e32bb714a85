"""The game itself: Crafter's own step, in a fixed order and without pictures.

Promise: the same seed and actions give the same play in every process, and that play is the one of
`crafter.Env(seed=seed)` at its default picture size, up to the order of creatures within a chunk,
which the original leaves to the hash of a set. Not covered: pictures, and the original's second
and later episodes of one environment object; each simulation is a first episode.
"""

from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from typing import Any

import crafter
import numpy as np
from crafter import constants, engine

AREA = (64, 64)
_CHUNK = (12, 12)
_VIEW = (9, 9)
_NOISE_SHAPE = (63, 49)
"""Pixels of the map part of a default picture (9 x 7 squares of 7 x 7): at night the original's
renderer draws one number for each from the world's own random stream."""


class OrderedObjects:
    """The part of a set that chunks use, in order of insertion."""

    def __init__(self) -> None:
        self._members: dict[Any, None] = {}

    def add(self, member: Any) -> None:
        self._members[member] = None

    def remove(self, member: Any) -> None:
        del self._members[member]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._members)


class OrderedWorld(engine.World):
    """Crafter's map and objects, with chunks that keep their order."""

    def reset(self, seed: int | None = None) -> None:
        super().reset(seed)
        self._chunks: defaultdict[Any, OrderedObjects] = defaultdict(OrderedObjects)

    @property
    def materials(self) -> np.ndarray:
        """Material numbers, uint8 [width, height]; 0 is none."""
        return self._mat_map

    @property
    def occupants(self) -> np.ndarray:
        """Object numbers, uint32 [width, height]; 0 is none. See `occupant`."""
        return self._obj_map

    def material_name(self, number: int) -> str:
        """The name of a material number."""
        name: str = self._mat_names[number]
        return name

    def occupant(self, number: int) -> Any:
        """The object of that number."""
        return self._objects[number]


def _distance(hero: Any, target: Any) -> int:
    """What `crafter.objects.Object.distance` gives, of a place or of what stands there."""
    x, y = hero.pos.tolist()
    other_x, other_y = getattr(target, "pos", target).tolist()
    distance: int = abs(other_x - x) + abs(other_y - y)
    return distance


class Simulation(crafter.Env):
    """One episode: `reset` makes the land, `step(number)` is the original's."""

    def __init__(self, seed: int, length: int) -> None:
        # The original's constructor loads its textures; this sets what its `step` reads.
        self._area = AREA
        self._view = _VIEW  # a tuple: the step takes its maximum once for each creature
        self._reward = True
        self._length = length
        self._seed = seed
        self._episode = 0
        self._world = OrderedWorld(AREA, constants.materials, _CHUNK)
        self._step = 0
        self._player = None
        self._last_health = None
        self._unlocked: set[str] = set()

    def reset(self) -> None:
        """Make the land. No picture comes back."""
        super().reset()
        # The step asks it of every creature; the original's takes five microseconds each time.
        self.hero.distance = partial(_distance, self.hero)

    @property
    def land(self) -> OrderedWorld:
        """The map and everything on it."""
        return self._world

    @property
    def hero(self) -> Any:
        """The player's figure (`crafter.objects.Player`)."""
        return self._player

    @property
    def unlocked(self) -> frozenset[str]:
        """Achievements so far."""
        return frozenset(self._unlocked)

    def _obs(self) -> None:
        """No picture; but the random numbers of its night noise, so that the play is the same."""
        if self._world.daylight < 0.5:
            self._world.random.uniform(32, 127, _NOISE_SHAPE)

    def _sem_view(self) -> None:
        """No semantic picture."""
