"""The scripted players of the memory games, in real sessions with real files."""

from pathlib import Path

import pytest
from support.plain_play import play_plainly
from support.world_contract import assert_killed_episode_resumes

from automem_envs import memory_games

pytest.importorskip("popgym", reason="pip install 'automem[games]'")
pytest.importorskip("minigrid", reason="pip install 'automem[games]'")

LEAST_AND_MOST = {
    "RepeatPrevious": ({}, 1.0, 0.5),
    "CountRecall": ({}, 1.0, 0.3),
    "DeckConcentration": ({}, 1.0, 0.3),
    "Battleship": ({"shots": 50}, 0.6, 0.5),
    "GridMemory": ({"max_steps": 100}, 1.0, 0.9),
    "RedBlueDoors": ({"max_steps": 100}, 1.0, 0.3),
}
"""Name to arguments, what the player reaches at least, and its memoryless twin at most."""
SEEDS = (1, 2, 3)


async def mean_of(name: str, folder: Path, reads: bool) -> float:
    arguments = LEAST_AND_MOST[name][0]
    total = 0.0
    for seed in SEEDS:
        world = getattr(memory_games, f"{name}World")(**arguments)
        player = getattr(memory_games, f"{name}Player")(reads=reads)
        played = await play_plainly(world, player, folder, seed)
        assert played.refused == []
        total += played.outcome.progression
    return total / len(SEEDS)


@pytest.mark.parametrize("name", LEAST_AND_MOST)
async def test_memory_alone_makes_the_difference(name: str, tmp_path: Path) -> None:
    _, least, most = LEAST_AND_MOST[name]
    assert await mean_of(name, tmp_path / "with", reads=True) >= least
    assert await mean_of(name, tmp_path / "without", reads=False) <= most


@pytest.mark.parametrize("name", LEAST_AND_MOST)
async def test_replies_depend_on_the_request_alone(name: str, tmp_path: Path) -> None:
    world = getattr(memory_games, f"{name}World")(**LEAST_AND_MOST[name][0])
    player = getattr(memory_games, f"{name}Player")
    played = await play_plainly(world, player(), tmp_path, seed=4)
    for request, text in reversed(played.heard):
        assert player().reply(request) == text


async def test_the_battleship_player_charts_large_boards_row_by_row(tmp_path: Path) -> None:
    world = memory_games.BattleshipWorld(board=60, shots=80)
    played = await play_plainly(world, memory_games.BattleshipPlayer(), tmp_path, seed=1)
    assert played.refused == []
    chart = played.files["map.txt"].splitlines()
    assert sum(sign in "ox" for line in chart for sign in line.split(": ")[1]) == 80


@pytest.mark.parametrize("name", LEAST_AND_MOST)
def test_a_killed_episode_resumes_to_the_same_trace(name: str, tmp_path: Path) -> None:
    # Some grids are solved in a dozen steps: this one is not.
    arguments = {"size": 41} if name == "GridMemory" else {}
    assert_killed_episode_resumes(
        {"_target_": f"automem_envs.memory_games.{name}World", **arguments},
        {"_target_": f"automem_envs.memory_games.{name}Player"},
        tmp_path,
    )


async def test_doors_out_of_view_are_found_by_walking_along_the_wall(tmp_path: Path) -> None:
    """In some of these rooms the player reaches the wall in a corner, the door far along it."""
    for seed in range(12):
        world = memory_games.RedBlueDoorsWorld(size=12, max_steps=120)
        played = await play_plainly(world, memory_games.RedBlueDoorsPlayer(), tmp_path, seed)
        assert played.outcome.progression == 1.0, seed
