"""A scripted player of the eight MiniHack tasks that works from text and its memory files alone.

It explores and fights as the NetHack player does, freezes lava with a wand of cold (any wand it
carries, where lava bars a straight line), and solves Boxoban levels with the solver. Fountains
under boulders cannot be seen: it notes them all in `progress.txt` after the first move. With
`reads=False` it is its own memoryless twin.
"""

import random
from collections.abc import Iterable, Sequence
from functools import lru_cache

from automem.agent.prompt_view import PromptView
from automem.memory.ops import AnyOp, Read, Upsert
from automem_envs.minihack.sokoban import MOVES, SIZE, Level, solve
from automem_envs.nethack.player import NetHackPlayer
from automem_envs.nethack.route import Ground, first_step, nearest, ways_from
from automem_envs.nethack.sight import STEPS, Place, Sight, read_sight
from automem_envs.note_player import keyed, lines_of

PROGRESS_FILE = "progress.txt"
GOALS = "goals"
_BOULDER, _FOUNTAIN = "`", "{"
_REACH = 7
"""Squares that a ray surely covers."""


class MiniHackPlayer(NetHackPlayer):
    """See the module's docstring; implements `automem.engine.scripted.Player`."""

    def note(self, view: PromptView) -> Sequence[AnyOp]:
        """Goals of a Boxoban level, once; else what the NetHack player notes."""
        sight = read_sight(view.observation)
        if not _is_boxoban(sight):
            return super().note(view)
        if view.files.get(PROGRESS_FILE) and self.reads:
            return ()
        goals = _goals_shown(sight)
        if view.action in MOVES:
            # A boulder that was just pushed may hide one.
            east, south = STEPS[view.action]
            pushed = (sight.here[0] + east, sight.here[1] + south)
            if sight.sign(pushed) == _BOULDER and len(goals) < len(_places(sight, _BOULDER)):
                goals.add(pushed)
        text = " ".join(f"{column},{row}" for column, row in sorted(goals))
        return [Upsert(PROGRESS_FILE, GOALS, text)]

    def look_up(self, view: PromptView) -> Sequence[AnyOp]:
        """The goals, or notes on the level."""
        if _is_boxoban(read_sight(view.observation)):
            return [Read(PROGRESS_FILE)]
        return super().look_up(view)

    def answer(self, sight: Sight) -> str:
        """Which wand, and where to, on top of what the NetHack player answers."""
        message = sight.message.rpartition("\n")[2]
        if "What do you want to zap" in message:
            return _wand(sight) or "esc"
        return super().answer(sight)

    def direction(self, sight: Sight) -> str:
        """Towards lava in a straight line, else where the NetHack player would."""
        return _lava_in_line(sight) or super().direction(sight)

    def go(self, sight: Sight, view: PromptView, chance: random.Random) -> str:
        """The next move of a solution, else what the NetHack player would do."""
        if _is_boxoban(sight):
            return _push_on(sight, view) or chance.choice(list(MOVES))
        return super().go(sight, view, chance)

    def stuck(
        self, sight: Sight, ground: Ground, searched: dict[Place, int], chance: random.Random
    ) -> str:
        """Freeze lava that bars the way, else search."""
        if _wand(sight) and _places(sight, "}"):
            if _lava_in_line(sight):
                return "zap"
            came = ways_from(ground, sight.here)
            spot = nearest(came, lambda place: bool(_lava_in_line(sight, place)))
            if spot is not None:
                return first_step(came, spot)
        return super().stuck(sight, ground, searched, chance)


def _is_boxoban(sight: Sight) -> bool:
    return bool(_places(sight, _BOULDER)) and (
        bool(_places(sight, _FOUNTAIN)) or sight.under == "fountain" or _is_fenced(sight)
    )


def _is_fenced(sight: Sight) -> bool:
    """Iron bars on all sides of a 10 x 10 board, also when every fountain is covered."""
    corner = _corner(sight)
    return corner is not None and all(
        sight.sign((corner[0] + offset, corner[1])) == "#" for offset in range(SIZE)
    )


def _places(sight: Sight, sign: str) -> set[Place]:
    return {
        (column, row)
        for row, line in enumerate(sight.rows[1:22], start=1)
        for column, found in enumerate(line)
        if found == sign
    }


def _corner(sight: Sight) -> Place | None:
    """North-west corner of the board."""
    bars = _places(sight, "#")
    if not bars:
        return None
    return min(column for column, _ in bars), min(row for _, row in bars)


def _goals_shown(sight: Sight) -> set[Place]:
    found = _places(sight, _FOUNTAIN)
    return found | {sight.here} if sight.under == "fountain" else found


def _goals_noted(view: PromptView) -> set[Place]:
    text = keyed(lines_of(view, PROGRESS_FILE)).get(GOALS, "")
    pairs = (part.partition(",") for part in text.split())
    return {
        (int(column), int(row)) for column, _, row in pairs if column.isdigit() and row.isdigit()
    }


def _push_on(sight: Sight, view: PromptView) -> str:
    """The next move of the best solution; empty where none is found, for want of goals mostly."""
    corner = _corner(sight)
    goals = _goals_noted(view) | _goals_shown(sight)
    boxes = _places(sight, _BOULDER)
    if corner is None or len(goals) != len(boxes):
        return ""
    columns, rows = range(corner[0], corner[0] + SIZE), range(corner[1], corner[1] + SIZE)
    ground = (
        (column, row) for row in rows for column in columns if sight.sign((column, row)) not in "# "
    )
    try:
        level = Level(
            _bits(ground, corner),
            _bits(goals, corner),
            _bits(boxes, corner),
            _square(sight.here, corner),
        )
    except ValueError:
        return ""
    return _next_move(level)


def _square(place: Place, corner: Place) -> int:
    return SIZE * (place[1] - corner[1]) + place[0] - corner[0]


def _bits(places: Iterable[Place], corner: Place) -> int:
    return sum(1 << _square(place, corner) for place in places)


@lru_cache(maxsize=4096)
def _next_move(level: Level) -> str:
    """A pure function, remembered since it is asked twice for each step."""
    moves = solve(level, budget=20_000)
    return moves[0] if moves else ""


def _wand(sight: Sight) -> str:
    """The letter of a wand that is not known to be of another kind."""
    for letter, name in sight.carried.items():
        if name.endswith(" wand") or "wand of cold" in name:
            return letter
    return ""


def _lava_in_line(sight: Sight, start: Place | None = None) -> str:
    """The straight direction in which lava lies with nothing but free squares before it."""
    column, row = sight.here if start is None else start
    for word in MOVES:
        east, south = STEPS[word]
        for away in range(1, _REACH):
            sign = sight.sign((column + away * east, row + away * south))
            if sign == "}":
                return word
            if sign in " |-+#`":
                break
    return ""
