"""MiniHack Memento as a world of text, and its player."""

from pathlib import Path

import pytest
from support.plain_play import play_plainly
from support.world_contract import (
    assert_killed_episode_resumes,
    assert_same_in_every_process,
    assert_takes_anything,
)

from automem.errors import UsageError
from automem_envs.memory_games import MementoPlayer, MementoWorld

pytest.importorskip("nle", reason="make setup-nethack")

TARGET = {"_target_": "automem_envs.memory_games.MementoWorld", "layout": "short"}
ACTIONS = ["far east", "far north", "far south", "east", "search", "esc", "north", "west"]


@pytest.mark.slow
def test_two_processes_with_different_hash_seeds_give_the_same_trace() -> None:
    assert_same_in_every_process(TARGET, ACTIONS)


def test_arbitrary_strings_do_no_harm() -> None:
    assert_takes_anything(TARGET, ACTIONS, 600)


@pytest.mark.slow
def test_ten_thousand_arbitrary_strings_do_no_harm() -> None:
    assert_takes_anything(TARGET, ACTIONS)


@pytest.mark.parametrize("layout", ["short", "two"])
async def test_memory_of_the_creature_alone_makes_the_difference(
    layout: str, tmp_path: Path
) -> None:
    reached = {}
    for reads in (True, False):
        played = [
            await play_plainly(
                MementoWorld(layout), MementoPlayer(reads=reads), tmp_path / str(reads), seed
            )
            for seed in range(4)
        ]
        assert not any(episode.refused for episode in played)
        reached[reads] = sum(episode.outcome.progression for episode in played)
    assert reached[True] == 4
    assert reached[False] < 4


def test_the_board_ends_the_game_without_progression() -> None:
    world = MementoWorld()
    ends = set()
    for seed in range(6):
        text, _ = world.reset(seed=seed)
        wrong = "far south" if "blue jelly" in text else "far north"
        for action in ("far east", wrong, "far east", "far east", "far east"):
            _, _, is_over, _, info = world.step(action)
            if is_over:
                break
        ends.add((info["stop"], info["progression"]))
    world.close()
    assert ends == {("the board squeaked", 0.0)}


def test_nobody_leaves_upwards() -> None:
    """Defect: `up` was advertised, and ended the game."""
    world = MementoWorld()
    world.reset(seed=1)
    assert ", up," not in world.actions
    assert world.actions in world.instruction
    for action in ("up", "<"):
        assert world.step(action)[4]["invalid_action"]
    world.close()


def test_an_unknown_layout_is_refused_in_words() -> None:
    with pytest.raises(UsageError, match="one of short, two, four"):
        MementoWorld("five")


def test_a_killed_episode_resumes_to_the_same_trace(tmp_path: Path) -> None:
    assert_killed_episode_resumes(
        TARGET,
        {"_target_": "automem_envs.memory_games.MementoPlayer"},
        tmp_path,
        crash="event.commit:4",
    )
