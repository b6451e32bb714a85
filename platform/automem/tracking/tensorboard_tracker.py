"""TensorBoard: curves and the configuration under `RUN/tensorboard`; a resumed run goes on there.

tensorboard --logdir runs
"""

import uuid
from typing import Any

from automem.tracking.base import ThreadedTracker, numbers, pretty


class TensorboardTracker(ThreadedTracker):
    """See the module's docstring."""

    name = "tensorboard"

    def on_start(self) -> None:
        from tensorboardX import SummaryWriter

        # Files are named by the second: two drivers within one must not share a name.
        suffix = f".{uuid.uuid4().hex[:6]}"
        folder = str(self.run_dir / "tensorboard")
        self._writer: Any = SummaryWriter(logdir=folder, filename_suffix=suffix)
        self._writer.add_text("config", _quoted(pretty(self.config)), self.first_step)
        self._last = self.first_step

    def on_log(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._last = max(self._last, step)

    def on_finish(self, summary: dict[str, Any]) -> None:
        for name, value in numbers(summary).items():
            self._writer.add_scalar(f"summary/{name}", value, self._last)
        self._writer.add_text("summary", _quoted(pretty(summary)), self._last)
        self._writer.close()


def _quoted(text: str) -> str:
    """As Markdown shows it unchanged."""
    return "\n".join(f"    {line}" for line in text.splitlines())
