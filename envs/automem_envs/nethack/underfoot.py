"""What lies underfoot, which the player's own symbol hides.

Of each level it keeps what was last seen on every square, the feature (stairs, a doorway, a trap)
and the object apart, since each hides what is under it and a creature hides both; an object that a
creature stood on may be gone. What the game says of the player's square is read too: `You see
here`, `There is a fountain here`, `You drop`. What nobody saw or said is not known: then it tells
nothing.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from automem_envs.nethack.glyphs import (
    CREATURE,
    FEATURES,
    STAIRS_DOWN,
    STAIRS_UP,
    THING,
    UNKNOWN,
    Tables,
    cmap,
)
from automem_envs.nethack.sight import Place

_COLUMN, _ROW, _DUNGEON, _LEVEL, _DEPTH = 0, 1, 23, 24, 12
"""Places of blstats."""
_MOST_LISTED = 5
_NOTHING, _GROUND, _OBJECT, _FEATURE, _CREATURE = range(5)
"""What a glyph says of its square: nothing, that it is bare, what is there, or who hides that."""
_IS_HERE = re.compile(r"There is (?:an? )?(?!nothing)([^.;,]+?) here\.")
_SEES_HERE = re.compile(r"You (?:see|feel) here (.+?)\.(?:\s|$)")
_HEAP = re.compile(r"There are (\w+)(?: more)? objects here\.")
_LIST = re.compile(r"Things that (?:are|you feel) here:\n(.+)", re.DOTALL)
"""A window: one thing a line; what was said after it ends like a sentence."""
_DROPPED = re.compile(r"You drop (.+?)\.(?:\s|$)")
_PICKED_UP = re.compile(r"(?:^|\s)[a-zA-Z$] - ")
_EATEN = re.compile(r"You finish eating|You're finally finished")
_SWAPPED = "You swap places with"
_NOTHING_HERE = "you see no objects here"


@dataclass(slots=True)
class Square:
    """What was last seen or told of a square; empty where there was nothing."""

    feature: str = ""
    thing: str = ""


class Underfoot:
    """See the module's docstring."""

    def __init__(self, tables: Tables, begins_on_stairs: bool) -> None:
        """`begins_on_stairs`: a game of NetHack's own begins on the stairs up."""
        self._shows = _what_glyphs_show(tables)
        self._begins_on_stairs = begins_on_stairs
        self._up, self._down = tables.names[cmap(STAIRS_UP)], tables.names[cmap(STAIRS_DOWN)]
        self._levels: dict[tuple[int, int], dict[Place, Square]] = {}
        self._level: tuple[int, int] | None = None
        self._depth = 0
        self._carried = ""
        self._square = Square()
        self._squares: dict[Place, Square] = {}
        """Of the level that the player is on."""

    @property
    def feature(self) -> str:
        """Of the square that the player is on."""
        return self._square.feature

    @property
    def text(self) -> str:
        """Feature and object, as far as there are any."""
        return "; ".join(filter(None, (self._square.feature, self._square.thing)))

    def step(self, numbers: list[int], message: str, inventory: str) -> None:
        """The player is where `numbers` (blstats) says, and this was said meanwhile."""
        level = (numbers[_DUNGEON], numbers[_LEVEL])
        arrived = self._stairs_arrived_on(level, numbers[_DEPTH])
        self._squares = self._levels.setdefault(level, {})
        place = (numbers[_COLUMN], numbers[_ROW])
        self._square = self._squares.get(place) or Square()
        if arrived:
            self._square.feature = arrived
        self._listen(message, is_carrying_else=inventory != self._carried)
        if self.text:
            self._squares[place] = self._square
        self._level, self._depth, self._carried = level, numbers[_DEPTH], inventory

    def look(self, glyphs: NDArray[np.int16], things: Mapping[Place, str], here: Place) -> None:
        """Keep what is in view: `things` names objects and features by place."""
        bare = []
        for place, square in self._squares.items():
            shows = self._shows[glyphs[place[1], place[0]]]
            if shows == _CREATURE and place != here:
                square.thing = ""
            elif shows == _GROUND:
                bare.append(place)
        for place in bare:
            del self._squares[place]
        for place, name in things.items():
            shows = self._shows[glyphs[place[1], place[0]]]
            if shows == _FEATURE:
                self._squares[place] = Square(feature=name)
            elif shows == _OBJECT:
                self._squares.setdefault(place, Square()).thing = name

    def _stairs_arrived_on(self, level: tuple[int, int], depth: int) -> str:
        """Stairs lead to stairs; whoever falls lands anywhere."""
        if self._level is None:
            return self._up if self._begins_on_stairs else ""
        if level == self._level:
            return ""
        taken, arrived = (self._down, self._up) if depth > self._depth else (self._up, self._down)
        return arrived if self._square.feature == taken else ""

    def _listen(self, message: str, is_carrying_else: bool) -> None:
        """What the game says of the square that the player is on."""
        square = self._square
        if _SWAPPED in message:
            square.thing = ""
        if is_carrying_else and _PICKED_UP.search(message):
            square.thing = ""
        if not is_carrying_else and _EATEN.search(message):
            square.thing = ""
        for dropped in _DROPPED.findall(message):
            square.thing = f"{square.thing}, {dropped}" if square.thing else dropped
        if _NOTHING_HERE in message.lower():
            square.thing = ""
        for feature in _IS_HERE.findall(message):
            square.feature = feature
        for thing in _SEES_HERE.findall(message):
            square.thing = thing
        if heap := _HEAP.search(message):
            square.thing = f"{heap[1]} objects"
        if listed := _LIST.search(message):
            square.thing = _named(listed[1].split("\n"))


def _what_glyphs_show(tables: Tables) -> bytes:
    """For each glyph, what it says of the square under it."""
    shows = np.full(len(tables.kind), _NOTHING, np.uint8)
    shows[tables.passing != UNKNOWN] = _GROUND
    shows[tables.kind == THING] = _OBJECT
    shows[tables.kind == CREATURE] = _CREATURE
    features = slice(cmap(0), cmap(FEATURES))
    shows[features][tables.kind[features] == THING] = _FEATURE
    # It is pushed away by who comes, and what lies under it is not seen.
    shows[tables.boulder] = _NOTHING
    return shows.tobytes()


def _named(lines: list[str]) -> str:
    """The first few things of a list."""
    things = list(takewhile(lambda line: not line.endswith((".", "!", "?")), lines))
    more = [f"{len(things) - _MOST_LISTED} more"] if len(things) > _MOST_LISTED else []
    return ", ".join([*things[:_MOST_LISTED], *more])
