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

from automem.storage.store import local_copy
from automem_learners import adapters
from automem_learners.job import Job
from automem_learners.train import checkpoints
from automem_learners.train.checkpoints import Progress
from automem_learners.train.loop import Plan, Stepper, train
from automem_learners.train.scoring import fill_columns

MADE = "made"
"""Folder of the trained weights in the last checkpoint."""


def work(config: dict[str, Any]) -> None:
    """The training function of one worker. `config`: `job` (a reference to a Job), `relay`,
    `start` (URL of the adapter to go on from, where it is not in a folder that all share)."""
    import ray
    from ray.train.torch import get_device

    os.environ.setdefault("DS_SKIP_CUDA_CHECK", "1")  # torch's own optimizer: nothing is compiled
    from automem_learners.train.zero import ZeroStepper

    job: Job = ray.get(config["job"][0])
    capacity, every = job.scaling.microbatch_tokens, job.scaling.checkpoint_every
    start = local_copy(config["start"]) if config["start"] else job.start
    stepper = ZeroStepper(job.base, job.recipe, job.scaling, start, get_device())
    examples, report = fill_columns(stepper, job.examples, job.objective, capacity)
    progress = Progress(job.digest, stepper.workers, stepper.layout, (), report, job.sources)
    progress = _restored(stepper, progress)
    plan = Plan.of(examples, job.recipe)
    steps = train(stepper, plan, job.recipe, capacity, job.objective, progress.steps)
    for record in steps:
        progress = progress.after(record)
        if stepper.worker == 0:
            config["relay"].add.remote(record)
        if every and progress.steps % every == 0 and progress.steps < len(plan.steps):
            with _reporting(stepper.worker, progress) as folder:
                stepper.save(folder)
    weights = adapters.trained_state(stepper.model, is_writer=stepper.worker == 0)
    with _reporting(stepper.worker, progress) as folder:
        if stepper.worker == 0:
            adapters.save(stepper.model, weights, job.base, folder / MADE)


def _restored(stepper: Stepper, fresh: Progress) -> Progress:
    """Go on from Ray's newest checkpoint, where there is one."""
    from ray import train as ray_train

    checkpoint = ray_train.get_checkpoint()
    if checkpoint is None:
        return fresh
    with checkpoint.as_directory() as path:
        folder = Path(path)
        progress = checkpoints.read_progress(folder, fresh.job, fresh.workers, fresh.layout)
        if not (folder / MADE).is_dir():
            stepper.load(folder)
    return progress


@contextmanager
def _reporting(worker: int, progress: Progress) -> Iterator[Path]:
    """A folder to fill; then this worker's part of a checkpoint."""
    from ray import train as ray_train

    with tempfile.TemporaryDirectory(prefix="automem-checkpoint-") as path:
        folder = Path(path)
        yield folder
        if worker == 0:
            checkpoints.write_progress(folder, progress)
        ray_train.report(
            {"steps": progress.steps, "loss": progress.history[-1].loss},
            checkpoint=ray_train.Checkpoint.from_directory(folder),
        )
