"""Trackers: a run's config, metrics over time and summary table, sent elsewhere as well.

Promise: a tracker never stops, slows or fails a run (`automem.tracking.base`). Whatever it is, its
values are Prometheus gauges where Ray runs (`automem.tracking.prometheus`). Not covered: anything
that the run needs; the run's folder has all.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from automem.errors import UsageError
from automem.suggest import no_such
from automem.tracking.base import NoTracker, RunTracker, Tracker
from automem.tracking.prometheus import Published
from automem.tracking.tensorboard_tracker import TensorboardTracker
from automem.tracking.wandb_tracker import WandbTracker, sync_command
from automem.tracking.wandb_tracker import key_found as wandb_key_found

__all__ = [
    "NoTracker",
    "RunTracker",
    "TensorboardTracker",
    "Tracker",
    "WandbTracker",
    "closing_tracker",
    "open_tracker",
    "sync_command",
    "wandb_key_found",
]

KINDS = {"wandb": WandbTracker, "tensorboard": TensorboardTracker}


def open_tracker(
    settings: Mapping[str, Any], run_dir: Path, config: Mapping[str, Any]
) -> RunTracker:
    """The tracker that `settings` (the group `tracker` of the config) names."""
    name = str(settings.get("name", "none"))
    if name == "none":
        return Published(NoTracker(), run_dir.name)
    if name not in KINDS:
        raise UsageError(no_such("tracker", name, ["none", *KINDS]))
    return Published(KINDS[name](settings, run_dir, config), run_dir.name)


@contextmanager
def closing_tracker(
    settings: Mapping[str, Any], run_dir: Path, config: Mapping[str, Any]
) -> Iterator[RunTracker]:
    """A tracker that is closed where the block is broken off, so that what it was told is kept for
    the loop that goes on. After a block that comes to its end, the caller finishes it."""
    tracker = open_tracker(settings, run_dir, config)
    try:
        yield tracker
    except BaseException:
        tracker.finish({})
        raise
