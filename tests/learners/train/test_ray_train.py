"""DeepSpeed under Ray Train, two workers: the loss of one process, whatever is split or dies."""

import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from automem.audit.weights import unfinished
from automem.errors import UsageError
from automem.rollout.ray_local import connected
from automem_learners.dataset import Dataset
from automem_learners.recipe import Recipe, Scaling, read_recipe
from automem_learners.sft import fit

STEPS = 20
pytestmark = pytest.mark.slow


class Curve:
    """A tracker that keeps the losses, all that were relayed."""

    def __init__(self) -> None:
        self.losses: dict[int, float] = {}
        self.relayed = 0

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self.losses[step] = metrics["train/loss"]
        self.relayed += 1

    def finish(self, summary: Mapping[str, object]) -> None: ...


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[None]:
    """One local Ray for all jobs of this file."""
    with connected():
        yield


def recipe(**changes: object) -> Recipe:
    return read_recipe(
        {
            "lora": {"rank": 8, "alpha": 16},
            "learning_rate": 3e-3,
            "conversations_per_step": 8,
            "precision": "fp32",
            "max_steps": STEPS,
        }
        | changes
    )


def scaling(**changes: object) -> Scaling:
    """Two workers; rows so short that every step accumulates, with unequal trained tokens."""
    return Scaling(
        **{"backend": "deepspeed", "workers": 2, "microbatch_tokens": 300, "checkpoint_every": 8}
        | changes
    )


@pytest.fixture(scope="module")
def alone(
    dataset: Dataset, base: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Losses and adapter of one process."""
    curve, folder = Curve(), tmp_path_factory.mktemp("alone")
    version = fit(dataset, recipe(), base, folder, tracker=curve)
    return list(curve.losses.values()), load_file(Path(version.path) / "adapter_model.safetensors")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_zero_with_two_workers_reaches_the_loss_of_one_process(
    ray_cluster: None,
    dataset: Dataset,
    base: str,
    alone: tuple[list[float], dict[str, torch.Tensor]],
    tmp_path: Path,
    stage: int,
) -> None:
    curve = Curve()
    version = fit(dataset, recipe(), base, tmp_path, scaling(zero_stage=stage), curve)
    losses, weights = alone
    assert len(losses) == STEPS
    assert list(curve.losses.values()) == pytest.approx(losses, abs=1e-3)
    saved = load_file(Path(version.path) / "adapter_model.safetensors")
    assert saved.keys() == weights.keys()
    for name, tensor in saved.items():
        assert torch.allclose(tensor, weights[name], atol=2e-3), name
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    PeftModel.from_pretrained(plain, version.path)


class Killer(Curve):
    """Kills a training worker, as `kill -9` does, once the training has reached a step."""

    def __init__(self, at_step: int) -> None:
        super().__init__()
        self._at_step = at_step
        self.killed: list[int] = []

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        super().log(metrics, step)
        if step >= self._at_step and not self.killed:
            victim = training_workers()[-1]
            self.killed.append(victim)
            os.kill(victim, signal.SIGKILL)


def training_workers() -> list[int]:
    """Process ids of the Ray Train workers among this process's descendants."""
    return [
        process.pid
        for process in psutil.Process().children(recursive=True)
        if "RayTrainWorker" in " ".join(process.cmdline())
    ]


@pytest.mark.timeout(900)
def test_a_training_whose_worker_is_killed_ends_at_the_same_loss(
    ray_cluster: None, dataset: Dataset, base: str, tmp_path: Path
) -> None:
    given = recipe(max_steps=100, epochs=20)
    whole, broken = Curve(), Killer(at_step=25)
    fit(dataset, given, base, tmp_path / "whole", tracker=whole)
    fit(dataset, given, base, tmp_path / "broken", scaling(checkpoint_every=10), broken)
    assert broken.killed
    assert broken.relayed > 100, "some steps were taken twice"
    assert list(broken.losses) == sorted(broken.losses) == list(range(100))
    assert list(broken.losses.values()) == pytest.approx(list(whole.losses.values()), abs=1e-3)


class Stopper(Curve):
    """A person who presses Ctrl-C at a step."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        super().log(metrics, step)
        if step == 40:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.timeout(300)
def test_ctrl_c_stops_a_training_that_can_go_on_and_leaves_no_handler(
    ray_cluster: None, dataset: Dataset, base: str, tmp_path: Path
) -> None:
    before = signal.getsignal(signal.SIGINT)
    given, parts = recipe(max_steps=60, epochs=12), scaling(checkpoint_every=5)
    with pytest.raises(KeyboardInterrupt):
        fit(dataset, given, base, tmp_path, parts, Stopper())
    assert signal.getsignal(signal.SIGINT) is before
    assert unfinished(tmp_path, {dataset.card.digest}) == [tmp_path / "ray"]  # if it is forgotten
    rest = Curve()
    fit(dataset, given, base, tmp_path, parts, rest)
    assert min(rest.losses) > 0, "it went on from a checkpoint"
    assert max(rest.losses) == 59


def test_more_workers_than_the_cluster_holds_are_refused(
    ray_cluster: None, dataset: Dataset, base: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"need 4000 CPU, the cluster has"):
        fit(dataset, recipe(), base, tmp_path, scaling(workers=4000))
