"""MiniHack's eight published tasks as a world of text, read and played as NetHack is.

Promise: deterministic given seed and actions, in any process; progression is 1 where the task was
solved, by the task's own end status, else 0. An episode is restored by replaying its actions.

`task: all` plays the eight tasks in turn, so that one run makes the published table: seed 8 x s + t
plays task t with level seed s. The table's seeds 42 to 46 are then 336 to 375. Since every task
gets equally many episodes, the run's mean is the mean over tasks.
"""

import string
from typing import Any

import gymnasium

from automem.errors import UsageError
from automem_envs.nethack.installed import require_minihack
from automem_envs.nethack.keys import ESCAPE, NO_WAY_UP, Prompt, keys_without_up
from automem_envs.text_world import checked_cap, quoted

PUBLISHED_MAX_STEPS = 100
ALL = "all"
TASK_NAMES = (
    "Boxoban-Hard",
    "Boxoban-Medium",
    "MazeWalk-9x9",
    "MazeWalk-15x15",
    "Corridor-R3",
    "CorridorBattle-Dark",
    "Quest-Easy",
    "Quest-Medium",
)
PUBLISHED_SEEDS = tuple(8 * seed + task for seed in range(42, 47) for task in range(8))
"""For `task: all`: level seeds 42 to 46, each with all eight tasks."""
BOXOBAN_ACTIONS = ("north", "east", "south", "west", "esc")
_TURN = 20

_SHOWN = """\
The observation shows: what the game says; what is around, with distance in steps and direction; the
cursor, which is on you, the @; the map; what you carry; your status. On the map . is floor, # a
corridor, | and - walls or open doors, + a closed door, < and > stairs, ` a boulder, { a fountain,
red } lava; letters are creatures and other signs are objects. Things are picked up by walking onto
them."""
_ASKING = """\
Some commands ask for more: give the letter of a thing you carry, a direction, y or n. Walk into
creatures to fight them. `kick` opens locked doors. `apply` or `zap`, then the letter, then a
direction uses horns and wands."""
_NO_ACTION = "An answer that is no action does `esc`."


