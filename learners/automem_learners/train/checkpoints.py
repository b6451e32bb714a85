"""Checkpoints: a training that dies goes on where its last one was written.

Promise: a folder named `step-000040` is whole (it was renamed into place); the newest one of the
same job is continued from, and the loss curve is the one of an unbroken run, to rounding. Frozen
weights are not in it: they come from the base model. Under Ray Train the storage is Ray's, which
keeps the same promise; the files inside are the same.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from automem.errors import UsageError

_STATE = "progress.json"
KEPT = 2
"""Newest checkpoints that stay; older ones go."""


class StepRecord(msgspec.Struct, frozen=True):
    """One optimizer step, as all workers together took it."""

    step: int
    """Counts from 0."""
    loss: float
    learning_rate: float
    gradient_norm: float | None
    """Before clipping; None where the backend does not tell (DeepSpeed without ZeRO)."""
    conversations: int
    tokens: int
    """Of the whole conversations, padding and idle rows left out."""
    trained_tokens: int
    seconds: float
    """Wall time of the step on the first worker."""

    def metrics(self) -> dict[str, float]:
        """What a tracker gets."""
        norm = self.gradient_norm
        return ({} if norm is None else {"train/gradient_norm": norm}) | {
            "train/loss": self.loss,
            "train/learning_rate": self.learning_rate,
            "train/tokens_per_s": self.tokens / max(self.seconds, 1e-9),
            "train/trained_tokens": float(self.trained_tokens),
        }


class Progress(msgspec.Struct, frozen=True):
    """How far a training is, and who may go on from there."""

    job: str
    """Digest of data, recipe and base model: another job's checkpoint is refused."""
    workers: int
    layout: str
    """`local` or `zero-<stage>`: how the state is cut into shards."""
    history: tuple[StepRecord, ...]
    report: dict[str, float] = {}
    """The objective's own figures."""
    sources: tuple[str, ...] = ()
    """The job's, digests: by them `automem forget` tells which checkpoints have seen a fact."""

    @property
    def steps(self) -> int:
        return len(self.history)

    def after(self, record: StepRecord) -> "Progress":
        """One step further."""
        return msgspec.structs.replace(self, history=(*self.history, record))


def write_progress(folder: Path, progress: Progress) -> None:
    """Beside the state's own files."""
    (folder / _STATE).write_bytes(msgspec.json.encode(progress))


def read_progress(folder: Path, job: str, workers: int, layout: str) -> Progress:
    """The progress of a checkpoint; UsageError where it is another job's or of another shape."""
    progress = msgspec.json.decode((folder / _STATE).read_bytes(), type=Progress)
    if progress.job != job:
        raise UsageError(
            f"{folder} belongs to another training (data, recipe or base model differ): "
            "choose another output folder, or remove it to start afresh"
        )
    if (progress.workers, progress.layout) != (workers, layout):
        raise UsageError(
            f"{folder} was written by {progress.workers} worker(s) as {progress.layout}, and the "
            f"training asks for {workers} as {layout}: continue it with the same scaling, or "
            "remove it to start afresh"
        )
    return progress


def newest(root: Path) -> Path | None:
    """The newest whole checkpoint under `root`."""
    return max(root.glob("step-*"), default=None)


@contextmanager
def new_checkpoint(root: Path, steps: int) -> Iterator[Path]:
    """A folder to write into; whole and renamed into place when the block ends well."""
    unfinished = root / f".writing-{os.getpid()}"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    yield unfinished
    final = root / f"step-{steps:06d}"
    if final.exists():
        shutil.rmtree(final)
    unfinished.rename(final)
    for old in sorted(root.glob("step-*"))[:-KEPT]:
        shutil.rmtree(old)
