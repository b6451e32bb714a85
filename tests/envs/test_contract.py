"""The contract of worlds whose own tests leave some of it out: the same trace in every process,
arbitrary strings, death and resumption. The tests of NetHack, MiniHack, the memory games, sessions
and adapters hold the rest; the last test here says that nobody was forgotten."""

import json
import subprocess
import sys
from inspect import signature
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import yaml
from hydra.utils import get_class, instantiate
from support.world_contract import (
    assert_killed_episode_resumes,
    assert_same_in_every_process,
    assert_takes_anything,
)

from automem.errors import UsageError
from automem.rollout.guarded_world import check_world
from automem.rollout.spec import WorldSpec
from automem_envs.registration import WORLDS

CONF = Path(__file__).parents[2] / "conf" / "env"
CRAFTER = {"_target_": "automem_envs.crafter.CrafterWorld"}
CONCENTRATION = {"_target_": "automem_envs.concentration.ConcentrationWorld"}
SESSIONS = {"_target_": "automem_envs.sessions.SessionsWorld"}
FLIPS = ["flip next", *(f"flip {card:02d}" for card in range(1, 41))]
CRAFTER_ACTIONS = [
    *(f"Move {way}" for way in ("West", "East", "North", "South")),
    *(["Do"] * 4),
    "Noop",
    "Sleep",
    "Place Stone",
    "Place Table",
    "Place Plant",
    "Make Wood Pickaxe",
]
KEPT_ELSEWHERE = {
    "nethack": "tests/envs/nethack",
    "minihack": "tests/envs/minihack",
    "sessions": "tests/envs/sessions",
    "gymnasium": "tests/envs/adapters",
    "verifiers": "tests/envs/adapters",
    **dict.fromkeys(
        (
            "memento",
            "repeat_previous",
            "count_recall",
            "deck_concentration",
            "battleship",
            "grid_memory",
            "red_blue_doors",
        ),
        "tests/envs/memory_games",
    ),
}
"""Worlds whose whole contract is tested beside their other tests."""


@pytest.fixture
def recorded(tmp_path: Path) -> dict:
    """Sessions from a file of the user's."""
    records = [
        {
            "id": str(number),
            "questions": [f"Who was {number + turn}th?" for turn in range(12)],
            "answers": [f"Ada {number * turn}" for turn in range(12)],
        }
        for number in range(5)
    ]
    path = tmp_path / "records.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return {
        "_target_": "automem_envs.sessions.RecordedSessionsWorld",
        "form": "memory_arena",
        "path": str(path),
    }


@pytest.mark.parametrize(
    ("target", "actions"),
    [(CRAFTER, CRAFTER_ACTIONS), (CONCENTRATION, FLIPS)],
    ids=["crafter", "concentration"],
)
def test_two_processes_with_different_hash_seeds_give_the_same_trace(
    target: dict, actions: list[str]
) -> None:
    assert_same_in_every_process(target, actions)


def test_recorded_sessions_are_the_same_in_two_processes(recorded: dict) -> None:
    assert_same_in_every_process(recorded, ["next", "Ada 3", "nobody"])


def test_ten_thousand_arbitrary_strings_do_crafter_no_harm() -> None:
    assert_takes_anything(CRAFTER, CRAFTER_ACTIONS)


def test_ten_thousand_arbitrary_strings_do_concentration_no_harm() -> None:
    assert_takes_anything(CONCENTRATION, FLIPS, says="illegal flip")


def test_a_killed_crafter_episode_resumes_to_the_same_trace(tmp_path: Path) -> None:
    player = {"_target_": "automem_envs.crafter.CrafterPlayer"}
    assert_killed_episode_resumes(CRAFTER, player, tmp_path, max_steps=40, crash="event.commit:25")


def test_a_killed_concentration_episode_resumes_to_the_same_trace(tmp_path: Path) -> None:
    player = {"_target_": "automem_envs.concentration.players.SloppyPlayer"}
    assert_killed_episode_resumes(CONCENTRATION, player, tmp_path)


@pytest.mark.parametrize("cap", [0, -3, True, "5"])
@pytest.mark.parametrize("target", [CRAFTER, CONCENTRATION, SESSIONS], ids=lambda t: t["_target_"])
def test_a_cap_that_leaves_no_action_is_refused_in_words(target: dict, cap: Any) -> None:
    """Defect: Crafter left the episode pending, others played one action."""
    with pytest.raises(UsageError, match="`max_steps` must be a whole number from 1 on"):
        check_world(WorldSpec("world", {**target, "max_steps": cap}))


@pytest.mark.parametrize("target", [CRAFTER, CONCENTRATION, SESSIONS], ids=lambda t: t["_target_"])
def test_after_the_end_a_world_has_to_be_reset(target: dict) -> None:
    """Defect: Crafter and Concentration played on after their cap."""
    world = instantiate({**target, "max_steps": 1})
    with pytest.raises(gymnasium.error.ResetNeeded):
        world.step(world.fallback_action)
    for seed in (1, 2):
        world.reset(seed=seed)
        assert world.step(world.fallback_action)[3]
        with pytest.raises(gymnasium.error.ResetNeeded):
            world.step(world.fallback_action)


def test_every_parameter_of_a_world_can_be_set_by_its_configuration() -> None:
    """Defect: `env.world.ships` and others were unknown keys."""
    for path in CONF.glob("*.yaml"):
        world = yaml.safe_load(path.read_text())["world"]
        parameters = signature(get_class(world.pop("_target_"))).parameters
        assert set(parameters) == set(world), path.name


def test_gymnasium_imports_the_module_that_registers_every_world() -> None:
    """Defect: the form `module:id` found no module of ours that registers."""
    program = (
        "import gymnasium\n"
        "made = gymnasium.make('automem_envs.registered:automem/Concentration-v0', cards=4)\n"
        "assert made.reset(seed=1)[0].startswith('new deck')"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_no_world_is_forgotten() -> None:
    here = {"crafter", "concentration", "recorded_sessions"}
    assert {path.stem for path in CONF.glob("*.yaml")} == here | set(KEPT_ELSEWHERE)


def test_every_shipped_world_has_a_gymnasium_id() -> None:
    targets = {path.stem: yaml.safe_load(path.read_text())["world"] for path in CONF.glob("*.yaml")}
    adapters = {"gymnasium", "verifiers"}  # they wrap what has a name of its own
    classes = {world["_target_"].rpartition(".")[2] for name, world in targets.items()
               if name not in adapters}  # fmt: skip
    assert {entry.rpartition(":")[2] for entry in WORLDS.values()} == classes
