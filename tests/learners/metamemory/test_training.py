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
from automem.rollout.run_dir import read_run
from automem_learners.metamemory.arms import play_arm
from automem_learners.metamemory.experiment import Experiment, Offline, Plan
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


@pytest.mark.parametrize(
    ("field", "value"),
    [("iterations", 0), ("checkpoint_every", 0), ("minibatch", 0), ("learning_rate", 0.0),
     ("gamma", 1.5), ("clip", -1.0), ("offline_updates", -1), ("hidden", ())],
)  # fmt: skip
def test_a_recipe_that_cannot_be_carried_out_is_refused(field: str, value: Any) -> None:
    with pytest.raises(UsageError, match=rf"recipe\.{field} must"):
        msgspec.convert({field: value}, Recipe)


def plan(**changes: Any) -> Plan:
    fields: dict[str, Any] = {
        "training_seeds": (0, 1),
        "price": 0.3,
        "curve": (),
        "margin": 0.05,
        "goal": 0.3,
        "games": 2,
        "controls": {"never": {"gate": "never"}},
        "offline": Offline(2, {"always": {"gate": "always"}, "brief": {"gate": "brief"}}),
        "recipe": RECIPE,
        "parallel": 1,
    }
    return Plan(**{**fields, **changes})


def test_an_experiment_compares_gates_with_rules_on_the_same_games_and_goes_on(
    ray_up: None, tmp_path: Path
) -> None:
    said: list[str] = []

    def experiment(world: dict[str, Any] | None = None, **changes: Any) -> Any:
        spec = toy_spec(world_args=world or {})
        return Experiment(plan(**changes), tmp_path, spec, spec, None, said.append).run("a", "b")

    results = experiment()
    rows = {row.name: row for row in results.rows}
    assert list(rows) == ["always", "learned, price 0.3", "never", "random at the same rate"]
    learned = rows["learned, price 0.3"]
    assert learned.games == rows["always"].games == 4
    [random_run] = tmp_path.glob("table/random*")
    gating = read_run(random_run).spec.agent["gating"]
    assert gating["log"] == pytest.approx(learned.log, abs=1e-3)
    assert gating["consult"] == pytest.approx(learned.consult, abs=1e-3)
    seeds = [
        {key.seed for key in read_run(tmp_path / "table" / name).spec.episodes}
        for name in ("learned-seed-0", "learned-seed-1", "always")
    ]
    assert seeds[0] | seeds[1] == seeds[2]
    assert not seeds[0] & seeds[1]

    shutil.rmtree(tmp_path / "table/never")  # killed before its end
    played = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.pt")}
    games = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("journal/*.jsonl")}
    again = experiment(controls={"never": {"gate": "never"}, "brief": {"gate": "brief"}})
    assert {row.name: row for row in again.rows}["never"] == rows["never"]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.pt")} == played
    now = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("journal/*.jsonl")}
    assert games.items() <= now.items()

    with pytest.raises(UsageError, match=r"games: 2 then, 3 now"):
        experiment(games=3)
    with pytest.raises(UsageError, match=r"plays\.world\.target\.max_steps"):
        experiment(world={"max_steps": 7})


def test_an_arm_is_not_played_on_in_another_world(tmp_path: Path) -> None:
    play_arm(toy_spec(), tmp_path / "arm", {"gate": "always"}, [1], "arm")
    with pytest.raises(UsageError, match=r"begun with other settings \(world\)"):
        play_arm(
            toy_spec(world_args={"max_steps": 7}), tmp_path / "arm", {"gate": "always"}, [1], "arm"
        )
