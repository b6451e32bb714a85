"""Trackers: a run's config, metrics over time and summary table, sent elsewhere as well.

Promise: a tracker never stops, slows or fails a run. It works in a thread of its own; its first
failure is one warning, after which it is silent. Without a key, W&B writes to the run's folder
(`wandb sync` sends it later). Not covered: anything that the run needs; the run's folder has all.
"""

import logging
import os
import queue
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from automem.errors import UsageError
from automem.suggest import no_such

_log = logging.getLogger(__name__)

FINISH_TIMEOUT_S = 60.0
"""Longest that the end of a run waits for its tracker: what is unsent then stays on disk."""


class Tracker(Protocol):
    """Where a run is followed besides its folder."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Values at a moment of the run; `step` grows (world steps so far)."""
        ...

    def finish(self, summary: Mapping[str, Any]) -> None:
        """The final summary (`summary.json`), as values and as a table; then close."""
        ...


class NoTracker:
    """Follows nothing."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        pass

    def finish(self, summary: Mapping[str, Any]) -> None:
        pass


def open_tracker(settings: Mapping[str, Any], run_dir: Path, config: Mapping[str, Any]) -> Tracker:
    """The tracker that `settings` (the group `tracker` of the config) names."""
    name = settings.get("name", "none")
    if name == "none":
        return NoTracker()
    if name == "wandb":
        return WandbTracker(settings, run_dir, config)
    raise UsageError(no_such("tracker", str(name), ["none", "wandb"]))


def wandb_key_found() -> bool:
    """Whether a W&B key is at hand: the environment's, or the login's in ~/.netrc."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser().read_text()
    except OSError:
        return False
    return "api.wandb.ai" in netrc


class WandbTracker:
    """Weights & Biases, driven from a thread of its own."""

    def __init__(
        self, settings: Mapping[str, Any], run_dir: Path, config: Mapping[str, Any]
    ) -> None:
        self._settings = dict(settings)
        self._run_dir = run_dir
        self._config = dict(config)
        self._run: Any = None
        self._has_failed = False
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._work.put(self._start)
        self._thread = threading.Thread(target=self._loop, name="wandb-tracker", daemon=True)
        self._thread.start()

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        values = dict(metrics)
        self._work.put(lambda: self._run.log(values, step=step))

    def finish(self, summary: Mapping[str, Any]) -> None:
        values = _flat(summary)
        self._work.put(lambda: self._finish(values))
        self._work.put(None)
        self._thread.join(FINISH_TIMEOUT_S)
        if self._thread.is_alive():
            _log.warning(
                "wandb did not finish within %.0f s; what it has is under %s",
                FINISH_TIMEOUT_S,
                self._run_dir / "wandb",
            )

    def _loop(self) -> None:
        while (call := self._work.get()) is not None:
            if self._has_failed:
                continue
            try:
                call()
            except Exception as error:  # noqa: BLE001 - whatever a tracker raises, the run goes on
                self._has_failed = True
                _log.warning("wandb failed, the run goes on without it: %s", error)

    def _start(self) -> None:
        import wandb

        self._run = wandb.init(
            project=self._settings.get("project") or "automem",
            entity=self._settings.get("entity"),
            mode=self._settings.get("mode") or ("online" if wandb_key_found() else "offline"),
            tags=list(self._settings.get("tags") or []),
            name=self._run_dir.name,
            dir=str(self._run_dir),
            config=self._config,
            settings=wandb.Settings(
                silent=True, console="off", x_disable_stats=True, disable_git=True
            ),
        )

    def _finish(self, values: dict[str, Any]) -> None:
        import wandb

        rows = [[name, str(value)] for name, value in values.items()]
        self._run.log({"summary": wandb.Table(columns=["metric", "value"], data=rows)})
        self._run.summary.update(values)
        self._run.finish()


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one level of dotted names."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat
