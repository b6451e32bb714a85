"""A run's folder: who owns it, what was asked for, what was measured.

One process at a time: `run.lock` is held by flock, so a killed owner frees it. `run.json` holds the
spec and `scaffold/` a copy of the scaffold, so a resume needs nothing else, wherever the folder has
been moved to; and the run's own measurements, added up over its resumes.
"""

import fcntl
import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from automem.errors import StoreError, UsageError
from automem.rollout.durably import replace_file
from automem.rollout.meter import WorkerStats
from automem.rollout.redactions import unfinished_plan
from automem.rollout.spec import RolloutSpec

RUN_FILE = "run.json"
CONFIG_FILE = "config.yaml"
"""The composed configuration, kept by who began the run."""
LOCK_FILE = "run.lock"
SCAFFOLD_FOLDER = "scaffold"
STORED_RUNS = "runs"
"""Folder of the runs under a storage URL."""
SCHEMA = 1


class PlannedEpisode(msgspec.Struct, frozen=True):
    """One line of the plan, by the id that names its folder."""

    episode: str
    seed: int
    replicate: int


class RunFile(msgspec.Struct, frozen=True):
    """`run.json`."""

    schema: int
    created: float
    episodes: tuple[PlannedEpisode, ...]
    spec: RolloutSpec
    wall_s: float = 0.0
    """Seconds that drivers have run, killed ones left out."""
    platform_cpu_s: float = 0.0
    """CPU time of the workers without that of the worlds."""
    platform_ms_per_step: float = 0.0
    steps_measured: int = 0
    """Steps that the two figures above are over."""
    restarts: int = 0


def create_run(run_dir: Path, spec: RolloutSpec) -> RolloutSpec:
    """Write down what is to be played, scaffold included; the spec as a resume will read it.

    UsageError where the folder already holds a run, or something of somebody else's."""
    if (run_dir / RUN_FILE).exists() or (run_dir / "episodes").exists():
        raise UsageError(
            f"{run_dir} already holds a run: continue it with `automem resume {run_dir}`, or "
            "choose another run.dir"
        )
    if (run_dir / CONFIG_FILE).exists():
        raise UsageError(
            f"{run_dir} holds a {CONFIG_FILE} that is no rollout's: choose another run.dir"
        )
    ids = [spec.episode_id(key) for key in spec.episodes]
    if not ids or len(set(ids)) < len(ids):
        raise UsageError("a run needs at least one episode, and each of them once")
    planned = tuple(
        PlannedEpisode(name, key.seed, key.replicate)
        for name, key in zip(ids, spec.episodes, strict=True)
    )
    _copy_scaffold(Path(spec.scaffold), run_dir / SCAFFOLD_FOLDER)
    spec = msgspec.structs.replace(spec, scaffold=SCAFFOLD_FOLDER)
    if spec.storage_url:
        url = f"{spec.storage_url.rstrip('/')}/{STORED_RUNS}/{run_dir.name}-{uuid.uuid4().hex[:6]}"
        spec = msgspec.structs.replace(spec, storage_url=url)
    _write(run_dir, RunFile(SCHEMA, time.time(), planned, spec))
    return read_run(run_dir).spec


def read_run(run_dir: Path) -> RunFile:
    """What `create_run` wrote. UsageError where there is no run, StoreError where it is damaged."""
    run = _read(run_dir)
    scaffold = str(run_dir / run.spec.scaffold)
    return msgspec.structs.replace(run, spec=msgspec.structs.replace(run.spec, scaffold=scaffold))


def _read(run_dir: Path) -> RunFile:
    try:
        return msgspec.json.decode((run_dir / RUN_FILE).read_bytes(), type=RunFile)
    except FileNotFoundError:
        raise UsageError(
            f"{run_dir} holds no run (it has no {RUN_FILE}): start one with `automem rollout`"
        ) from None
    except msgspec.DecodeError as error:
        raise StoreError(f"{run_dir / RUN_FILE} cannot be read: {error}") from error


def add_measurements(run_dir: Path, wall_s: float, stats: WorkerStats, restarts: int) -> None:
    """Add what one driver has measured."""
    run = _read(run_dir)
    cpu_s = run.platform_cpu_s + stats.cpu_s
    steps = run.steps_measured + stats.steps
    _write(
        run_dir,
        msgspec.structs.replace(
            run,
            wall_s=run.wall_s + wall_s,
            platform_cpu_s=cpu_s,
            platform_ms_per_step=1000 * cpu_s / steps if steps else 0.0,
            steps_measured=steps,
            restarts=run.restarts + restarts,
        ),
    )


def _copy_scaffold(source: Path, target: Path) -> None:
    """A copy that is whole or not there. UsageError where something else has its name: it may be
    somebody's."""
    if target.exists():
        if _same_files(source, target):  # a start that was killed has come so far
            return
        raise UsageError(f"{target} is there already and not of this run: choose another run.dir")
    draft = target.with_name(f".{SCAFFOLD_FOLDER}.draft")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        shutil.copytree(source, draft)
        os.rename(draft, target)
    except (OSError, shutil.Error) as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise StoreError(f"the scaffold {source} cannot be copied to {target}: {error}") from error


def _same_files(one: Path, other: Path) -> bool:
    def files(folder: Path) -> dict[Path, bytes]:
        return {
            path.relative_to(folder): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }

    return other.is_dir() and files(one) == files(other)


@contextmanager
def locked(run_dir: Path, *, is_forgetting: bool = False) -> Iterator[None]:
    """Own the run. UsageError, naming the owner, where another process does, and where a forgetting
    was cut short, unless `is_forgetting`."""
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(run_dir / LOCK_FILE, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UsageError(
            f"{run_dir} cannot be written ({error}): choose another run.dir"
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(_owned(run_dir, descriptor)) from None
        os.ftruncate(descriptor, 0)
        owner = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time()}
        os.pwrite(descriptor, msgspec.json.encode(owner), 0)
        if not is_forgetting and (place := unfinished_plan(run_dir)):
            raise UsageError(
                f"in {place} something was being forgotten when the process died: finish it with "
                f"`automem forget {place}`"
            )
        yield
    finally:
        os.close(descriptor)


def _owned(run_dir: Path, descriptor: int) -> str:
    try:
        owner: Any = msgspec.json.decode(os.pread(descriptor, 4096, 0))
        who = f"process {owner['pid']} on {owner['host']}"
    except (msgspec.DecodeError, KeyError, TypeError):
        who = "another process"
    return (
        f"{run_dir} is being played by {who}: wait for it, stop it with Ctrl-C, or choose another "
        "run.dir"
    )


def _write(run_dir: Path, run: RunFile) -> None:
    data = msgspec.json.format(msgspec.json.encode(run)) + b"\n"
    try:
        replace_file(run_dir / RUN_FILE, data, run.spec.fsync)
    except OSError as error:
        raise StoreError(f"{run_dir / RUN_FILE} cannot be written: {error}") from error
