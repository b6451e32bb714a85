"""MiniHack as a world of text: the eight tasks, determinism, wins, ends."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("nle", reason="NetHack is not installed: run `make setup-nethack`")
pytest.importorskip("minihack", reason="MiniHack is not installed: run `make setup-nethack`")

from support.world_contract import assert_killed_episode_resumes, assert_takes_anything

from automem.errors import UsageError
from automem.world import World
from automem_envs.minihack import MiniHackWorld
from automem_envs.minihack.generator import generate
from automem_envs.minihack.levels import find_files, read_levels
from automem_envs.minihack.sokoban import write_level
from automem_envs.minihack.tasks import TASKS
from automem_envs.minihack.world import PUBLISHED_SEEDS, TASK_NAMES
from automem_envs.nethack.keys import COMMANDS, DIRECTIONS, keys_for

TRACE_PROGRAM = """
import hashlib, random
from automem_envs.minihack import MiniHackWorld
from automem_envs.nethack.keys import COMMANDS
world = MiniHackWorld(max_steps=500)
digest = hashlib.sha256()
for seed in range(8 * 42, 8 * 45):
    draw = random.Random(seed)
    text, info = world.reset(seed=seed)
    for step in range(500):
        digest.update(repr((text, info)).encode())
        text, reward, terminated, truncated, info = world.step(draw.choice(list(COMMANDS)))
        digest.update(repr((reward, terminated, truncated)).encode())
        if terminated or truncated:
            text, info = world.reset(seed=seed)
