"""What each Ray Train worker does: load, continue from the last checkpoint, train, report.

Every worker writes its own shard of a checkpoint; Ray merges the shards in its storage. The last
checkpoint carries the trained adapter, gathered, instead of the state.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from automem_learners import adapters
from automem_learners.job import Job
from automem_learners.train import checkpoints
from automem_learners.train.checkpoints import Progress, StepRecord
from automem_learners.train.loop import Plan, train

MADE = "made"
"""Folder of the trained weights in the last checkpoint."""


def work(config: dict[str, Any]) -> None:
    """The training function of one worker. `config`: `job` (a reference to a Job), `relay`."""
    import ray
    from ray.train.torch import get_device

    os.environ.setdefault("DS_SKIP_CUDA_CHECK", "1")  # torch's own optimizer: nothing is compiled
    from automem_learners.train.zero import ZeroStepper

    job: Job = ray.get(config["job"][0])
    stepper = ZeroStepper(job.base, job.recipe, job.scaling, job.start, get_device())
    history = _restore(stepper, job)
    plan = Plan.of(job.examples, job.recipe)
    every = job.scaling.checkpoint_every
    steps = train(
        stepper, plan, job.recipe, job.scaling.microbatch_tokens, job.objective, len(history)
    )
    for record in steps:
        history.append(record)
        if stepper.worker == 0:
            config["relay"].add.remote(record)
        if every and len(history) % every == 0 and len(history) < len(plan.steps):
            with _reporting(stepper, job, history) as folder:
                stepper.save(folder)
    weights = adapters.trained_state(stepper.model, is_writer=stepper.worker == 0)
    with _reporting(stepper, job, history) as folder:
        if stepper.worker == 0:
            adapters.save(stepper.model, weights, job.base, folder / MADE)


def _restore(stepper: Any, job: Job) -> list[StepRecord]:
    """Go on from Ray's newest checkpoint, where there is one; the steps that it has taken."""
    from ray import train as ray_train

    checkpoint = ray_train.get_checkpoint()
    if checkpoint is None:
        return []
    with checkpoint.as_directory() as path:
        folder = Path(path)
        progress = checkpoints.read_progress(folder, job.digest, stepper.workers, stepper.layout)
        if not (folder / MADE).is_dir():
            stepper.load(folder)
        return list(progress.history)


@contextmanager
def _reporting(stepper: Any, job: Job, history: list[StepRecord]) -> Iterator[Path]:
    """A folder to fill; then this worker's part of a checkpoint."""
    from ray import train as ray_train

    with tempfile.TemporaryDirectory(prefix="automem-checkpoint-") as path:
        folder = Path(path)
        yield folder
        if stepper.worker == 0:
            progress = Progress(job.digest, stepper.workers, stepper.layout, tuple(history))
            checkpoints.write_progress(folder, progress)
        if torch.distributed.is_initialized():
            torch.distributed.barrier()
        ray_train.report(
            {"steps": len(history), "loss": history[-1].loss},
            checkpoint=ray_train.Checkpoint.from_directory(folder),
        )
