"""Training a gate with RLlib, end to end and small: offline, PPO over rollouts, checkpoint."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.toy_world import toy_spec

from automem.agent.gating.exported import ExportedGate
from automem.errors import UsageError
from automem.rollout.ray_local import connected
from automem_learners.metamemory.training import Recipe, train_gate

os.environ.setdefault("RAY_AUTH_MODE", "token")
RECIPE = Recipe(
    hidden=(8,), iterations=2, episodes=4, minibatch=32, epochs=2, offline_updates=2,
    checkpoint_every=1,
)  # fmt: skip
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ray_up() -> Iterator[None]:
    with connected():
        yield


@pytest.fixture(scope="module")
def trained(ray_up: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    """A folder with a finished training, what it was asked, and what came out."""
    from automem_learners.metamemory.runner import Sampling, play_gated
    from automem_learners.metamemory.traces import Price

    folder = tmp_path_factory.mktemp("metamemory")
    shares = {"log": [0.3, 0.3, 0.4], "consult": [0.3, 0.3, 0.4]}
    recorded = play_gated(
        toy_spec(), folder / "recorded", {"gate": "random", "gating": shares}, [0, 1, 2]
    )
    sampling = Sampling(toy_spec(), str(folder / "samples"), 4, 1000, Price(0.3, 300.0, 12))
    result = train_gate(folder / "gate", sampling, RECIPE, 0, recorded)
    return folder, (sampling, recorded), result


def test_a_training_gives_a_gate_that_sessions_can_run(trained: tuple[Path, Any, Any]) -> None:
    folder, _, result = trained
    assert [progress.iteration for progress in result.history] == [1, 2]
    assert ExportedGate(result.gate).name.startswith("gate@")
    assert not any((folder / "samples").iterdir())  # runs go when they were read


def test_a_checkpoint_resumes_with_the_seeds_that_follow(
    trained: tuple[Path, Any, Any], tmp_path: Path
) -> None:
    folder, (sampling, recorded), result = trained
    shutil.copytree(folder / "gate", tmp_path / "gate")
    shutil.rmtree(tmp_path / "gate/gate")
    told: list[Any] = []
    longer = msgspec.structs.replace(RECIPE, iterations=3)
    again = train_gate(tmp_path / "gate", sampling, longer, 0, recorded, told.append)
    assert again.resumed == 2
    assert [progress.iteration for progress in told] == [3]
    assert again.history[:2] == result.history
    from ray.rllib.algorithms.ppo import PPO

    restored = PPO.from_checkpoint(str((tmp_path / "gate/checkpoint").absolute()))
    assert restored.env_runner.round == 3
    restored.stop()


def test_a_finished_training_is_not_repeated(trained: tuple[Path, Any, Any]) -> None:
    folder, (sampling, recorded), result = trained
    told: list[Any] = []
    again = train_gate(folder / "gate", sampling, RECIPE, 0, recorded, told.append)
    assert (again.gate, again.history, told) == (result.gate, result.history, [])


def test_an_offline_start_leans_to_what_was_recorded(ray_up: None, tmp_path: Path) -> None:
    """Behaviour cloning of a rule that always logs and never consults."""
    from automem.agent.gating.decision import Depth, Question
    from automem_learners.metamemory.export import export_gate
    from automem_learners.metamemory.runner import Sampling, play_gated
    from automem_learners.metamemory.traces import Price
    from automem_learners.metamemory.training import ppo_config, start_offline

    shares = {"log": [0.0, 0.0, 1.0], "consult": [1.0, 0.0, 0.0]}
    recorded = play_gated(
        toy_spec(), tmp_path / "run", {"gate": "random", "gating": shares}, [0, 1, 2, 3]
    )
    price = Price(0.0, 300.0, 12)
    recipe = msgspec.structs.replace(
        RECIPE, offline_updates=40, offline_beta=0.0, learning_rate=0.02
    )
    sampling = Sampling(toy_spec(), str(tmp_path / "samples"), 4, 1000, price)
    algorithm = ppo_config(sampling, recipe, 0).build_algo()
    start_offline(algorithm, recorded, price, recipe, 0)
    gate = ExportedGate(export_gate(algorithm.env_runner.module, tmp_path / "gate"))
    algorithm.stop()
    decided = [gate.decide(Question(0, 0, tuple(row))) for row in recorded[0].features]
    assert {each.log for each in decided} == {Depth.FULL}
    assert {each.consult for each in decided} == {Depth.SKIP}


def test_a_wrong_part_of_the_configuration_is_told_before_anything_is_played() -> None:
    from automem_learners.metamemory.command import main

    with pytest.raises(UsageError, match=r"evaluation\.controls"):
        main(["experiment=embedded", "evaluation.controls={odd: {gate: alway, gates: 1}}"])
    with pytest.raises(UsageError, match="leave it empty"):
        main(["experiment=embedded", "agent.gate=always"])
    with pytest.raises(UsageError, match="did you mean 'price'"):
        main(["experiment=embedded", "prize=1"])
