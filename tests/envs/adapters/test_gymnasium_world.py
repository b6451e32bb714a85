"""Any Gymnasium environment of text as a world."""

from pathlib import Path
from typing import Any

import gymnasium
import pytest
from gymnasium.spaces import Discrete
from support.guessing import GuessingGame
from support.plain_play import play_plainly
from support.world_contract import (
    assert_killed_episode_resumes,
    assert_same_in_every_process,
    assert_takes_anything,
)

from automem.errors import UsageError
from automem_envs.adapters import GymnasiumWorld, RandomPlayer
from automem_envs.registration import register_worlds

NAMES = [f"say {digit}" for digit in range(10)]
DISCRETE = {
    "_target_": "automem_envs.adapters.GymnasiumWorld",
    "environment": "support.guessing:support/Guessing-v0",
    "instruction": "guess the digit",
    "max_steps": 6,
    "actions": NAMES,
    "returns": [0, 5],
}
WORDS = {
    **DISCRETE,
    "environment": "support.guessing:support/GuessingInWords-v0",
    "actions": "a number",
    "fallback_action": "0",
}


def world_of(target: dict, **changes: Any) -> GymnasiumWorld:
    arguments = {**target, **changes}
    del arguments["_target_"]
    return GymnasiumWorld(**arguments)


def won(world: GymnasiumWorld, seed: int, names: list[str]) -> dict:
    world.reset(seed=seed)
    for name in names:
        text, reward, is_over, _, info = world.step(name)
        if is_over:
            assert (text, reward) == ("right", info["progression"])
            return info
    raise AssertionError("nobody won")


def test_names_stand_for_the_numbers_of_a_discrete_space() -> None:
    right = next(name for name in NAMES if wins_at_once(name))
    info = won(world_of(DISCRETE), 1, [right.upper()])
    assert info["progression"] == 1.0
    assert info["stop"] == ""


def test_text_spaces_take_what_they_contain() -> None:
    world = world_of(WORDS, max_steps=20)
    right = next(name for name in NAMES if wins_at_once(name))
    assert won(world, 1, [right.split()[1]])["progression"] == 1.0
    world.reset(seed=1)
    text, _, _, _, info = world.step("seven")
    assert text.startswith('"seven" is no action here; 0 was done instead.\n')
    assert info["invalid_action"] is True


def test_a_mapping_is_read_by_its_key_and_progression_by_its_own() -> None:
    game = GuessingGame(in_mapping=True)
    world = world_of(DISCRETE, environment=game, text_key="text", progression_key="done")
    text, info = world.reset(seed=1)
    assert (text, info["progression"]) == ("guess", 0.0)
    right = next(name for name in NAMES if wins_at_once(name))
    assert won(world, 1, [right])["progression"] == 1.0


def test_progression_is_kept_where_a_step_does_not_tell_it() -> None:
    """Defect: a step without the key set it back to 0."""
    world = world_of(DISCRETE, environment=Telling([0.25, None, 0.5, None]), progression_key="done")
    world.reset(seed=1)
    assert [world.step("say 0")[4]["progression"] for _ in range(4)] == [0.25, 0.25, 0.5, 0.5]


def test_a_progression_key_that_is_never_told_is_an_error() -> None:
    """Defect: a misspelt key scored 0 silently."""
    world = world_of(DISCRETE, environment=Telling([0.25, 0.5]), progression_key="dome")
    world.reset(seed=1)
    world.step("say 0")
    with pytest.raises(UsageError, match=r"progression_key 'dome'.*\['done'\]"):
        world.step("say 0")


class Telling(gymnasium.Env):
    """Tells `done` where there is something to tell, and ends."""

    def __init__(self, told: list[float | None]) -> None:
        self.action_space = Discrete(10)
        self._told = told

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[str, dict]:
        self._left = list(self._told)
        return "begin", {}

    def step(self, action: Any) -> tuple[str, float, bool, bool, dict]:
        told = self._left.pop(0)
        return "on", 0.0, not self._left, False, {} if told is None else {"done": told}


def test_its_own_limit_cuts_the_episode() -> None:
    world = world_of(DISCRETE, max_steps=50)
    world.reset(seed=1)
    wrong = next(name for name in NAMES if not wins_at_once(name))
    ends = [world.step(wrong)[2:4] for _ in range(8)]
    assert ends[-1] == (False, True)
    assert not any(any(end) for end in ends[:-1])


def wins_at_once(name: str) -> bool:
    world = world_of(DISCRETE)
    world.reset(seed=1)
    return world.step(name)[2]


def test_a_world_of_ours_can_be_wrapped_by_its_id() -> None:
    register_worlds()
    world = GymnasiumWorld(
        "automem/Concentration-v0",
        instruction="find pairs",
        max_steps=10,
        actions="flip NUMBER",
        fallback_action="flip next",
        progression_key="progression",
    )
    assert world.reset(seed=1)[0].startswith("new deck")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"environment": ""}, "say which environment"),
        ({"environment": "support/Nothing-v0"}, "Gymnasium has no environment"),
        ({"environment": "no_such_module:x"}, "Gymnasium has no environment"),
        ({"actions": NAMES[:3]}, "must name the 10 actions"),
        ({"actions": [*NAMES[:9], True]}, "expected text, got True; write it in quotes"),
        ({"actions": [*NAMES[:9], 9]}, "expected text, got 9"),
        ({"actions": [*NAMES[:9], "SAY 0"]}, "'SAY 0' is there twice"),
        ({"actions": [*NAMES[:9], " go "]}, "without blanks around it, got ' go '"),
        ({"max_steps": 0}, "from 1 on, got 0"),
        ({"fallback_action": "dance"}, "'dance' is no action"),
        ({"returns": [1, 1]}, "worst < best"),
        ({"environment": "CartPole-v1", "actions": ["a", "b"]}, "observation must be text"),
        ({"environment": "Pendulum-v1"}, "must be Text or Discrete"),
        ({"text_key": "text"}, "has no 'text'"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(changes: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        world_of(DISCRETE, **changes).reset(seed=1)


@pytest.mark.parametrize(("target", "actions"), [(DISCRETE, NAMES), (WORDS, ["0", "7", "12"])])
def test_it_keeps_the_contract_of_a_world(target: dict, actions: list[str]) -> None:
    assert_takes_anything(target, actions)


def test_two_processes_with_different_hash_seeds_give_the_same_trace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]), prepend=":")
    assert_same_in_every_process(DISCRETE, NAMES)


async def test_the_random_player_plays_it(tmp_path: Path) -> None:
    played = await play_plainly(world_of(DISCRETE), RandomPlayer(NAMES), tmp_path, seed=2)
    assert played.steps >= 1
    assert played.refused == []


def test_a_killed_episode_resumes_to_the_same_trace(tmp_path: Path) -> None:
    player = {"_target_": "automem_envs.adapters.RandomPlayer", "actions": ["dance"]}
    assert_killed_episode_resumes(DISCRETE, player, tmp_path, crash="event.commit:3")
