"""Finding one's way in the building by notes: what is written of a walk, and where to go next.

Lines of the map: `from lobby east: archive` (`archive closed` for a closed door), `exits of lobby:
east, south`, `thing stapler: archive`.
"""

import random
import re

from automem.agent.prompt_view import PromptView
from automem.memory.ops import AnyOp, Read, Upsert
from automem_envs.note_player import keyed, lines_of

_WENT = re.compile(r"^You went (\w+) from (\w+) to (\w+)\. Here: ([^.]+)\.", re.MULTILINE)
_AM = re.compile(r"^You are in: (\w+)\nExits: (.*)\nHere: (.*)$", re.MULTILINE)
_DOOR = re.compile(
    r"^Notice: the door between (\w+) and (\w+) is (closed from now on|open again)\.$",
    re.MULTILINE,
)
_MOVED = re.compile(r"^Notice: the (\w+) was moved to (\w+)\.$", re.MULTILINE)
_ERRAND = re.compile(r"^Go to the (\w+)\.$", re.MULTILINE)
_OPPOSITE = {"north": "south", "south": "north", "east": "west", "west": "east"}
_CLOSED = " closed"


def is_walking(text: str) -> bool:
    """Whether the observation shows a room."""
    return _AM.search(text) is not None


def notes(view: PromptView, file: str) -> list[AnyOp]:
    """What LOG writes of the present step; a door that changed is looked up first."""
    text = view.observation
    operations: list[AnyOp] = []
    if went := _WENT.search(text):
        direction, start, end, here = went.groups()
        operations.append(Upsert(file, f"from {start} {direction}", end))
        operations.append(Upsert(file, f"from {end} {_OPPOSITE[direction]}", start))
        operations += _things(file, end, here)
    if am := _AM.search(text):
        room, exits, here = am.groups()
        operations.append(Upsert(file, f"exits of {room}", exits))
        if not went or went[3] != room:
            operations += _things(file, room, here)
    if moved := _MOVED.search(text):
        operations.append(Upsert(file, f"thing {moved[1]}", moved[2]))
    if door := _DOOR.search(text):
        if not view.turns:
            return [Read(file)]
        operations += _door(keyed(lines_of(view, file)), file, *door.groups())
    return operations


def _things(file: str, room: str, here: str) -> list[AnyOp]:
    return [Upsert(file, f"thing {name}", room) for name in here.split(", ") if name != "nothing"]


def _door(known: dict[str, str], file: str, room: str, other: str, how: str) -> list[AnyOp]:
    """Both sides of the door, marked."""
    mark = "" if how == "open again" else _CLOSED
    operations: list[AnyOp] = []
    for key, text in known.items():
        end = text.removesuffix(_CLOSED)
        if key.startswith("from ") and {key.split()[1], end} == {room, other}:
            operations.append(Upsert(file, key, end + mark))
    return operations


def go(text: str, known: dict[str, str], chance: random.Random) -> str:
    """The next move: to the thing asked for, or to the nearest way not yet taken."""
    am = _AM.search(text)
    assert am is not None
    room, exits = am[1], am[2].split(", ")
    errand = _ERRAND.search(text)
    goal = known.get(f"thing {errand[1]}") if errand else None
    known = {**known, f"exits of {room}": am[2]}
    first = _first_move(room, goal, known)
    return f"go {first or chance.choice(exits)}"


def _first_move(start: str, goal: str | None, known: dict[str, str]) -> str:
    """Direction of the first move of a shortest way; empty where none is known."""
    queue = [(start, "")]
    seen = {start}
    for room, first in queue:
        if room == goal:
            return first
        exits = [way for way in known.get(f"exits of {room}", "").split(", ") if way]
        for way in exits:
            other = known.get(f"from {room} {way}", "")
            if not other and goal is None:
                return first or way
            if other and not other.endswith(_CLOSED) and other not in seen:
                seen.add(other)
                queue.append((other, first or way))
    return ""
