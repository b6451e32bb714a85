"""Crafter as a world of text: determinism, the original's dynamics, views, actions, ends."""

import hashlib
import os
import random
import subprocess
import sys

import crafter
import numpy as np
import pytest
from crafter import constants, objects
from gymnasium.utils.env_checker import check_env

from automem.world import World, progression_of
from automem_envs.crafter import CrafterWorld
from automem_envs.crafter.rules import (
    ACHIEVEMENTS,
    ACTIONS,
    PUBLISHED_MAX_STEPS,
    PUBLISHED_SEEDS,
    action_number,
)
from automem_envs.crafter.scan import look
from automem_envs.crafter.sight import read_sight
from automem_envs.crafter.simulation import OrderedWorld, Simulation

TRACE_PROGRAM = """
import hashlib, random
from automem_envs.crafter import CrafterWorld
world = CrafterWorld()
draw = random.Random(7)
digest = hashlib.sha256()
text, info = world.reset(seed=42)
for step in range(500):
    digest.update(repr((text, info)).encode())
    text, reward, terminated, truncated, info = world.step(draw.choice(world.actions))
    digest.update(repr((reward, terminated, truncated)).encode())
    if terminated:
        text, info = world.reset(seed=step)
print(digest.hexdigest())
"""


def actions_of(seed: int, count: int) -> list[str]:
    """Random actions that walk and collect more than they craft."""
    draw = random.Random(seed)
    weights = [4 if name.startswith(("Move", "Do")) else 1 for name in ACTIONS]
    return draw.choices(ACTIONS, weights, k=count)


@pytest.fixture
def world() -> CrafterWorld:
    return CrafterWorld()


def state_of(env: crafter.Env) -> tuple:
    """Everything that the game consists of."""
    return (
        tuple(int(part) for part in env._player.pos),
        dict(env._player.inventory),
        dict(env._player.achievements),
        bool(env._player.sleeping),
        env._world._mat_map.tobytes(),
        [(type(o).__name__, tuple(int(p) for p in o.pos), o.health) for o in env._world.objects],
    )


def test_it_is_a_world(world: CrafterWorld) -> None:
    assert isinstance(world, World)
    assert world.fallback_action in world.actions


@pytest.mark.filterwarnings("ignore:.*render.*")
def test_gymnasiums_checker_passes(world: CrafterWorld) -> None:
    check_env(world, skip_render_check=True)


