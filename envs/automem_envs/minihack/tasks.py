"""The eight MiniHack tasks of the published table: names, goals, and how each is built and won.

Six come from the package `minihack` as they are. The two Boxoban tasks are its `BoxoHack` with
levels of ours (`generator`) or of the user (`levels`): their files cannot be shipped. A win is read
from the task's own end status; Boxoban's is every boulder on a fountain.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from automem_envs.minihack.generator import generate
from automem_envs.minihack.levels import level_from_files
from automem_envs.minihack.sokoban import SIZE, Level, squares, write_level
from automem_envs.nethack.game import Game, buffers_of
from automem_envs.nethack.glyphs import tables

_STAIRS = "reach the staircase down (>)"


@dataclass(frozen=True, slots=True)
class Task:
    """One task."""

    name: str
    goal: str
    entry: str
    """Module and class in the package `minihack`; for Boxoban, the difficulty."""

    @property
    def is_boxoban(self) -> bool:
        return self.name.startswith("Boxoban")


_PUSH = (
    "push every boulder (`) onto a fountain ({) in as few moves as you can; boulders are pushed by "
    "walking into them, never pulled, and not two at a time; only north, east, south and west"
)
_LAVA = "a river of lava is deadly to walk into, unless it is frozen by cold"
_MAZE = f"find the way through the maze; {_STAIRS}"
TASKS = (
    Task("Boxoban-Hard", _PUSH, "hard"),
    Task("Boxoban-Medium", _PUSH, "medium"),
    Task("MazeWalk-9x9", _MAZE, "mazewalk.MiniHackMazeWalk9x9"),
    Task("MazeWalk-15x15", _MAZE, "mazewalk.MiniHackMazeWalk15x15"),
    Task("Corridor-R3", f"explore rooms and corridors; {_STAIRS}", "corridor.MiniHackCorridor3"),
    Task(
        "CorridorBattle-Dark",
        f"fight the rats, best where only one can reach you; {_STAIRS}",
        "fightcorridor.MiniHackFightCorridorDark",
    ),
    Task("Quest-Easy", f"{_LAVA}; {_STAIRS} beyond it", "skills_quest.MiniHackQuestEasy"),
    Task(
        "Quest-Medium",
        f"monsters guard the way, and {_LAVA}; {_STAIRS} beyond it",
        "skills_quest.MiniHackQuestMedium",
    ),
)
BY_NAME = {task.name: task for task in TASKS}
_SETTINGS: dict[str, Any] = {
    "max_episode_steps": 10**9,
    "autopickup": True,
    "fix_moon_phase": True,
}
"""The package's characters, options and monsters; the cap is the world's own."""


class Played:
    """A task that was built: its game, and whether it is won."""

    def __init__(self, task: Task, environment: Any, is_won: Callable[[], bool]) -> None:
        self.task = task
        self.is_won = is_won
        self.levels = ""
        """Where a Boxoban level came from: `generated` or `files`."""
        self._environment = environment
        self.game = Game(
            environment.nethack,
            buffers_of(environment._observation_keys, environment.nethack._step_return()),
        )

    def close(self) -> None:
        """Free the game."""
        self._environment.close()


def build(task: Task, seed: int, boxoban_files: str | None = None) -> Played:
    """A fresh game of the task, at its first turn."""
    if task.is_boxoban:
        return _build_boxoban(task, seed, boxoban_files)
    module, _, name = task.entry.partition(".")
    environment = _new(f"minihack.envs.{module}", name)
    _start(environment, seed)

    def is_won() -> bool:
        status = environment._is_episode_end(environment.last_observation)
        return bool(status == environment.StepStatus.TASK_SUCCESSFUL)

    return Played(task, environment, is_won)


def _build_boxoban(task: Task, seed: int, files: str | None) -> Played:
    if files is None:
        level = generate(task.entry, seed).level
    else:
        level = level_from_files(Path(files), task.entry, seed)
    environment = _new("minihack.navigation", "MiniHackNavigation", des_file=describe(level))
    _start(environment, seed)
    # The level's place on the map follows from the player's.
    numbers = environment.last_observation[environment._blstats_index]
    column, row = int(numbers[0]), int(numbers[1])
    left, top = column - level.player % SIZE, row - level.player // SIZE
    goals = [(top + square // SIZE, left + square % SIZE) for square in squares(level.goals)]
    rows, columns = ([place[axis] for place in goals] for axis in (0, 1))

    boulder = tables().boulder

    def is_won() -> bool:
        return bool((played.game.glyphs[rows, columns] == boulder).all())

    played = Played(task, environment, is_won)
    played.levels = "generated" if files is None else "files"
    return played


def describe(level: Level) -> str:
    """A level as MiniHack's description file: walls are iron bars, boxes boulders, goals fountains;
    lit, all of it known from the start."""
    text = "\n".join(write_level(level)).translate(str.maketrans("# $.@*", "F....."))
    generator = _package("minihack").LevelGenerator(
        map=text, lit=True, flags=("noteleport", "premapped"), solidfill=" "
    )
    for box in squares(level.boxes):
        generator.add_boulder((box % SIZE, box // SIZE))
    for goal in squares(level.goals):
        generator.add_fountain((goal % SIZE, goal // SIZE))
    generator.set_start_pos((level.player % SIZE, level.player // SIZE))
    return str(generator.get_des())


def _new(module: str, name: str, **more: Any) -> Any:
    return getattr(_package(module), name)(**_SETTINGS, **more)


def _package(module: str) -> Any:
    with warnings.catch_warnings():
        # minihack imports pkg_resources, which warns of its own age.
        warnings.simplefilter("ignore", UserWarning)
        return import_module(module)


def _start(environment: Any, seed: int) -> None:
    environment.seed(seed, seed, reseed=False)
    environment.reset()
