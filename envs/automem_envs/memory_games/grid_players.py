"""Scripted players of the two grid games.

The Memory player walks west until it sees the room's object, notes it, walks east and turns to the
object that its note names. The doors player notes that the red door is open and then stops looking
for it. With `reads=False` a player is its memoryless twin; that of Memory gives the room some time
and then guesses.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from automem.agent.prompt_view import PromptView
from automem.memory.ops import AnyOp, Search, Upsert
from automem_envs.memory_games.grids import FACINGS
from automem_envs.note_player import NotePlayer, keyed, lines_of

NOTES_FILE = "progress.txt"
_STEP = re.compile(r"^Step (\d+) of (\d+)$", re.MULTILINE)
_FACE = re.compile(r"^You face: (\w+)$", re.MULTILINE)
_AHEAD = re.compile(r"^Straight ahead: (.+)$", re.MULTILINE)
_VIEW = re.compile(r"^In view: (.+)$", re.MULTILINE)
_THING = re.compile(r"(.+?)(?: (\d+) ahead)?(?: (\d+) (left|right))?")
_OBJECT = "object of the room"
_RED = "red door"
_IS_OPEN = "opened"


@dataclass(frozen=True, slots=True)
class Thing:
    """Something in view, `ahead` and to the `side` (right is positive) in cells."""

    name: str
    ahead: int
    side: int


@dataclass(frozen=True, slots=True)
class Grid:
    """An observation, read back."""

    step: int
    face: str
    ahead: str
    things: tuple[Thing, ...]
    sides: tuple[str, str]
    """Signs of the cells left and right of the player."""

    def first(self, name: str) -> Thing | None:
        """The nearest thing whose name begins so."""
        return next((thing for thing in self.things if thing.name.startswith(name)), None)


def read_grid(text: str) -> Grid:
    """Parse an observation."""
    view = _VIEW.search(text)
    things = []
    for words in view[1].split("; ") if view and view[1] != "nothing" else []:
        if found := _THING.fullmatch(words):
            side = int(found[3] or 0) * (-1 if found[4] == "left" else 1)
            things.append(Thing(found[1], int(found[2] or 0), side))
    last = text.rstrip().split("\n")[-1]
    place = last.find("^")
    step, face, ahead = _STEP.search(text), _FACE.search(text), _AHEAD.search(text)
    return Grid(
        int(step[1]) if step else 0,
        face[1] if face else "east",
        ahead[1] if ahead else "",
        tuple(things),
        (last[place - 1 : place], last[place + 1 : place + 2]),
    )


class GridMemoryPlayer(NotePlayer):
    """See the module's docstring."""

    patience = 12
    """Steps that the twin, who cannot know whether it saw the object, looks for it."""

    def note(self, view: PromptView) -> Sequence[AnyOp]:
        grid = read_grid(view.observation)
        # Facing west only the room's object can be in view: the other two lie behind.
        if grid.face == "west" and (found := grid.first("green ")):
            return [Upsert(NOTES_FILE, _OBJECT, found.name)]
        return []

    def look_up(self, view: PromptView) -> Sequence[AnyOp]:
        return [Search(NOTES_FILE, _OBJECT)]

    def decide(self, view: PromptView, chance: random.Random) -> str:
        grid = read_grid(view.observation)
        wanted = keyed(lines_of(view, NOTES_FILE)).get(_OBJECT)
        is_searching = wanted is None and (self.reads or grid.step < self.patience)
        if is_searching:
            return "go ahead" if grid.face == "west" else _turn(grid.face, "west")
        if grid.face != "east":
            # At the split the object turned to lies two cells ahead; elsewhere this is half a turn.
            at_split = any((thing.ahead, thing.side) == (2, 0) for thing in grid.things)
            is_there = at_split and grid.face != "west"
            return "go ahead" if is_there else _turn(grid.face, "east")
        if grid.ahead != "wall":
            return "go ahead"
        goal = grid.first(wanted or chance.choice(("green key", "green ball")))
        return "turn right" if goal and goal.side > 0 else "turn left"


class RedBlueDoorsPlayer(NotePlayer):
    """See the module's docstring."""

    def note(self, view: PromptView) -> Sequence[AnyOp]:
        is_open = any(t.name == "red door (open)" for t in read_grid(view.observation).things)
        return [Upsert(NOTES_FILE, _RED, _IS_OPEN)] if is_open else []

    def look_up(self, view: PromptView) -> Sequence[AnyOp]:
        return [Search(NOTES_FILE, _RED)]

    def decide(self, view: PromptView, chance: random.Random) -> str:
        grid = read_grid(view.observation)
        is_open = keyed(lines_of(view, NOTES_FILE)).get(_RED) == _IS_OPEN
        side, door = ("east", "blue door") if is_open else ("west", "red door")
        found = grid.first(door)
        return _approach(grid, found, side) if found else _patrol(grid, side)


def _approach(grid: Grid, door: Thing, side: str) -> str:
    """To the wall first, then along it, so that the door stays in view; then open it."""
    if grid.face == side:
        if door.ahead > 1:
            return "go ahead"
        if door.side:
            return "turn right" if door.side > 0 else "turn left"
        return "open"
    return "go ahead" if door.ahead else _turn(grid.face, side)


def _patrol(grid: Grid, side: str) -> str:
    """To the wall on that side, then up and down along it until the door comes into view."""
    if grid.face in ("north", "south"):
        wall = grid.sides[0 if _turn(grid.face, side) == "turn left" else 1]
        if wall != "#":
            return _turn(grid.face, side)
        if grid.ahead != "wall":
            return "go ahead"
        return _turn(grid.face, "south" if grid.face == "north" else "north")
    if grid.face == side:
        if grid.ahead == "floor":
            return "go ahead"
        north = grid.sides[0 if side == "east" else 1]
        return _turn(grid.face, "south" if north == "#" else "north")
    return _turn(grid.face, side)


def _turn(face: str, to: str) -> str:
    """The shorter turn; half a turn goes right."""
    quarters = (FACINGS.index(to) - FACINGS.index(face)) % 4
    return "turn left" if quarters == 3 else "turn right"