def test_two_processes_with_different_hash_seeds_give_the_same_trace() -> None:
    digests = set()
    for hash_seed in ("1", "2024"):
        done = subprocess.run(
            [sys.executable, "-c", TRACE_PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        digests.add(done.stdout)
    assert len(digests) == 1


@pytest.mark.parametrize("seed", [42, 7])
def test_the_dynamics_are_those_of_the_rendered_original(seed: int) -> None:
    """The original with ordered chunks, pictures and all, against the simulation without."""
    original = crafter.Env(seed=seed, length=1000)
    original._world = OrderedWorld((64, 64), constants.materials, (12, 12))
    original._local_view._world = original._world
    original._sem_view._world = original._world
    original.reset()
    simulation = Simulation(seed, length=1000)
    simulation.reset()
    for action in actions_of(seed, 500):
        number = action_number(action)
        assert number is not None
        _, reward, done, _ = original.step(number)
        assert simulation.step(number)[1:3] == (reward, done)
        assert state_of(simulation) == state_of(original)
        if done:
            break


def test_a_reset_with_the_same_seed_starts_the_same_episode(world: CrafterWorld) -> None:
    def play() -> str:
        text, _ = world.reset(seed=3)
        return hashlib.sha256(
            "".join([text, *(world.step(action)[0] for action in actions_of(1, 50))]).encode()
        ).hexdigest()

    assert play() == play()


def test_every_action_is_accepted_in_any_case_and_spacing(world: CrafterWorld) -> None:
    world.reset(seed=42)
    assert len(world.actions) == 17
    for name in world.actions:
        for spelling in (name, name.lower(), name.upper(), f"  {name.replace(' ', '   ')}\n"):
            info = world.step(spelling)[4]
            assert "invalid_action" not in info, spelling


def test_moves_go_where_their_names_say(world: CrafterWorld) -> None:
    for name, (east, south) in {
        "Move West": (-1, 0),
        "Move East": (1, 0),
        "Move North": (0, -1),
        "Move South": (0, 1),
    }.items():
        world.reset(seed=42)
        x, y = world._simulation.hero.pos
        text = world.step(name)[0]
        assert tuple(world._simulation.hero.pos) == (x + east, y + south)
        assert read_sight(text).heading == name.split()[1].lower()


@pytest.mark.parametrize("answer", ["dance", "", "Move", "move_left", 'say "hi"\n' * 50, "\x00é"])
def test_an_invalid_action_executes_noop_and_the_observation_says_so(answer: str) -> None:
    text, *rest = one_step_after_reset(answer)
    noop_text, *noop_rest = one_step_after_reset("Noop")
    first, _, remainder = text.partition("\n")
    assert first.endswith("is not an action of this game; Noop was done instead.")
    assert len(first) < 130
    assert first.isprintable()
    assert remainder == noop_text
    assert rest[3].pop("invalid_action") is True
    assert rest == noop_rest


def one_step_after_reset(action: str) -> tuple:
    world = CrafterWorld()
    world.reset(seed=42)
    return world.step(action)


def test_death_ends_the_episode(world: CrafterWorld) -> None:
    world.reset(seed=42)
    hero = world._simulation.hero
    world._simulation.land[hero.pos + np.array([1, 0])] = "lava"
    text, reward, terminated, truncated, info = world.step("Move East")
    assert (terminated, truncated, info["stop"]) == (True, False, "died")
    assert reward == pytest.approx(-0.9)
    assert "health 0/9" in text


def test_the_cap_ends_the_episode() -> None:
    world = CrafterWorld(max_steps=3)
    world.reset(seed=42)
    ends = [world.step("Noop")[2:] for _ in range(3)]
    assert [end[1] for end in ends] == [False, False, True]
    assert ends[-1][2]["stop"] == "cap"
    assert not ends[-1][0]


def test_progression_is_the_share_of_achievements_and_never_falls(world: CrafterWorld) -> None:
    world.reset(seed=42)
    reached: list[str] = []
    last = 0.0
    for action in actions_of(11, 400):
        _, _, terminated, _, info = world.step(action)
        reached += info["achievements"]
        assert progression_of(info) == len(reached) / 22
        assert info["progression"] >= last
        last = info["progression"]
        if terminated:
            break
    assert reached
    assert len(set(reached)) == len(reached)
    assert set(reached) <= set(ACHIEVEMENTS)


def test_the_reward_is_one_where_something_was_unlocked(world: CrafterWorld) -> None:
    world.reset(seed=42)
    world._simulation.hero.inventory["wood"] = 9
    _, reward, _, _, info = world.step("Place Table")
    assert info["achievements"] == ["place_table"]
    assert reward == pytest.approx(1.0)


@pytest.mark.parametrize("corner", [(0, 0), (63, 63), (0, 63), (63, 0), (2, 1), (0, 30), (30, 0)])
def test_the_view_is_right_near_every_edge(corner: tuple[int, int]) -> None:
    """The well-known text wrapper shows nothing near the west and north edge."""
    simulation = Simulation(42, length=100)
    simulation.reset()
    hero = simulation.hero
    number = simulation.land.occupants[tuple(hero.pos)]
    simulation.land.occupants[tuple(hero.pos)] = 0
    hero.pos = np.array(corner)
    simulation.land.occupants[corner] = number
    expected: dict[str, int] = {}
    for x in range(64):
        for y in range(64):
            east, south = x - corner[0], y - corner[1]
            if abs(east) > 4 or abs(south) > 3 or (x, y) == corner:
                continue
            material, thing = simulation.land[x, y]
            kind = type(thing).__name__.lower() if thing else material
            distance = abs(east) + abs(south)
            expected[kind] = min(expected.get(kind, 99), distance)
    things = look(simulation).things
    assert expected
    assert {thing.kind: thing.distance for thing in things} == expected
    assert [t.distance for t in things] == sorted(t.distance for t in things)


def test_beyond_the_edge_the_text_says_so() -> None:
    simulation = Simulation(42, length=100)
    simulation.reset()
    simulation.hero.pos = np.array((0, 0))
    simulation.hero.facing = (-1, 0)
    sight = look(simulation)
    assert (sight.facing, sight.heading) == ("the edge of the world", "west")


def test_a_plant_tells_when_it_is_ripe() -> None:
    simulation = Simulation(42, length=100)
    simulation.reset()
    hero = simulation.hero
    plant = objects.Plant(simulation.land, (int(hero.pos[0]), int(hero.pos[1]) + 1))
    simulation.land.add(plant)
    assert look(simulation).facing == "plant"
    plant.grown = 301
    assert look(simulation).facing == "ripe plant"


def test_the_instruction_names_every_action_and_what_each_achievement_costs(
    world: CrafterWorld,
) -> None:
    for name in ACTIONS:
        assert name in world.instruction
    for name in ACHIEVEMENTS:
        assert f"- {name.replace('_', ' ')}" in world.instruction
    for group in (constants.place, constants.make):
        for rule in group.values():
            for item, count in rule["uses"].items():
                assert f"{count} {item.replace('_', ' ')}" in world.instruction


def test_the_published_protocol_is_ten_seeds_and_two_thousand_steps() -> None:
    assert tuple(range(42, 52)) == PUBLISHED_SEEDS
    assert PUBLISHED_MAX_STEPS == 2000 == CrafterWorld().max_steps


def test_importing_the_worlds_does_not_import_the_game() -> None:
    program = (
        "import sys, automem_envs, automem_envs.crafter\n"
        "assert not {'crafter', 'gymnasium', 'numpy', 'numba'} & set(sys.modules), "
        "sorted(set(sys.modules))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
