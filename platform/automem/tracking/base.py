"""What every tracker promises: it never stops, slows or fails a run.

The work is done in a thread of its own; its first failure is one warning, after which it is silent.
"""

import logging
import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec

from automem.trace.summary import read_run

_log = logging.getLogger("automem.tracker")

FINISH_TIMEOUT_S = 60.0
"""Longest that the end of a run waits for its tracker: what is unsent then stays on disk."""


class Tracker(Protocol):
    """Where a run is followed besides its folder."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Values at a place on the curves' axis: world steps so far, or a loop's training steps.
        The same place may come again, where a death has taken the run back."""
        ...

    def finish(self, summary: Mapping[str, Any]) -> None:
        """The final summary (`summary.json`), as values and as tables; then close. Empty where the
        run was broken off."""
        ...


class RunTracker(Tracker, Protocol):
    """That of a whole run, which may hold several loops."""

    def part(self, name: str) -> Tracker:
        """For one of the loops: curves of the same metrics that bear its name and have an axis of
        their own. Finishing it does nothing: it ends with the whole."""
        ...


class NoTracker:
    """Follows nothing."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        pass

    def finish(self, summary: Mapping[str, Any]) -> None:
        pass

    def part(self, name: str) -> Tracker:
        return self


class ThreadedTracker(ABC):
    """A tracker that works in a thread; subclasses say what is done there. Steps go on rising when
    a run is resumed: they start at what its drivers before have measured."""

    name = "the tracker"

    def __init__(
        self, settings: Mapping[str, Any], run_dir: Path, config: Mapping[str, Any]
    ) -> None:
        self.settings = dict(settings)
        self.run_dir = run_dir
        self.config = dict(config)
        self.first_step = int(read_run(run_dir).get("steps_measured") or 0)
        self._has_failed = False
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._work.put(self.on_start)
        self._thread = threading.Thread(target=self._loop, name=f"{self.name}-tracker", daemon=True)
        self._thread.start()

    @abstractmethod
    def on_start(self) -> None:
        """Open what is written to."""

    @abstractmethod
    def on_log(self, values: dict[str, float], step: int, part: str) -> None:
        """Values at a step of the whole run, or of one of its parts."""

    @abstractmethod
    def on_finish(self, summary: dict[str, Any]) -> None:
        """The summary, where there is one, then close."""

    def log(self, metrics: Mapping[str, float], step: int, part: str = "") -> None:
        values, place = dict(metrics), self.first_step + step
        self._work.put(lambda: self.on_log(values, place, part))

    def part(self, name: str) -> Tracker:
        return _Part(self, name)

    def finish(self, summary: Mapping[str, Any]) -> None:
        kept = dict(summary)
        self._work.put(lambda: self.on_finish(kept))
        self._work.put(None)
        self._thread.join(FINISH_TIMEOUT_S)
        if self._thread.is_alive():
            _log.warning(
                "%s did not finish within %.0f s; what it has is under %s",
                self.name,
                FINISH_TIMEOUT_S,
                self.run_dir / self.name,
            )

    def _loop(self) -> None:
        while (call := self._work.get()) is not None:
            if self._has_failed:
                continue
            try:
                call()
            except Exception as error:  # noqa: BLE001 - whatever a tracker raises, the run goes on
                self._has_failed = True
                _log.warning("%s failed, the run goes on without it: %s", self.name, error)


class _Part:
    """See `RunTracker.part`."""

    def __init__(self, whole: ThreadedTracker, name: str) -> None:
        self._whole = whole
        self._name = name

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self._whole.log(metrics, step, self._name)

    def finish(self, summary: Mapping[str, Any]) -> None:
        pass


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one level of dotted names."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            found.update(flat(value, f"{prefix}{name}."))
        else:
            found[f"{prefix}{name}"] = value
    return found


def numbers(summary: Mapping[str, Any]) -> dict[str, float]:
    """The figures of a summary by dotted name."""
    values = flat(summary)
    return {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def pretty(tree: Mapping[str, Any]) -> str:
    """As indented JSON, for people."""
    return msgspec.json.format(msgspec.json.encode(tree, enc_hook=str)).decode()