print(digest.hexdigest())
"""


def test_it_is_a_world() -> None:
    world = MiniHackWorld()
    assert isinstance(world, World)
    assert keys_for(world.fallback_action) is not None
    assert world.max_steps == 100


@pytest.mark.slow
def test_two_processes_with_different_hash_seeds_give_the_same_trace() -> None:
    started = [
        subprocess.Popen(
            [sys.executable, "-c", TRACE_PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for hash_seed in ("1", "2024")
    ]
    digests = [process.communicate(timeout=200)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert len(digests[0]) == 65
    assert digests[0] == digests[1]


def test_the_table_is_eight_tasks_with_five_seeds_each() -> None:
    assert tuple(task.name for task in TASKS) == TASK_NAMES
    world = MiniHackWorld()
    seen = set()
    for seed in PUBLISHED_SEEDS:
        text, info = world.reset(seed=seed)
        seen.add((info["task"], info["level_seed"]))
        assert text.startswith(f"task:\n{info['task']}: ")
    world.close()
    assert seen == {(name, seed) for name in TASK_NAMES for seed in range(42, 47)}


@pytest.mark.parametrize("name", TASK_NAMES)
def test_a_task_of_its_own_is_the_one_of_the_table(name: str) -> None:
    alone, table = MiniHackWorld(name), MiniHackWorld()
    text, info = alone.reset(seed=43)
    listed, about = table.reset(seed=8 * 43 + TASK_NAMES.index(name))
    assert about == info
    assert listed.endswith(text)
    assert "staircase up" not in text
    alone.close()
    table.close()


@pytest.mark.parametrize("name", ["Boxoban-Hard", "Boxoban-Medium"])
def test_boxoban_is_won_by_the_solution_in_the_real_game(name: str) -> None:
    world = MiniHackWorld(name)
    for seed in (42, 46):
        _, info = world.reset(seed=seed)
        assert info["levels"] == "generated"
        moves = generate(name.partition("-")[2].lower(), seed).moves
        answers = [world.step(move) for move in moves]
        assert not any(answer[2] or answer[3] for answer in answers[:-1])
        _, reward, terminated, _, info = answers[-1]
        assert (reward, terminated) == (1.0, True)
        assert (info["progression"], info["stop"]) == (1.0, "solved")
    world.close()


def test_boxoban_moves_in_four_directions_only() -> None:
    world = MiniHackWorld("Boxoban-Medium")
    world.reset(seed=42)
    for word in ("northeast", "far north", "search", "5 north"):
        assert world.step(word)[4]["invalid_action"]
    assert "invalid_action" not in world.step("east")[4]
    world.close()


@pytest.mark.parametrize("name", ["Boxoban-Hard", "Corridor-R3"])
def test_every_advertised_action_can_be_executed(name: str) -> None:
    """Defect: all tasks advertised all of NetHack; Boxoban refused 84 of 89 words, all `up`."""
    world = MiniHackWorld(name)
    advertised = world.actions if isinstance(world.actions, tuple) else words_of(world.actions)
    assert "up" not in advertised
    for word in advertised:
        world.reset(seed=42)
        assert "invalid_action" not in world.step(word)[4], word
    world.close()


def words_of(grammar: str) -> list[str]:
    return grammar.split("a command word (")[1].split(")")[0].split(", ")


def test_what_is_advertised_is_what_the_instruction_says() -> None:
    for name in ("Boxoban-Medium", "Quest-Easy", "all"):
        world = MiniHackWorld(name)
        actions = world.actions if isinstance(world.actions, str) else ", ".join(world.actions)
        assert f"Actions: {actions}." in world.instruction
        assert ("search" in actions) == (name != "Boxoban-Medium")
    assert "in Boxoban tasks only north, east, south, west, esc" in actions


def test_levels_of_the_collection_are_those_that_minihack_plays(tmp_path: Path) -> None:
    """Defect: `medium/valid/` was mixed into `medium/train/`."""
    for part in ("medium/train", "medium/valid", "hard"):
        (tmp_path / part).mkdir(parents=True)
        (tmp_path / part / "000.txt").touch()
    assert find_files(tmp_path, "medium") == [tmp_path / "medium" / "train" / "000.txt"]
    assert find_files(tmp_path, "hard") == [tmp_path / "hard" / "000.txt"]


def test_a_level_file_is_read_again_only_where_it_changed(tmp_path: Path) -> None:
    path = tmp_path / "levels.txt"
    texts = ["\n".join(["; 0", *write_level(generate("medium", seed).level)]) for seed in (1, 2)]
    path.write_text(texts[0])
    first = read_levels(path)
    assert read_levels(path) is first
    path.write_text(f"{texts[0]}\n\n{texts[1]}\n")
    assert len(read_levels(path)) == 2


def test_boxoban_plays_the_users_level_files(tmp_path: Path) -> None:
    level, moves = generate("medium", 99)
    path = tmp_path / "medium" / "train" / "000.txt"
    path.parent.mkdir(parents=True)
    path.write_text("; 0\n" + "\n".join(write_level(level)) + "\n\n")
    world = MiniHackWorld("Boxoban-Medium", boxoban_files=str(tmp_path))
    _, info = world.reset(seed=42)
    assert info["levels"] == "files"
    assert [world.step(move) for move in moves][-1][4]["stop"] == "solved"
    world.close()


def test_missing_level_files_are_told_before_the_first_episode(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no level files in"):
        MiniHackWorld("Boxoban-Hard", boxoban_files=str(tmp_path))
    MiniHackWorld("Quest-Easy", boxoban_files=str(tmp_path))


def test_a_win_is_read_from_the_end_status_and_not_from_the_reward() -> None:
    """Defect: `reward >= 1` misses a win on a move that took no game time."""
    world = MiniHackWorld("MazeWalk-9x9", max_steps=5000)
    world.reset(seed=42)
    draw = random.Random(0)
    for _ in range(5000):
        _, reward, terminated, _, info = world.step(draw.choice(list(DIRECTIONS)))
        if terminated:
            break
    assert (reward, info["progression"], info["stop"]) == (1.0, 1.0, "solved")
    world.close()


def test_death_is_no_win_and_told_with_its_cause() -> None:
    world = MiniHackWorld("Quest-Easy")
    world.reset(seed=42)
    for _ in range(30):
        text, reward, terminated, _, info = world.step("east")
        if terminated:
            break
        if "?" in text.split("around:")[0]:
            world.step("y")
    assert (reward, info["progression"]) == (0.0, 0.0)
    assert info["stop"] == "burned: burned by molten lava"
    assert text.endswith("the game is over: burned: burned by molten lava")
    world.close()


def test_the_cap_ends_the_episode() -> None:
    world = MiniHackWorld("Corridor-R3", max_steps=3)
    world.reset(seed=42)
    ends = [world.step("search")[2:] for _ in range(3)]
    assert [end[1] for end in ends] == [False, False, True]
    assert ends[-1][2]["stop"] == "cap"
    world.close()


def test_what_is_walked_onto_is_picked_up() -> None:
    world = MiniHackWorld("Quest-Easy")
    text, _ = world.reset(seed=42)
    assert "an aluminum wand" in text.split("inventory:")[1]
    world.close()


def test_lava_is_told_and_dangerous() -> None:
    world = MiniHackWorld("Quest-Easy", shows_ways=True)
    world.reset(seed=42)
    for _ in range(3):
        text = world.step("east")[0]
    assert "molten lava 1 step east" in text
    ways = text.split("ways:\n")[1].split("\n")[0]
    assert "dangerous: east (molten lava), northeast (molten lava), southeast (molten lava)" in ways
    world.close()


def test_nobody_leaves_upwards() -> None:
    world = MiniHackWorld("Corridor-R3")
    world.reset(seed=42)
    assert world.step("up")[4]["invalid_action"]
    assert world.step("<")[4]["invalid_action"]
    world.close()


@pytest.mark.parametrize("task", ["Corridor-R3", "Boxoban-Medium"])
def test_arbitrary_strings_never_break_the_world(task: str) -> None:
    target = {
        "_target_": "automem_envs.minihack.MiniHackWorld",
        "task": task,
        "max_steps": 2000,
    }
    assert_takes_anything(target, list(COMMANDS))


@pytest.mark.parametrize(
    "task", ["Quest-Easy", pytest.param("Boxoban-Medium", marks=pytest.mark.slow)]
)
def test_a_killed_episode_resumes_to_the_trace_of_an_undisturbed_one(
    task: str, tmp_path: Path
) -> None:
    target = {"_target_": "automem_envs.minihack.MiniHackWorld", "task": task}
    player = {"_target_": "automem_envs.minihack.MiniHackPlayer"}
    assert_killed_episode_resumes(target, player, tmp_path)


def test_an_unknown_task_is_refused_with_the_names() -> None:
    with pytest.raises(UsageError, match="Boxoban-Hard, Boxoban-Medium"):
        MiniHackWorld("Sokoban")


def test_an_episode_is_replayed_from_its_actions() -> None:
    draw = random.Random(8)
    actions = [draw.choice(list(DIRECTIONS)) for _ in range(60)]
    world, other = MiniHackWorld("Quest-Medium"), MiniHackWorld("Quest-Medium")
    assert world.reset(seed=8) == other.reset(seed=8)
    for action in actions:
        answer = world.step(action)
        assert answer == other.step(action)
        if answer[2]:
            break
    world.close()
    other.close()
