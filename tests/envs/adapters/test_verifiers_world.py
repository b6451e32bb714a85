"""Environments of the `verifiers` package as worlds: by its interface, and with the package."""

import os
from pathlib import Path
from typing import Any

import pytest
from support.drivers import TESTS
from support.guessing import ClassicGuessing
from support.world_contract import (
    assert_killed_episode_resumes,
    assert_same_in_every_process,
    assert_takes_anything,
)

from automem.errors import UsageError
from automem_envs.adapters import VerifiersWorld

TARGET = {
    "_target_": "automem_envs.adapters.VerifiersWorld",
    "environment": "support.guessing:ClassicGuessing",
    "arguments": {"games": 3},
}


def test_the_seed_picks_the_row_and_replies_are_turns() -> None:
    world = VerifiersWorld("support.guessing:ClassicGuessing", {"games": 3})
    assert world.reset(seed=5)[0] == "game 2: guess"
    text, reward, is_over, _, _ = world.step("1")
    assert (text, reward, is_over) == ("game 2: guess\n\nno", 0.0, False)
    text, reward, is_over, _, info = world.step("2")
    assert (text, reward, is_over) == ("right", 1.0, True)
    assert info["metrics"] == {"guesses": 2.0}
    world.close()


def test_the_task_can_be_left_to_memory() -> None:
    world = VerifiersWorld(ClassicGuessing(), repeats_task=False)
    world.reset(seed=1)
    assert world.step("7")[0] == "no"
    world.close()


def test_its_own_limit_ends_the_episode_with_what_the_rubric_says() -> None:
    world = VerifiersWorld(ClassicGuessing())
    world.reset(seed=1)
    ends = [world.step("7") for _ in range(6)]
    assert [end[2] for end in ends] == [False] * 5 + [True]
    assert ends[-1][4]["progression"] == 0.0
    world.close()


def test_arbitrary_strings_do_no_harm() -> None:
    assert_takes_anything(TARGET, ["0", "1", "2"], 1_000, least_invalid=0.02)


@pytest.mark.slow  # two event loops in threads of their own answer each of them
def test_ten_thousand_arbitrary_strings_do_no_harm() -> None:
    assert_takes_anything(TARGET, ["0", "1", "2"], least_invalid=0.02)


def test_two_processes_with_different_hash_seeds_give_the_same_trace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    )
    assert_same_in_every_process(TARGET, ["0", "1", "2", "7"])


def test_a_killed_episode_resumes_to_the_same_trace(tmp_path: Path) -> None:
    player = {"_target_": "automem_envs.adapters.RandomPlayer", "actions": ["7", "8"]}
    assert_killed_episode_resumes(TARGET, player, tmp_path, crash="event.commit:3")


def test_it_steps_inside_a_running_loop() -> None:
    async def play() -> str:
        world = VerifiersWorld(ClassicGuessing())
        world.reset(seed=1)
        text = world.step("1")[0]
        world.close()
        return text

    import asyncio

    assert asyncio.run(play()) == "right"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"environment": ""}, "say which environment"),
        ({"environment": "no_such_module:load"}, "cannot be loaded"),
        ({"environment": "support.guessing:Nothing"}, "cannot be loaded"),
        ({"environment": object()}, "expected a verifiers MultiTurnEnv"),
        ({"environment": "no-such-environment"}, r"pip install 'verifiers<0\.4'"),
        ({"environment": ClassicGuessing(), "split": "test"}, "eval or train"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        VerifiersWorld(**arguments)


def test_a_real_environment_of_the_package_is_played() -> None:
    verifiers = pytest.importorskip("verifiers", reason="pip install 'verifiers<0.4'")
    if not hasattr(verifiers, "MultiTurnEnv"):
        pytest.skip("this release of verifiers has no MultiTurnEnv")
    world = VerifiersWorld("support.real_guessing:load")
    assert world.reset(seed=1)[0] == "game 1: guess"
    assert world.step("9")[0] == "game 1: guess\n\nlower"
    text, _, is_over, _, info = world.step("1")
    assert (text, is_over, info["progression"]) == ("right", True, 1.0)
    world.close()
