"""Crafter by its Gymnasium id and by its config."""

from pathlib import Path

import gymnasium
import yaml

from automem_envs.crafter import CrafterWorld
from automem_envs.crafter.rules import PUBLISHED_MAX_STEPS, PUBLISHED_SEEDS
from automem_envs.registration import register_worlds

CONFIG = Path(__file__).parents[3] / "conf" / "env" / "crafter.yaml"


def test_gymnasium_makes_crafter_by_its_id() -> None:
    register_worlds()
    register_worlds()
    world = gymnasium.make("automem/Crafter-v0", max_steps=5)
    assert isinstance(world.unwrapped, CrafterWorld)
    assert world.unwrapped.max_steps == 5
    text, _ = world.reset(seed=42)
    assert text.startswith("You see:")


def test_the_config_holds_the_published_protocol() -> None:
    config = yaml.safe_load(CONFIG.read_text())
    assert tuple(config["seeds"]) == PUBLISHED_SEEDS
    assert config["world"]["max_steps"] == PUBLISHED_MAX_STEPS
