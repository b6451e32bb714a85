"""What the player reads after each action: a whole observation of a game, as text.

It keeps one thing of the past that the screen cannot show and a player would know: what lies
underfoot (`underfoot`), which the player's own symbol hides.
"""

from automem_envs.nethack import text
from automem_envs.nethack.game import Game
from automem_envs.nethack.glyphs import tables
from automem_envs.nethack.scene import look_around
from automem_envs.nethack.underfoot import Underfoot
from automem_envs.nethack.ways import ways

_COLUMN, _ROW = 0, 1
"""Places of blstats."""


class View:
    """See the module's docstring."""

    def __init__(self, game: Game, shows_ways: bool = False, begins_on_stairs: bool = True) -> None:
        self._game = game
        self._shows_ways = shows_ways
        self._begins_on_stairs = begins_on_stairs
        self._tables = tables()
        self._pages = text.Pages()
        self.reset()

    def reset(self) -> None:
        """Forget the last game."""
        self._underfoot = Underfoot(self._tables, self._begins_on_stairs)

    def observe(self, notice: str = "", task: str = "") -> str:
        """The observation; `notice`, a line without a header, and `task` come first where there are
        any."""
        game = self._game
        numbers = game.blstats.tolist()
        here = (numbers[_COLUMN], numbers[_ROW])
        inventory = self._pages.inventory(game.inventory_texts, game.inventory_letters)
        self._underfoot.step(numbers, game.message, inventory)
        scene = look_around(game.glyphs, game.descriptions, here, self._tables)
        self._underfoot.look(game.glyphs, scene.things, here)
        sections = [notice] if notice else []
        if task:
            sections.append(f"task:\n{task}")
        under = [f"under you: {self._underfoot.text}"] if self._underfoot.text else []
        around = "\n".join([*under, *scene.lines]) or "nothing but walls and floor"
        sections += [
            f"message:\n{game.message or 'none'}",
            f"around:\n{around}",
        ]
        if self._shows_ways:
            is_on_door = self._underfoot.feature == "open door"
            sections.append(f"ways:\n{ways(game.glyphs, here, self._tables, is_on_door)}")
        sections += [
            f"cursor:\n{text.cursor(game.cursor.tolist())}",
            f"map:\n{text.terminal(game.screen)}",
            f"inventory:\n{inventory}",
            f"status:\n{text.status(numbers)}",
        ]
        return "\n".join(sections)
