"""A scripted player of Battleship: a chart of every shot, and a plan of where to shoot next.

`map.txt` holds a line per row (`row 7: ..o.x.....`), `strategy.txt` the next shot, the squares
beside hits that wait, and where the search goes on. LOG keeps both and decides the next shot, since
rows have to be looked up for it; PLAN reads one line. The search takes every other square: no ship
of two squares or more escapes it.
"""

import random
import re
from collections.abc import Sequence

from automem.agent.prompt_view import PromptView
from automem.memory.ops import AnyOp, Read, Search, Upsert
from automem_envs.note_player import NotePlayer, keyed, lines_of

CHART_FILE = "map.txt"
PLAN_FILE = "strategy.txt"
_SHOT = re.compile(r"^Shot at (\d+) (\d+): (hit|miss)$", re.MULTILINE)
_SIZE = re.compile(r"^Say: shoot ROW COLUMN, each from 1 to (\d+)$", re.MULTILINE)
_MOST_LOOKS = 8
"""Turns that LOG spends looking for an open square before it leaves that to the next step."""
Square = tuple[int, int]


class BattleshipPlayer(NotePlayer):
    """See the module's docstring. Shoots at random where it has no plan in view."""

    def note(self, view: PromptView) -> Sequence[AnyOp]:
        shot = _SHOT.search(view.observation)
        if not shot:
            return []
        row, column = int(shot[1]), int(shot[2])
        board = _board(view)
        if not view.turns:
            near = [n for n in (row - 1, row, row + 1) if 1 <= n <= board]
            return [Read(PLAN_FILE), *(Search(CHART_FILE, f"row {n}: ") for n in near)]
        chart = _Chart(view, board)
        chart.mark(row, column, "x" if shot[3] == "hit" else "o")
        plan = keyed(lines_of(view, PLAN_FILE))
        waiting = _squares(plan.get("waiting", ""))
        if shot[3] == "hit":
            waiting += _beside(row, column, board)
        waiting = [s for s in dict.fromkeys(waiting) if not chart.is_shot(*s)]
        search = (_squares(plan.get("search", "")) or [(1, 1)])[0]
        while chart.is_known(search[0]) and chart.is_shot(*search):
            search = _after(search, board)
        if not waiting and not chart.is_known(search[0]) and view.turns < _MOST_LOOKS:
            return [Search(CHART_FILE, f"row {search[0]}: ")]
        aim = waiting[0] if waiting else search
        return [
            Upsert(CHART_FILE, f"row {row}", chart.text(row)),
            Upsert(PLAN_FILE, "next", _words([aim])),
            Upsert(PLAN_FILE, "waiting", _words(waiting) or "none"),
            Upsert(PLAN_FILE, "search", _words([search])),
        ]

    def look_up(self, view: PromptView) -> Sequence[AnyOp]:
        return [Search(PLAN_FILE, "next: ")]

    def decide(self, view: PromptView, chance: random.Random) -> str:
        aims = _squares(keyed(lines_of(view, PLAN_FILE)).get("next", ""))
        row, column = aims[0] if aims else _any(_board(view), chance)
        return f"shoot {row} {column}"


def _board(view: PromptView) -> int:
    """Rows of the board, as the observation says."""
    found = _SIZE.search(view.observation)
    return int(found[1]) if found else 1


def _any(board: int, chance: random.Random) -> Square:
    return chance.randint(1, board), chance.randint(1, board)


def _beside(row: int, column: int, board: int) -> list[Square]:
    squares = [(row, column + 1), (row, column - 1), (row + 1, column), (row - 1, column)]
    return [square for square in squares if min(square) >= 1 and max(square) <= board]


def _after(square: Square, board: int) -> Square:
    """The next square of the search: every other one, row by row; then all over again."""
    row, column = square
    column += 2
    if column > board:
        row = row % board + 1
        column = 1 + (row + 1) % 2
    return row, column


class _Chart:
    """Rows in view: `.` for open squares, `o` for misses, `x` for hits."""

    def __init__(self, view: PromptView, board: int) -> None:
        self._board = board
        self._rows = {
            int(result.argument.split()[1].rstrip(":")): "." * board
            for result in view.results
            if result.name == "SEARCH" and result.argument.startswith("row ")
        }
        for key, text in keyed(lines_of(view, CHART_FILE)).items():
            self._rows[int(key.split()[1])] = text

    def is_known(self, row: int) -> bool:
        return row in self._rows

    def is_shot(self, row: int, column: int) -> bool:
        return self._rows.get(row, "." * self._board)[column - 1] != "."

    def mark(self, row: int, column: int, sign: str) -> None:
        text = self._rows.get(row, "." * self._board)
        if text[column - 1] == ".":
            self._rows[row] = text[: column - 1] + sign + text[column:]

    def text(self, row: int) -> str:
        return self._rows[row]


def _squares(text: str) -> list[Square]:
    """`3 4, 5 6` as pairs; anything else is left out."""
    return [(int(a), int(b)) for a, b in re.findall(r"(\d+) (\d+)", text)]


def _words(squares: list[Square]) -> str:
    return ", ".join(f"{row} {column}" for row, column in squares)
