"""A scripted player of Memento with two branches: notes the creature, goes east, turns by its note.

It reads the map around the @ and what is next to it, nothing else. With four branches it only
guesses between the outer two. `reads=False` is its memoryless twin, which waits a little for the
creature and then guesses.
"""

import random
import re
from collections.abc import Sequence

from automem.agent.prompt_view import PromptView
from automem.memory.ops import AnyOp, Search, Upsert
from automem_envs.note_player import NotePlayer, keyed, lines_of

NOTES_FILE = "progress.txt"
_KEY = "the creature means"
_BRANCH = {"blue jelly": "north", "lichen": "south"}
_CREATURE = re.compile(rf"^({'|'.join(_BRANCH)}) \d+ step", re.MULTILINE)
_BUG = re.compile(r"^grid bug 1 step (\w+)$", re.MULTILINE)
_TURN = re.compile(r"\bturn (\d+)$", re.MULTILINE)
_PATIENCE = 4
"""Turns for which the twin looks at the creature before it goes."""


class MementoPlayer(NotePlayer):
    """See the module's docstring."""

    def note(self, view: PromptView) -> Sequence[AnyOp]:
        seen = _CREATURE.search(view.observation)
        return [Upsert(NOTES_FILE, _KEY, _BRANCH[seen[1]])] if seen else []

    def look_up(self, view: PromptView) -> Sequence[AnyOp]:
        return [Search(NOTES_FILE, _KEY)]

    def decide(self, view: PromptView, chance: random.Random) -> str:
        text = view.observation
        branch = keyed(lines_of(view, NOTES_FILE)).get(_KEY)
        turn = _TURN.search(text)
        if branch is None and turn and int(turn[1]) < _PATIENCE:
            return "search"
        if bug := _BUG.search(text):
            return bug[1]
        beside = _beside(text)
        if beside["east"] not in " |-":
            return "far east"
        if branch is None:
            # Where only one way is open, it is the branch that was taken.
            ways = [way for way in ("north", "south") if beside[way] not in "|-"]
            branch = chance.choice(ways or ["north"])
        return f"far {branch}"


def _beside(text: str) -> dict[str, str]:
    """Signs of the map around the @; blanks where there is none."""
    lines = text.partition("map:\n")[2].split("\n")
    for row, line in enumerate(lines):
        if (column := line.find("@")) >= 0:
            places = {"north": (row - 1, column), "south": (row + 1, column)}
            places["east"] = (row, column + 1)
            return {way: _sign(lines, *place) for way, place in places.items()}
    return {"north": " ", "south": " ", "east": " "}


def _sign(lines: list[str], row: int, column: int) -> str:
    line = lines[row] if 0 <= row < len(lines) else ""
    return line[column] if column < len(line) else " "
