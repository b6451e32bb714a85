"""One tracker over all trainings and rounds of a loop.

Where a value stands on the curves' axis is read from the ledger: the steps of the trainings before
it, and one for each closed round. So a loop that is gone on with, on whatever machine, goes on with
its curves, and a training that repeats steps repeats their places.
"""

from collections.abc import Mapping
from typing import Any

from automem.loops.gate import Verdict
from automem.loops.ledger import Closed, Ledger, Trained
from automem.tracker import Tracker


class Following:
    """See the module's docstring."""

    def __init__(self, tracker: Tracker, ledger: Ledger) -> None:
        self._tracker = tracker
        self._ledger = ledger

    def training(self) -> Tracker:
        """For a training that begins or goes on now."""
        return _Training(self._tracker, self._place())

    def log_values(self, values: Mapping[str, float]) -> None:
        """Figures of a round."""
        self._tracker.log(values, step=self._place())

    def log_round(self, number: int, gain: float | None, verdict: Verdict | None) -> None:
        """How a round ended, once it is closed."""
        values = {"round": float(number), "accepted": float(verdict is Verdict.ACCEPTED)}
        if gain is not None:
            values["gain"] = gain
        self._tracker.log(values, step=self._place())

    def _place(self) -> int:
        done = [entry.what for entry in self._ledger.entries()]
        steps = sum(what.specialist.steps for what in done if isinstance(what, Trained))
        return steps + sum(isinstance(what, Closed) for what in done)


class _Training:
    """A training's own steps, from where its loop is."""

    def __init__(self, tracker: Tracker, before: int) -> None:
        self._tracker = tracker
        self._before = before

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """The training's own step is among the values."""
        values = {**metrics, "train/step": float(step)}
        self._tracker.log(values, step=self._before + step)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """The caller's tracker is closed by the caller."""
