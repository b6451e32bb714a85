"""Supervised fine-tuning: a dataset and a recipe become an adapter version.

`fit` runs in this process (`backend: local`) or on Ray Train workers under DeepSpeed; the loop and
the result are the same. Promise: bad input is told before time is spent; a training that died, of
whatever, goes on from its last checkpoint when `fit` is called again with the same arguments; one
that is finished is not repeated. Not covered: changing the number of workers in the middle.
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import torch

from automem.errors import UsageError
from automem.storage.store import Store
from automem.tracker import NoTracker, Tracker
from automem_learners import adapters
from automem_learners.adapters import AdapterVersion
from automem_learners.dataset import Dataset
from automem_learners.job import Job, make_job
from automem_learners.recipe import Recipe, Scaling
from automem_learners.train import checkpoints
from automem_learners.train.checkpoints import Progress
from automem_learners.train.local import LocalStepper
from automem_learners.train.loop import Plan, train
from automem_learners.train.scoring import fill_columns

HISTORY = "history.jsonl"
_MADE = ".made"


def fit(
    dataset: Dataset,
    recipe: Recipe,
    base_model: str,
    out_dir: Path,
    scaling: Scaling | None = None,
    tracker: Tracker | None = None,
    *,
    start: Path | None = None,
    engine_max_rank: int | None = None,
) -> AdapterVersion:
    """Train and publish an adapter under `out_dir`; see the module's docstring.

    `start`: an adapter's folder to go on from. `engine_max_rank`: the highest rank that the engine
    which will serve it accepts. Raises UsageError for input that cannot be trained on."""
    job = make_job(
        dataset, recipe, base_model, scaling or Scaling(), start=start,
        engine_max_rank=engine_max_rank,
    )  # fmt: skip
    return run(job, out_dir, tracker)


def run(job: Job, out_dir: Path, tracker: Tracker | None = None) -> AdapterVersion:
    """Carry out a checked job."""
    out_dir = Path(out_dir).resolve()
    if (out_dir / adapters.CARD).is_file():
        return _finished(job, out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    tracker = tracker or NoTracker()
    if job.scaling.backend == "local":
        made, progress = _run_local(job, out_dir, tracker)
    else:
        from automem_learners.train.ray_driver import run_on_ray

        made, progress = run_on_ray(job, out_dir, tracker)
    lines = b"".join(msgspec.json.encode(record) + b"\n" for record in progress.history)
    (out_dir / HISTORY).write_bytes(lines)
    version = adapters.publish(_version(job, progress, began), made, out_dir)
    for leftover in ("checkpoints", "ray"):
        shutil.rmtree(out_dir / leftover, ignore_errors=True)
    if job.scaling.backend == "deepspeed" and job.scaling.storage_url:
        from automem_learners.train.ray_driver import training_url

        Store(training_url(job)).remove("")
    return version


def _finished(job: Job, out_dir: Path) -> AdapterVersion:
    version = adapters.read_version(out_dir)
    if version.job != job.digest:
        raise UsageError(
            f"{out_dir} holds {version.name}, the result of another training (data, recipe or base "
            "model differ); versions are immutable: choose another output folder"
        )
    return version


def _run_local(job: Job, out_dir: Path, tracker: Tracker) -> tuple[Path, Progress]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    # the caller's random numbers and threads are not ours to change
    with torch.random.fork_rng(devices=[]), threads(job.scaling.cpus_per_worker):
        is_low = job.recipe.precision == "bf16"
        dtype = torch.bfloat16 if is_low and job.recipe.lora is not None else torch.float32
        model = adapters.prepare(job.base, job.recipe, job.start, dtype)
        if job.scaling.gradient_checkpointing:
            adapters.recompute_activations(model)
        stepper = LocalStepper(model, job.recipe, device)
        progress = _steps_local(job, stepper, out_dir / "checkpoints", tracker)
    made = out_dir / _MADE
    shutil.rmtree(made, ignore_errors=True)
    adapters.save(model, adapters.trained_state(model, is_writer=True), job.base, made)
    return made, progress


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Torch computes with so many threads: one too many, on a shared core, costs up to 20 times."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _steps_local(job: Job, stepper: LocalStepper, root: Path, tracker: Tracker) -> Progress:
    capacity, every = job.scaling.microbatch_tokens, job.scaling.checkpoint_every
    examples, report = fill_columns(stepper, job.examples, job.objective, capacity)
    progress = Progress(job.digest, 1, stepper.layout, (), report, job.sources)
    latest = checkpoints.newest(root)
    if latest is not None:
        progress = checkpoints.read_progress(latest, job.digest, 1, stepper.layout)
        stepper.load(latest)
    plan = Plan.of(examples, job.recipe)
    steps = train(stepper, plan, job.recipe, capacity, job.objective, progress.steps)
    for record in steps:
        progress = progress.after(record)
        tracker.log(record.metrics(), record.step)
        if every and progress.steps % every == 0 and progress.steps < len(plan.steps):
            with checkpoints.new_checkpoint(root, progress.steps) as folder:
                stepper.save(folder)
                checkpoints.write_progress(folder, progress)
    return progress


def _version(job: Job, progress: Progress, began: float) -> AdapterVersion:
    history = progress.history
    tail = [record.loss for record in history[-max(1, len(history) // 10) :]]
    lora = job.recipe.lora
    return AdapterVersion(
        path="adapter" if lora is not None else "model",
        base_model=job.base.name,
        rank=lora.rank if lora is not None else 0,
        job=job.digest,
        dataset=job.dataset,
        recipe=msgspec.to_builtins(job.recipe),
        steps=len(history),
        conversations=len(job.examples),
        skipped=job.skipped,
        first_loss=history[0].loss,
        last_loss=sum(tail) / len(tail),
        tokens_per_s=sum(r.tokens for r in history) / sum(r.seconds for r in history),
        seconds=time.perf_counter() - began,
        report=progress.report,
    )
