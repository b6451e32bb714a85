"""One tracker over all trainings and rounds of a loop."""

from collections.abc import Mapping
from typing import Any

from automem.loops.gate import Verdict
from automem.tracker import Tracker


class Following:
    """Its steps go on rising, whatever is logged."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._step = 0

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """A training's own step is among the values."""
        self._step += 1
        self._tracker.log({**metrics, "train/step": float(step)}, step=self._step)

    def log_values(self, values: Mapping[str, float]) -> None:
        """Figures of a round."""
        self._step += 1
        self._tracker.log(values, step=self._step)

    def log_round(self, number: int, gain: float | None, verdict: Verdict | None) -> None:
        """How a round ended."""
        self._step += 1
        values = {"round": float(number), "accepted": float(verdict is Verdict.ACCEPTED)}
        if gain is not None:
            values["gain"] = gain
        self._tracker.log(values, step=self._step)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """The caller's tracker is closed by the caller."""
