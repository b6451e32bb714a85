"""POPGym's Battleship as text: ships lie on a board that is never shown.

A shot is answered with hit or miss and nothing else; a shot at a place shot before is a miss.
Progression is the share of the ships' squares that were hit. POPGym's horizon is one shot a square,
with which even forgetful shooting hits most: `shots` makes it tighter.
"""

import re

from automem.errors import UsageError
from automem_envs.memory_games.package import game_of
from automem_envs.text_world import Seen, TextWorld

SHIPS = (2, 3, 3, 4)
"""POPGym's fleet."""
MAX_BOARD = 200
_SHOOT = re.compile(r"shoot\s+([0-9]{1,4})\s+([0-9]{1,4})", re.IGNORECASE)


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
        self._game = game(board_size=board, ship_sizes=list(ships))
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
        self._game.reset(seed=seed)
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

    def _text(self, event: str) -> str:
        say = f"Say: shoot ROW COLUMN, each from 1 to {self.board}"
        return f"{event}\nShots left: {self.max_steps - self._shots}\n{say}"
