"""Whatever a run logs, as Prometheus gauges of Ray's own metrics endpoint on each node.

Names are `ray_automem_<metric>` with the label `run` (`NAME/seed-0` for one of a run's loops); a
learner's are `ray_automem_train_<metric>`.
Ray exports them where it exports its own (`--metrics-export-port`), so one scrape configuration
serves both. Nothing happens without Ray, and a gauge that cannot be set is never a run's failure.
"""

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any

from automem.tracking.base import RunTracker, Tracker

_log = logging.getLogger("automem.tracker")
_gauges: dict[str, Any] = {}


class _Published:
    """A tracker whose values Prometheus can see, too."""

    def __init__(self, inner: Tracker, run: str) -> None:
        self._inner = inner
        self._run = run
        self._has_failed = False

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self._inner.log(metrics, step)
        if not self._has_failed:
            try:
                publish({**metrics, "world_steps": float(step)}, self._run)
            except Exception as error:  # noqa: BLE001 - whatever Ray raises, the run goes on
                self._has_failed = True
                _log.warning("metrics are not exported any more: %s", error)

    def finish(self, summary: Mapping[str, Any]) -> None:
        self._inner.finish(summary)


class Published(_Published):
    """That of a run; its parts are runs to Prometheus, so that one dashboard shows them all."""

    def __init__(self, inner: RunTracker, run: str) -> None:
        super().__init__(inner, run)
        self.inner = inner

    def part(self, name: str) -> Tracker:
        return _Published(self.inner.part(name), f"{self._run}/{name}")


def publish(metrics: Mapping[str, float], run: str) -> None:
    """Set a gauge for each value; without a running Ray nothing happens."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return
    from ray.util.metrics import Gauge

    for name, value in metrics.items():
        metric = gauge_name(name)
        if metric not in _gauges:
            _gauges[metric] = Gauge(metric, description=f"AutoMem: {name}", tag_keys=("run",))
        _gauges[metric].set(float(value), tags={"run": run})


def gauge_name(name: str) -> str:
    """`train/loss` as Prometheus may call it; Ray puts `ray_` before it."""
    return "automem_" + re.sub(r"[^a-zA-Z0-9_]", "_", name)
