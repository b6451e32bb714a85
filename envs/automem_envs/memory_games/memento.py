"""MiniHack Memento as text: a creature seen at the start says which way to turn much later.

Behind bars near the start sleeps a creature; a long corridor forks at its end; one branch leads to
a grid bug, the others to a board that squeaks. Killing the bug solves the task, a squeak ends it:
MiniHack's own rules, read from what the game says. It is played as NetHack is, in words.
Progression is 1 where the bug was killed.
"""

from typing import Any

from automem.errors import UsageError
from automem_envs.nethack.installed import require_minihack
from automem_envs.nethack.keys import NO_WAY_UP, keys_without_up
from automem_envs.text_world import Seen, TextWorld

LAYOUTS = {
    "short": "MiniHackMementoShortF2",
    "two": "MiniHackMementoF2",
    "four": "MiniHackMementoF4",
}
"""Name to MiniHack's class: a short corridor with two branches, a long one with two, with four."""
_TWO = "a blue jelly means the northern branch, a lichen the southern one"
_SIGNS = {
    "short": _TWO,
    "two": _TWO,
    "four": (
        "there are two creatures and four branches: with a red mold, a blue jelly means the "
        "northernmost and a spotted jelly the second; with a green mold, a blue jelly means the "
        "third and a spotted jelly the southernmost"
    ),
}
"""What an agent that plays one episode cannot have learned; MiniHack leaves it to be learned."""
_WON = ("kill the grid bug", "destroy the grid bug")
_LOST = "squeak"


class MementoWorld(TextWorld[tuple[int, ...]]):
    """See the module's docstring. Needs `make setup-nethack`."""

    def __init__(self, layout: str = "short", max_steps: int = 200) -> None:
        """MiniHack's own cap is 5,000 steps."""
        if layout not in LAYOUTS:
            raise UsageError(f"memento: `layout` must be one of {', '.join(LAYOUTS)}, got {layout}")
        require_minihack()
        super().__init__(max_steps)
        self._layout = layout
        self.actions = NO_WAY_UP
        self.fallback_action = "esc"
        self.instruction = (
            "A small level of NetHack. Behind iron bars near the start sleeps a creature. East of "
            "it a corridor forks; one branch leads to a grid bug, every other to a board that "
            f"squeaks, which ends the game. The creature tells which: {_SIGNS[layout]}. Kill the "
            f"grid bug by walking into it.\n\nActions: {NO_WAY_UP}."
        )
        self._played: Any = None
        self._view: Any = None

    def begin(self, seed: int) -> Seen:
        from automem_envs.minihack.tasks import Task, build
        from automem_envs.nethack.view import View

        self.close()
        task = Task(
            f"Memento-{self._layout}", "kill the grid bug", f"memento.{LAYOUTS[self._layout]}"
        )
        self._played = build(task, seed)
        self._played.game.begin()
        self._view = View(self._played.game, False, begins_on_stairs=False)
        return Seen(str(self._view.observe("", "")), 0.0)

    def read(self, action: str) -> tuple[int, ...] | None:
        return keys_without_up(action, self._played.game.prompt)

    def play(self, move: tuple[int, ...]) -> Seen:
        game = self._played.game
        game.press(move)
        message = game.message.lower()
        if game.is_over:
            return Seen(f"message:\n{game.message or 'none'}", 0.0, is_over=True, stop=game.end)
        text = str(self._view.observe("", ""))
        if any(words in message for words in _WON):
            return Seen(text, 1.0, is_over=True, stop="solved")
        is_lost = _LOST in message
        return Seen(text, 0.0, is_over=is_lost, stop="the board squeaked" if is_lost else "")

    def close(self) -> None:
        """Free the game."""
        if self._played is not None:
            self._played.close()
            self._played = None
