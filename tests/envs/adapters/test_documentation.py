"""docs/environments.md: its world is run as it stands there, its commands name what exists."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf
from support.plain_play import play_plainly
from support.world_contract import assert_takes_anything, spec_of

from automem.config import compose, groups
from automem.rollout.run import run_rollout
from automem_envs.adapters import RandomPlayer

PAGE = Path(__file__).parents[3] / "docs" / "environments.md"


def block(language: str) -> str:
    """The page's only block of code in a language."""
    [found] = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return found


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the page's world and its configuration, on Python's path."""
    (tmp_path / "vault.py").write_text(block("python"))
    (tmp_path / "conf" / "env").mkdir(parents=True)
    (tmp_path / "conf" / "env" / "vault.yaml").write_text(block("yaml"))
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("vault", None)
    return tmp_path


def test_the_world_is_thirty_lines_of_code() -> None:
    lines = [line for line in block("python").splitlines() if line.strip()]
    assert len(lines) <= 32


async def test_the_world_is_played_and_keeps_the_contract(vault: Path, tmp_path: Path) -> None:
    target = {"_target_": "vault.VaultWorld", "corridor": 5}
    assert_takes_anything(target, ["wait", "red", "green"])
    from vault import COLOURS, VaultWorld  # type: ignore[import-not-found]

    results = set()
    for colour in COLOURS:
        world = VaultWorld(corridor=5)
        played = await play_plainly(world, RandomPlayer([colour]), tmp_path / colour, seed=1)
        assert played.steps == world.max_steps
        results.add(played.outcome.progression)
    assert results == {0.0, 1.0}


def test_its_configuration_composes_and_its_episode_finishes(vault: Path, tmp_path: Path) -> None:
    config = compose(overrides=["env=vault", "engine=scripted"], config_dir=vault / "conf")
    assert yaml.safe_load(block("yaml"))["seeds"] == list(config.env.seeds)
    env: Any = OmegaConf.to_container(config.env)
    spec = spec_of(env["world"], env["player"], max_steps=22)
    assert run_rollout(spec, tmp_path / "run").is_complete


def test_every_world_named_in_the_page_exists_and_every_one_shipped_is_named() -> None:
    page = PAGE.read_text()
    for name in re.findall(r"env=(\w+)", page):
        assert name in {*groups()["env"], "vault"}, name
    for name in groups()["env"]:
        assert f"`{name}`" in page, f"{name} is missing in {PAGE.name}"
