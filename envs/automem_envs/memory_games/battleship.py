"""POPGym's Battleship as text: ships lie on a board that is never shown.

A shot is answered with hit or miss and nothing else; a shot at a place shot before is a miss.
Progression is the share of the ships' squares that were hit. POPGym's horizon is one shot a square,
with which even forgetful shooting hits most: `shots` makes it tighter.

POPGym places the ships in the order of the list and would look for ever for room that the others
left none of. Then the fleet is placed again, longest ship first, which at most a third of the board
leaves room for; fleets that fit lie as POPGym lays them.
"""

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automem.errors import UsageError
from automem_envs.memory_games.package import game_of
from automem_envs.text_world import Seen, TextWorld

SHIPS = (2, 3, 3, 4)
"""POPGym's fleet."""
MAX_BOARD = 200
_MOST_FLEETS = 1000
"""Placed again in vain; longest first, the second one is as good as certain to fit."""
_SHOOT = re.compile(r"shoot\s+([0-9]{1,4})\s+([0-9]{1,4})", re.IGNORECASE)


class _NoRoomError(Exception):
    """The ships that lie already leave no room for the next."""


class BattleshipWorld(TextWorld[tuple[int, int]]):
    """See the module's docstring."""

    def __init__(
        self, board: int = 10, ships: tuple[int, ...] | list[int] = SHIPS, shots: int | None = None
    ) -> None:
        """POPGym's sizes: boards of 8, 10 and 12. At most a third of the board may be ships."""
        if not 4 <= board <= MAX_BOARD:
            raise UsageError(f"battleship: `board` must be from 4 to {MAX_BOARD}, got {board}")
        if not ships or min(ships) < 1 or max(ships) > board or 3 * sum(ships) > board**2:
            raise UsageError(
                "battleship: `ships` must be lengths from 1 to the board's, a third of its squares "
                f"at most in all; got {list(ships)} on a board of {board}"
            )
        if shots is not None and not 1 <= shots <= board**2:
            raise UsageError(f"battleship: `shots` must be from 1 to {board**2}, got {shots}")
        game = game_of("popgym.envs.battleship", "Battleship")
        self._ships = list(ships)
        self._game = game(board_size=board, ship_sizes=self._ships)
        self._place_anywhere = self._game.place_ship
        self._game.place_ship = self._place
        super().__init__(max_steps=shots or board**2)
        self.board = board
        self.actions = f"shoot ROW COLUMN, each from 1 to {board}"
        self.fallback_action = "shoot 1 1"
        self.instruction = (
            f"Ships of lengths {', '.join(map(str, ships))} lie hidden on a board of {board} rows "
            f"and {board} columns, in rows or columns. You have {self.max_steps} shots; each is "
            "answered with hit or miss. A square that was shot at before is a miss. Hit every "
            "square of every ship."
        )
        self._shots = 0

    def begin(self, seed: int) -> Seen:
        self._lay_out(seed)
        self._shots = 0
        return Seen(self._text("No shot yet."), 0.0)

    def read(self, action: str) -> tuple[int, int] | None:
        found = _SHOOT.fullmatch(action)
        if found is None:
            return None
        row, column = int(found[1]) - 1, int(found[2]) - 1
        return (row, column) if 0 <= min(row, column) <= max(row, column) < self.board else None

    def play(self, move: tuple[int, int]) -> Seen:
        is_hit, _, is_over, _, _ = self._game.step(move)
        self._shots += 1
        row, column = move
        text = self._text(f"Shot at {row + 1} {column + 1}: {'hit' if is_hit else 'miss'}")
        progression = self._game.hits / self._game.needed_hits
        return Seen(text, progression, bool(is_over), "all ships sunk" if is_over else "")

    def _lay_out(self, seed: int) -> None:
        """The fleet of `seed`, a function of it."""
        self._game.ship_sizes = self._ships
        for attempt in range(_MOST_FLEETS):
            try:
                # Without a seed, the game's random numbers go on.
                self._game.reset(seed=None if attempt else seed)
            except _NoRoomError:
                self._game.ship_sizes = sorted(self._ships, reverse=True)
            else:
                return
        raise RuntimeError(f"no room for ships of {self._ships} on a board of {self.board}")

    def _place(self, board: NDArray[np.int8], length: int) -> Any:
        """POPGym's own way, where there is room."""
        if not has_room(board, length):
            raise _NoRoomError
        return self._place_anywhere(board, length)

    def _text(self, event: str) -> str:
        say = f"Say: shoot ROW COLUMN, each from 1 to {self.board}"
        return f"{event}\nShots left: {self.max_steps - self._shots}\n{say}"


def has_room(board: NDArray[np.int8], length: int) -> bool:
    """Whether a ship fits in some row or column of a square board (1 where a ship lies)."""
    side = len(board)
    # A row that holds fewer squares than it has stretches of that length has a free one.
    if int(board.sum()) < side * (side // length):
        return True
    stretches = (np.lib.stride_tricks.sliding_window_view(board, length, axis) for axis in (0, 1))
    return any(bool((~found.any(axis=-1)).any()) for found in stretches)
