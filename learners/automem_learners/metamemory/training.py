"""Training a gate with RLlib: MARWIL on recorded traces, then PPO over the platform's rollouts.

Promise: RLlib's own checkpoint is written every few iterations; the same call with the same folder
goes on from the newest one, with the seeds that follow, and does nothing where the gate is there.
Ray must be up (`automem.rollout.ray_local.connected`). Not covered: bit-equal results after a
resume; PPO's minibatches are shuffled by generators that RLlib does not keep.
"""

import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from automem.agent.gating.exported import CARD
from automem.errors import UsageError
from automem.seeds import derive
from automem_learners.metamemory.traces import GateTrace, Price

if TYPE_CHECKING:
    from ray.rllib.algorithms.algorithm import Algorithm
    from ray.rllib.algorithms.ppo import PPOConfig

    from automem_learners.metamemory.runner import Sampling

MARK = "marks.json"


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a gate is trained."""

    hidden: tuple[int, ...] = (32, 32)
    iterations: int = 20
    """Of PPO: each plays `episodes` and learns from them."""
    episodes: int = 16
    learning_rate: float = 3e-3
    minibatch: int = 256
    epochs: int = 6
    gamma: float = 0.98
    lambda_: float = 0.9
    entropy: float = 0.003
    clip: float = 0.2
    offline_updates: int = 16
    """Passes over the recorded traces before PPO; 0: PPO from scratch."""
    offline_beta: float = 1.0
    """MARWIL's: 0 is plain behaviour cloning."""
    checkpoint_every: int = 4

    def __post_init__(self) -> None:
        wrong = [
            f"recipe.{name} must {words}, got {getattr(self, name)}"
            for accepts, words, names in _RANGES
            for name in names
            if not accepts(getattr(self, name))
        ]
        if wrong:
            raise UsageError("; ".join(wrong))


_RANGES: tuple[tuple[Callable[[Any], bool], str, tuple[str, ...]], ...] = (
    (
        lambda value: value >= 1,
        "be at least 1",
        ("iterations", "episodes", "minibatch", "epochs", "checkpoint_every"),
    ),
    (lambda value: value > 0, "be above 0", ("learning_rate", "clip")),
    (lambda value: value >= 0, "be at least 0", ("offline_updates", "offline_beta", "entropy")),
    (lambda value: 0 <= value <= 1, "lie between 0 and 1", ("gamma", "lambda_")),
    (lambda value: value and min(value) >= 1, "name the width of each layer", ("hidden",)),
)


class Progress(msgspec.Struct, frozen=True):
    """One iteration."""

    iteration: int
    iterations: int
    progression: float
    tokens_per_step: float
    reward: float


class Trained(msgspec.Struct, frozen=True):
    """A gate, and how it came about."""

    gate: Path
    seed: int
    price: float
    history: list[Progress]
    seconds: float
    """Of all attempts that reached a checkpoint."""
    resumed: int
    """Iteration that this process went on from; 0 where it began."""


