"""NetHack and MiniHack by id and by config; and what happens where they are not installed."""

import subprocess
import sys
from pathlib import Path

import gymnasium
import pytest
import yaml

from automem.errors import UsageError
from automem_envs.minihack import MiniHackWorld
from automem_envs.nethack import NetHackWorld, installed
from automem_envs.registration import register_worlds

CONFIG = Path(__file__).parents[3] / "conf" / "env" / "nethack.yaml"


def test_gymnasium_makes_both_by_their_ids() -> None:
    pytest.importorskip("minihack", reason="MiniHack is not installed: run `make setup-nethack`")
    register_worlds()
    for name, kind in (("NetHack", NetHackWorld), ("MiniHack", MiniHackWorld)):
        world = gymnasium.make(f"automem/{name}-v0", max_steps=5)
        assert isinstance(world.unwrapped, kind)
        assert "map:" in world.reset(seed=42)[0]
        world.close()


def test_the_config_holds_the_published_protocol() -> None:
    config = yaml.safe_load(CONFIG.read_text())
    assert config["seeds"] == [42, 43, 44, 45, 46]
    assert config["world"]["max_steps"] == 100_000
    assert config["world"]["no_progress_steps"] == 150


@pytest.mark.parametrize("kind", [NetHackWorld, MiniHackWorld])
def test_without_nle_the_error_says_what_to_run(
    kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installed, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="make setup-nethack"):
        kind()


def test_importing_the_worlds_does_not_import_the_game() -> None:
    program = (
        "import sys, automem_envs.nethack, automem_envs.minihack\n"
        "assert not {'nle', 'minihack', 'gymnasium', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
