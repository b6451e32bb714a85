"""The scripted player of MiniHack in real sessions."""

from pathlib import Path

import pytest

pytest.importorskip("nle", reason="NetHack is not installed: run `make setup-nethack`")
pytest.importorskip("minihack", reason="MiniHack is not installed: run `make setup-nethack`")

import yaml
from support.plain_play import play_plainly

from automem_envs.minihack import MiniHackPlayer, MiniHackWorld
from automem_envs.minihack.world import PUBLISHED_MAX_STEPS, PUBLISHED_SEEDS

CONFIG = Path(__file__).parents[3] / "conf" / "env" / "minihack.yaml"


@pytest.mark.parametrize("task", ["Boxoban-Medium", "MazeWalk-9x9", "Quest-Easy"])
async def test_it_solves_what_it_can_without_a_refused_operation(task: str, tmp_path: Path) -> None:
    world = MiniHackWorld(task)
    played = await play_plainly(world, MiniHackPlayer(), tmp_path, seed=5000)
    assert played.refused == []
    assert played.outcome.progression == 1.0
    fresh = MiniHackPlayer()
    for request, text in played.heard[:20]:
        assert fresh.reply(request) == text
    world.close()


async def test_without_its_notes_it_forgets_the_covered_fountains(tmp_path: Path) -> None:
    world = MiniHackWorld("Boxoban-Medium", max_steps=40)
    played = await play_plainly(world, MiniHackPlayer(reads=False), tmp_path, seed=5000)
    assert played.outcome.progression == 0.0
    assert played.files["progress.txt"].startswith("goals: ")
    world.close()


def test_the_config_holds_the_published_protocol() -> None:
    config = yaml.safe_load(CONFIG.read_text())
    assert tuple(config["seeds"]) == PUBLISHED_SEEDS
    assert config["world"]["max_steps"] == PUBLISHED_MAX_STEPS
