"""What the player reads after each action: a whole observation of a game, as text.

It keeps one thing of the past that the screen cannot show and a player would know: what lies
underfoot, which the player's own symbol hides. That is what was seen on the square before it was
stepped on, or the staircase that was just taken; an object that was picked up is forgotten.
"""

from automem_envs.nethack import text
from automem_envs.nethack.game import Game
from automem_envs.nethack.glyphs import STAIRS_DOWN, STAIRS_UP, cmap, tables
from automem_envs.nethack.scene import look_around
from automem_envs.nethack.sight import Place
from automem_envs.nethack.ways import ways

_COLUMN, _ROW, _DUNGEON, _LEVEL, _DEPTH = 0, 1, 23, 24, 12
"""Places of blstats."""
_NOTHING_HERE = "you see no objects here"


class View:
    """See the module's docstring."""

    def __init__(self, game: Game, shows_ways: bool = False, begins_on_stairs: bool = True) -> None:
        self._game = game
        self._shows_ways = shows_ways
        self._begins_on_stairs = begins_on_stairs
        self._tables = tables()
        self._pages = text.Pages()
        self._features = frozenset(self._tables.names[cmap(number)] for number in range(12, 65))
        self._stairs = {
            "up": self._tables.names[cmap(STAIRS_UP)],
            "down": self._tables.names[cmap(STAIRS_DOWN)],
        }
        self.reset()

    def reset(self) -> None:
        """Forget the last game. One of NetHack's own begins on the stairs up."""
        self._here: tuple[int, ...] = ()
        self._depth = 0
        self._things: dict[Place, str] = {}
        self._under = ""
        self._carried = ""

    def observe(self, notice: str = "", task: str = "") -> str:
        """The observation; `notice`, a line without a header, and `task` come first where there are
        any."""
        game = self._game
        numbers = game.blstats.tolist()
        here = (numbers[_COLUMN], numbers[_ROW])
        inventory = self._pages.inventory(game.inventory_texts, game.inventory_letters)
        self._step_onto(here, numbers, inventory)
        scene = look_around(game.glyphs, game.descriptions, here, self._tables)
        self._things = scene.things
        sections = [notice] if notice else []
        if task:
            sections.append(f"task:\n{task}")
        under = [f"under you: {self._under}"] if self._under else []
        around = "\n".join([*under, *scene.lines]) or "nothing but walls and floor"
        sections += [
            f"message:\n{game.message or 'none'}",
            f"around:\n{around}",
        ]
        if self._shows_ways:
            is_on_door = self._under == "open door"
            sections.append(f"ways:\n{ways(game.glyphs, here, self._tables, is_on_door)}")
        sections += [
            f"cursor:\n{text.cursor(game.cursor.tolist())}",
            f"map:\n{text.terminal(game.screen)}",
            f"inventory:\n{inventory}",
            f"status:\n{text.status(numbers)}",
        ]
        return "\n".join(sections)

    def _step_onto(self, here: Place, numbers: list[int], inventory: str) -> None:
        """Keep track of what is underfoot."""
        place = (*here, numbers[_DUNGEON], numbers[_LEVEL])
        if not self._here:
            self._under = self._stairs["up"] if self._begins_on_stairs else ""
        elif place[2:] != self._here[2:]:
            # Stairs lead to stairs; whoever falls lands anywhere.
            taken, down = self._under, numbers[_DEPTH] > self._depth
            is_stairs = taken == self._stairs["down" if down else "up"]
            self._under = self._stairs["up" if down else "down"] if is_stairs else ""
        elif place != self._here:
            self._under = self._things.get(here, "")
        if self._here and inventory != self._carried and not self._is_feature(self._under):
            self._under = ""
        if _NOTHING_HERE in self._game.message.lower():
            self._under = self._under if self._is_feature(self._under) else ""
        self._here, self._depth, self._carried = place, numbers[_DEPTH], inventory

    def _is_feature(self, name: str) -> bool:
        return name in self._features
