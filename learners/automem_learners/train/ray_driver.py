"""The driver's side of a training on Ray Train workers.

Promise: workers that die are restarted, all of them, from the last checkpoint, up to
`max_failures` times; a driver that died goes on when it is run again, from Ray's storage: under the
output folder, which its nodes then have to share, or under `storage_url`. Steps are relayed to the
tracker while they happen; those repeated after a death are relayed again.
"""

import shutil
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from automem.errors import InfrastructureError, UsageError
from automem.rollout.ray_local import connected
from automem.storage.store import Store
from automem.tracker import Tracker
from automem_learners.job import Job
from automem_learners.recipe import Scaling
from automem_learners.train.checkpoints import Progress, StepRecord, read_progress
from automem_learners.train.ray_worker import MADE, work

_POLL_S = 0.5


class LearnerError(InfrastructureError):
    """The workers could not finish a training; it can be continued."""

    boundary = "learner"


class Relay:
    """An actor that holds the steps which the tracker has not seen yet."""

    def __init__(self) -> None:
        self._records: list[StepRecord] = []

    def add(self, record: StepRecord) -> None:
        self._records.append(record)

    def take(self) -> list[StepRecord]:
        records, self._records = self._records, []
        return records


def run_on_ray(job: Job, out_dir: Path, tracker: Tracker) -> tuple[Path, Progress]:
    """Train on workers; the folder of the trained weights, and how it went."""
    with connected():
        import ray

        _check_resources(ray, job)
        relay = ray.remote(num_cpus=0)(Relay).remote()
        with _following(ray, relay, tracker):
            checkpoint = _fit(ray, job, out_dir, relay)
        made = out_dir / ".made"
        shutil.rmtree(made, ignore_errors=True)
        with checkpoint.as_directory() as path:
            layout = f"zero-{job.scaling.zero_stage}"
            progress = read_progress(Path(path), job.digest, job.scaling.workers, layout)
            shutil.copytree(Path(path) / MADE, made)
    return made, progress


def _fit(ray: Any, job: Job, out_dir: Path, relay: Any) -> Any:
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    scaling = job.scaling
    trainer = TorchTrainer(
        work,
        train_loop_config={"job": [ray.put(job)], "relay": relay, "start": _stored_start(job)},
        scaling_config=ScalingConfig(
            num_workers=scaling.workers,
            use_gpu=scaling.gpus_per_worker > 0,
            **_placement(scaling),
            resources_per_worker={"CPU": scaling.cpus_per_worker}
            | ({"GPU": scaling.gpus_per_worker} if scaling.gpus_per_worker else {}),
        ),
        run_config=RunConfig(
            name=f"train-{job.digest[:8]}",
            **_storage(job, out_dir),
            failure_config=FailureConfig(max_failures=scaling.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
        ),
    )
    try:
        with _interrupts_kept():
            result = trainer.fit()
    except Exception as error:
        cause = _usage_error_in(error)
        if cause is not None:
            raise cause from error
        raise LearnerError(
            f"the training did not finish: {error}\nCall it again with the same arguments to go on "
            f"from the last checkpoint under {out_dir}"
        ) from error
    return result.checkpoint


def _placement(scaling: Scaling) -> dict[str, Any]:
    """Where workers go: one placement group, on nodes with the labels."""
    labels = {"label_selector": dict(scaling.labels)} if scaling.labels else {}
    return {"placement_strategy": scaling.strategy, **labels}


def _storage(job: Job, out_dir: Path) -> dict[str, Any]:
    """Where Ray Train keeps checkpoints: what a continuation with the same job finds again."""
    if not job.scaling.storage_url:
        return {"storage_path": str(out_dir / "ray")}
    import fsspec
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    # What another process has written would be missing in a listing that is remembered.
    files, path = fsspec.core.url_to_fs(Store(training_url(job)).url, use_listings_cache=False)
    return {"storage_path": path, "storage_filesystem": PyFileSystem(FSSpecHandler(files))}


def _stored_start(job: Job) -> str:
    """Where workers on other nodes find the adapter to go on from; empty: in its own folder."""
    if job.start is None or not job.scaling.storage_url:
        return ""
    Store(training_url(job)).put_tree(job.start, "start")
    return f"{training_url(job)}/start"


def training_url(job: Job) -> str:
    """A training's place in the store."""
    return f"{job.scaling.storage_url.rstrip('/')}/training/{job.digest}"


@contextmanager
def _interrupts_kept() -> Iterator[None]:
    """Ray Train takes SIGINT for itself, does not give it back, and ends the process with success
    on it. Here Ctrl-C stays a KeyboardInterrupt, and the handler is the one before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as aborted:
        raise KeyboardInterrupt from aborted
    finally:
        signal.signal(signal.SIGINT, before)


def _usage_error_in(error: BaseException | None) -> UsageError | None:
    """The mistake that a worker's failure stands for, where it is one."""
    failures = getattr(error, "worker_failures", {}) or {}
    for inner in [*failures.values(), getattr(error, "cause", None)]:
        if isinstance(inner, UsageError):
            return inner
    return None


def _check_resources(ray: Any, job: Job) -> None:
    """UsageError where the nodes that may be used have no room: Ray would wait for ever."""
    wanted = {"CPU": job.scaling.cpus_per_worker, "GPU": job.scaling.gpus_per_worker}
    labels = job.scaling.labels
    there = _resources_of(ray, labels)
    where = f"the cluster's nodes labelled {labels} have" if labels else "the cluster has"
    for name, each in wanted.items():
        needed = each * job.scaling.workers
        if needed > there.get(name, 0):
            raise UsageError(
                f"{job.scaling.workers} worker(s) with {each} {name} each need {needed} {name}, "
                f"{where} {there.get(name, 0):g}: ask for fewer workers, or connect to a "
                "larger cluster (RAY_ADDRESS)"
            )


def _resources_of(ray: Any, labels: Mapping[str, str]) -> dict[str, float]:
    """What the nodes with these labels have in all."""
    total: dict[str, float] = {}
    for node in ray.nodes():
        if node["Alive"] and labels.items() <= node["Labels"].items():
            for name, amount in node["Resources"].items():
                total[name] = total.get(name, 0) + amount
    return total


@contextmanager
def _following(ray: Any, relay: Any, tracker: Tracker) -> Iterator[None]:
    """Hand every relayed step to the tracker, from a thread, until the block ends."""
    is_over = threading.Event()

    def pass_on() -> None:
        for record in ray.get(relay.take.remote()):
            tracker.log(record.metrics(), record.step)

    def follow() -> None:
        while not is_over.wait(_POLL_S):
            pass_on()

    thread = threading.Thread(target=follow, name="training-progress", daemon=True)
    thread.start()
    try:
        yield
        pass_on()
    finally:
        is_over.set()
        thread.join()
