"""Two games of MiniGrid as text: Memory and RedBlueDoors.

Grid, view and rules are MiniGrid's; nothing is drawn. The observation says which way the player
faces, what lies straight ahead, what is in view with its distance, and shows the view itself as
characters. Progression is 1 where MiniGrid says that the task was solved.
"""

from typing import Any

from automem.errors import UsageError
from automem_envs.memory_games.package import game_of, import_game
from automem_envs.text_world import Seen, TextWorld

FACINGS = ("east", "south", "west", "north")
"""In the order of MiniGrid's directions."""
MOVES = {"turn left": 0, "turn right": 1, "go ahead": 2, "open": 5, "wait": 6}
"""Words to MiniGrid's actions; the ones that do nothing in these games are left out."""
_SIGNS = {"wall": "#", "key": "K", "ball": "B", "floor": "."}
_LEGEND = (
    "you are ^, ahead is up; # wall, . floor, ? not in view, K key, B ball, D door, / open door"
)
MAX_SIZE = 201


class GridWorld(TextWorld[int]):
    """What both games share: actions, the view in words, the end."""

    def __init__(self, game: Any, instruction: str) -> None:
        super().__init__(max_steps=game.max_steps)
        self.actions: tuple[str, ...] = tuple(MOVES)
        self.fallback_action = "wait"
        self.instruction = f"{instruction} Actions: {', '.join(MOVES)}."
        self._game = game
        self._names = _Names()
        self._taken = 0

    def begin(self, seed: int) -> Seen:
        seen, _ = self._game.reset(seed=seed)
        self._taken = 0
        return Seen(self._text(seen["image"]), 0.0)

    def read(self, action: str) -> int | None:
        return MOVES.get(" ".join(action.lower().split()))

    def play(self, move: int) -> Seen:
        seen, reward, is_over, _, _ = self._game.step(move)
        self._taken += 1
        is_solved = bool(is_over and reward > 0)
        stop = ("solved" if is_solved else "failed") if is_over else ""
        return Seen(self._text(seen["image"]), float(is_solved), bool(is_over), stop)

    def close(self) -> None:
        self._game.close()

    def _text(self, image: Any) -> str:
        cells = self._names.rows(image)
        rows = len(cells)
        middle = rows // 2
        things = []
        for back, row in enumerate(cells):
            for side, cell in enumerate(row):
                if cell and cell not in ("floor", "wall"):
                    things.append((rows - 1 - back, side - middle, cell))
        things.sort(key=lambda thing: (thing[0] + abs(thing[1]), thing))
        shown = "; ".join(f"{cell} {_where(ahead, side)}" for ahead, side, cell in things)
        picture = ["".join(_sign(cell) for cell in row) for row in cells]
        picture[-1] = picture[-1][:middle] + "^" + picture[-1][middle + 1 :]
        return "\n".join(
            [
                f"Step {self._taken} of {self.max_steps}",
                f"You face: {FACINGS[self._game.agent_dir]}",
                f"Straight ahead: {cells[-2][middle] or 'not in view'}",
                f"In view: {shown or 'nothing'}",
                f"View ({_LEGEND}):",
                *picture,
            ]
        )


class GridMemoryWorld(GridWorld):
    """MiniGrid's Memory: an object in a room at one end, two at the other: which is like it?"""

    def __init__(
        self, size: int = 13, random_length: bool = True, max_steps: int | None = None
    ) -> None:
        """MiniGrid's sizes are 7 to 17; its cap is 5 size^2 steps."""
        if size % 2 == 0 or not 7 <= size <= MAX_SIZE:
            raise UsageError(f"grid_memory: `size` must be odd, from 7 to {MAX_SIZE}, got {size}")
        game = game_of("minigrid.envs.memory", "MemoryEnv")(size, random_length, max_steps)
        super().__init__(
            game,
            "In a room at the west end of a corridor lies an object, a key or a ball. The corridor "
            "runs east and splits; at each side of the split lies an object. Go to the one that is "
            "like the one in the room; the other one ends the game.",
        )


class RedBlueDoorsWorld(GridWorld):
    """MiniGrid RedBlueDoors: open the red door, then the blue one."""

    def __init__(self, size: int = 8, max_steps: int | None = None) -> None:
        """MiniGrid's sizes are 6 and 8; its cap is 20 size^2 steps."""
        if not 5 <= size <= MAX_SIZE:
            raise UsageError(f"red_blue_doors: `size` must be from 5 to {MAX_SIZE}, got {size}")
        game = game_of("minigrid.envs.redbluedoors", "RedBlueDoorEnv")(size, max_steps)
        super().__init__(
            game,
            "You are in a room with a red door in its west wall and a blue door in its east wall. "
            "Open the red door, then the blue one; the blue one first ends the game. A door opens "
            "when you face it and it is straight ahead.",
        )


class _Names:
    """MiniGrid's numbers in words."""

    def __init__(self) -> None:
        constants = import_game("minigrid.core.constants")
        self._kinds = dict(constants.IDX_TO_OBJECT)
        self._colours = dict(constants.IDX_TO_COLOR)

    def rows(self, image: Any) -> list[list[str]]:
        """The view as MiniGrid encodes it (columns x rows x (kind, colour, state), uint8), as rows
        of words, farthest first; empty where a cell is not in view."""
        return [[self._name(*cell) for cell in row] for row in image.transpose(1, 0, 2).tolist()]

    def _name(self, kind: int, colour: int, state: int) -> str:
        name: str = self._kinds[kind]
        if name in _PLAIN:
            return _PLAIN[name]
        if name == "door":
            return f"{self._colours[colour]} door ({'open' if state == 0 else 'closed'})"
        return f"{self._colours[colour]} {name}"


_PLAIN = {"unseen": "", "empty": "floor", "wall": "wall"}
"""Names of kinds whose colour says nothing."""


def _sign(cell: str) -> str:
    if "door" in cell:
        return "/" if "open" in cell else "D"
    return _SIGNS[cell.split()[-1]] if cell else "?"


def _where(ahead: int, side: int) -> str:
    words = [f"{ahead} ahead"] if ahead else []
    if side:
        words.append(f"{abs(side)} {'right' if side > 0 else 'left'}")
    return " ".join(words)