class MiniHackWorld(gymnasium.Env[str, str]):
    """See the module's docstring; implements `automem.world.World`.

    `info`: `progression`; `task` and `level_seed`; for Boxoban `levels`, which is `generated` or
    `files`; `turn`; `invalid_action` after an answer that is no action; `stop` at the end:
    `solved`, `cap`, or how the hero died. The reward is 1 for solving."""

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 - Gymnasium's own declaration

    def __init__(
        self,
        task: str = ALL,
        max_steps: int = PUBLISHED_MAX_STEPS,
        boxoban_files: str | None = None,
        shows_ways: bool = False,
    ) -> None:
        """`boxoban_files`: file or folder of the original levels; None generates levels."""
        if task != ALL and task not in TASK_NAMES:
            raise UsageError(f"minihack: `task` is {ALL} or one of {', '.join(TASK_NAMES)}")
        require_minihack()
        from automem_envs.minihack import tasks
        from automem_envs.nethack.glyphs import names

        self._tasks = tasks
        if boxoban_files is not None:
            self._check_files(boxoban_files, task)
        self.task = task
        self.max_steps = checked_cap(max_steps)
        self.boxoban_files = boxoban_files
        self.actions = self._advertise()
        self.fallback_action = "esc"
        self.instruction = self._instruct()
        self.vocabulary: tuple[str, ...] = names()
        self.action_space = gymnasium.spaces.Text(200, charset=string.printable)
        self.observation_space = gymnasium.spaces.Text(20_000, charset=string.printable)
        self._shows_ways = shows_ways
        self._played: Any = None
        self._is_on = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start the episode of `seed`."""
        from automem_envs.nethack.view import View

        super().reset(seed=seed)
        if seed is None:
            seed = int(self.np_random.integers(2**31 - 1))
        level_seed, number = divmod(seed, len(TASK_NAMES)) if self.task == ALL else (seed, None)
        name = self.task if number is None else TASK_NAMES[number]
        self.close()
        self._played = self._tasks.build(self._tasks.BY_NAME[name], level_seed, self.boxoban_files)
        self._played.game.begin()
        self._view = View(self._played.game, self._shows_ways, begins_on_stairs=False)
        self._steps = 0
        self._is_on = True
        self._about = {"progression": 0.0, "task": name, "level_seed": level_seed}
        if self._played.levels:
            self._about["levels"] = self._played.levels
        return self._observe(""), self._info()

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """One action in words. Anything that is not one executes the fallback."""
        if not self._is_on:
            raise gymnasium.error.ResetNeeded("call reset before the first step")
        game = self._played.game
        keys = self._keys(action, game.prompt)
        game.press((ESCAPE,) if keys is None else keys)
        self._steps += 1
        notice = ""
        if keys is None:
            notice = f'"{quoted(action)}" is not an action here; esc was done instead.'
        is_solved = not game.is_over and self._played.is_won()
        stop = "solved" if is_solved else game.end if game.is_over else ""
        is_cut = not stop and self._steps >= self.max_steps
        info = self._info()
        if is_solved:
            info["progression"] = 1.0
        if keys is None:
            info["invalid_action"] = True
        if stop or is_cut:
            info["stop"] = stop or "cap"
            self._is_on = False
        text = self._last(notice, stop) if game.is_over else self._observe(notice)
        return text, float(is_solved), bool(stop), is_cut, info

    def close(self) -> None:
        """Free the game."""
        self._is_on = False
        if self._played is not None:
            self._played.close()
            self._played = None

    def _keys(self, action: str, prompt: Prompt) -> tuple[int, ...] | None:
        """Keys of an action that this task has."""
        keys = keys_without_up(action, prompt)
        if self._played.task.is_boxoban and prompt is Prompt.NONE:
            return keys if " ".join(action.lower().split()) in BOXOBAN_ACTIONS else None
        return keys

    def _observe(self, notice: str) -> str:
        goal = f"{self._about['task']}: {self._played.task.goal}" if self.task == ALL else ""
        return str(self._view.observe(notice, goal))

    def _last(self, notice: str, stop: str) -> str:
        """After the end of the game there is no screen, only what it said."""
        lines = [notice] if notice else []
        lines += [f"message:\n{self._played.game.message or 'none'}", f"the game is over: {stop}"]
        return "\n".join(lines)

    def _info(self) -> dict[str, Any]:
        return {**self._about, "turn": int(self._played.game.blstats[_TURN])}

    def _advertise(self) -> tuple[str, ...] | str:
        """What can be done in every level of this world; one text where there are all tasks."""
        if self.task == ALL:
            return f"{NO_WAY_UP}; in Boxoban tasks only {', '.join(BOXOBAN_ACTIONS)}"
        return BOXOBAN_ACTIONS if self._tasks.BY_NAME[self.task].is_boxoban else NO_WAY_UP

    def _instruct(self) -> str:
        if self.task == ALL:
            goals = (
                "Your task, one of several small ones of NetHack, stands first in each observation."
            )
        else:
            goals = (
                f"Your task in this small level of NetHack: {self._tasks.BY_NAME[self.task].goal}."
            )
        if isinstance(self.actions, str):
            how = f"Actions: {self.actions}.\n{_ASKING}"
        else:
            how = f"Actions: {', '.join(self.actions)}."
        return f"{goals} You have {self.max_steps} actions.\n\n{_SHOWN}\n\n{how}\n{_NO_ACTION}"

    def _check_files(self, path: str, task: str) -> None:
        """UsageError early, where the files that a task will need are not there."""
        from pathlib import Path

        from automem_envs.minihack.levels import find_files

        names = TASK_NAMES if task == ALL else (task,)
        for name in names:
            if self._tasks.BY_NAME[name].is_boxoban:
                find_files(Path(path), self._tasks.BY_NAME[name].entry)


__all__ = ["ALL", "PUBLISHED_MAX_STEPS", "PUBLISHED_SEEDS", "TASK_NAMES", "MiniHackWorld"]