def train_gate(
    folder: Path,
    sampling: "Sampling",
    recipe: Recipe,
    seed: int,
    recorded: Sequence[GateTrace],
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Trained:
    """Train, or go on training, in `folder`; the gate is in `folder/gate`.

    `recorded`: gated traces for the offline start. UsageError, Unplayed and RLlib's own errors."""
    logging.getLogger("ray.rllib").setLevel(logging.ERROR)
    marks, gate, checkpoint = folder / MARK, folder / "gate", folder / "checkpoint"
    history, seconds = _read(marks)
    done = len(history)
    if (gate / CARD).exists():
        return Trained(gate, seed, sampling.price.price, history, seconds, done)
    began = time.monotonic()
    algorithm = ppo_config(sampling, recipe, seed).build_algo()
    try:
        if checkpoint.exists():
            algorithm.restore_from_path(str(checkpoint.absolute()))
        else:
            history = []
            if recipe.offline_updates and recorded:
                start_offline(algorithm, recorded, sampling.price, recipe, seed)
        resumed = len(history)
        while len(history) < recipe.iterations:
            history.append(_iterate(algorithm, len(history) + 1, recipe))
            on_progress(history[-1])
            if len(history) % recipe.checkpoint_every == 0:
                spent = seconds + time.monotonic() - began
                _checkpoint(algorithm, checkpoint, marks, history, spent)
        from automem_learners.metamemory.export import export_gate

        seconds += time.monotonic() - began
        about = {
            "seed": seed,
            "price": sampling.price.price,
            "iterations": len(history),
            "world": sampling.template.world.name,
        }
        _write(marks, history, seconds)
        export_gate(algorithm.get_module(), gate, about=about)
    finally:
        algorithm.stop()
    return Trained(gate, seed, sampling.price.price, history, seconds, resumed)


def reached(folder: Path) -> int:
    """Iterations of the training in `folder` that are safe."""
    return len(_read(folder / MARK)[0])


def ppo_config(sampling: "Sampling", recipe: Recipe, seed: int) -> "PPOConfig":
    """PPO on RLlib's new API stack, in this process, with the platform as its env runner."""
    from ray.rllib.algorithms.ppo import PPOConfig

    from automem_learners.metamemory.runner import RolloutRunner

    config = PPOConfig()
    _common(config, recipe, seed)
    return (
        config.environment(env_config={"sampling": sampling})
        .env_runners(
            env_runner_cls=RolloutRunner,
            num_env_runners=0,
            batch_mode="complete_episodes",
        )
        .training(
            train_batch_size_per_learner=recipe.minibatch,  # at least; a sample is used whole
            minibatch_size=recipe.minibatch,
            num_epochs=recipe.epochs,
            lambda_=recipe.lambda_,
            entropy_coeff=recipe.entropy,
            clip_param=recipe.clip,
            vf_loss_coeff=0.5,
            use_kl_loss=False,
        )
    )


def _common(config: Any, recipe: Recipe, seed: int) -> None:
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

    from automem_learners.metamemory.episodes import ACTIONS, OBSERVATIONS

    config.environment(observation_space=OBSERVATIONS, action_space=ACTIONS)
    config.rl_module(
        model_config=DefaultModelConfig(
            fcnet_hiddens=list(recipe.hidden), fcnet_activation="tanh", vf_share_layers=False
        )
    )
    config.learners(num_learners=0)
    config.training(lr=recipe.learning_rate, gamma=recipe.gamma, grad_clip=1.0)
    config.debugging(seed=derive("metamemory", seed) % 2**31, log_level="ERROR")


def start_offline(
    algorithm: "Algorithm",
    recorded: Sequence[GateTrace],
    price: Price,
    recipe: Recipe,
    seed: int,
) -> None:
    """RLlib's MARWIL on recorded traces; PPO's module takes over what it learned."""
    from ray.rllib.algorithms.marwil import MARWILConfig
    from ray.rllib.core import DEFAULT_MODULE_ID

    from automem_learners.metamemory.episodes import ACTIONS, OBSERVATIONS, to_episodes

    config = MARWILConfig()
    _common(config, recipe, seed)
    config.training(beta=recipe.offline_beta, vf_coeff=1.0)
    group = config.build_learner_group(spaces={DEFAULT_MODULE_ID: (OBSERVATIONS, ACTIONS)})
    try:
        for _ in range(recipe.offline_updates):
            group.update(
                episodes=[*to_episodes(recorded, price)],
                minibatch_size=recipe.minibatch,
                num_epochs=1,
                shuffle_batch_per_epoch=True,
            )
        learners, runners = algorithm.learner_group, algorithm.env_runner_group
        assert learners is not None
        assert runners is not None
        learners.set_weights(group.get_weights())
        runners.sync_weights(from_worker_or_learner_group=learners)
    finally:
        group.shutdown()


def _iterate(algorithm: "Algorithm", number: int, recipe: Recipe) -> Progress:
    result = algorithm.train()["env_runners"]
    return Progress(
        iteration=number,
        iterations=recipe.iterations,
        progression=float(result["progression"]),
        tokens_per_step=float(result["tokens_per_step"]),
        reward=float(result["episode_return_mean"]),
    )


def _checkpoint(
    algorithm: "Algorithm", folder: Path, marks: Path, history: list[Progress], seconds: float
) -> None:
    """The newest state in `folder`, whole: the one before stays until it is there."""
    new, old = folder.with_name("checkpoint.new"), folder.with_name("checkpoint.old")
    for path in (new, old):
        shutil.rmtree(path, ignore_errors=True)
    algorithm.save_to_path(str(new.absolute()))
    _write(new / MARK, history, seconds)
    if folder.exists():
        os.replace(folder, old)
    os.replace(new, folder)
    shutil.rmtree(old, ignore_errors=True)
    _write(marks, history, seconds)


def _write(path: Path, history: list[Progress], seconds: float) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.parent.mkdir(parents=True, exist_ok=True)
    temporary.write_bytes(msgspec.json.encode({"seconds": seconds, "history": history}))
    os.replace(temporary, path)


def _read(marks: Path) -> tuple[list[Progress], float]:
    """What the newest checkpoint had reached; its own copy counts where both are there."""
    inside = marks.with_name("checkpoint") / MARK
    path = inside if inside.exists() else marks
    if not path.exists():
        return [], 0.0
    found = json.loads(path.read_bytes())
    return msgspec.convert(found["history"], list[Progress]), float(found["seconds"])
