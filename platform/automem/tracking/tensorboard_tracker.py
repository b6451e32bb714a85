"""TensorBoard: curves and the configuration under `RUN/tensorboard`; a resumed run goes on there.

A run's loops have folders of their own in it, so that one chart holds the curves of all its
training seeds. `tensorboard --logdir runs` shows them.
"""

import uuid
from typing import Any

from automem.tracking.base import ThreadedTracker, numbers, pretty


class TensorboardTracker(ThreadedTracker):
    """See the module's docstring."""

    name = "tensorboard"

    def on_start(self) -> None:
        self._writers: dict[str, Any] = {}
        self._last = self.first_step
        self._writer("").add_text("config", _quoted(pretty(self.config)), self.first_step)

    def on_log(self, values: dict[str, float], step: int, part: str) -> None:
        for name, value in values.items():
            self._writer(part).add_scalar(name, value, step)
        if not part:
            self._last = max(self._last, step)

    def on_finish(self, summary: dict[str, Any]) -> None:
        whole = self._writer("")
        for name, value in numbers(summary).items():
            whole.add_scalar(f"summary/{name}", value, self._last)
        if summary:
            whole.add_text("summary", _quoted(pretty(summary)), self._last)
        for writer in self._writers.values():
            writer.close()

    def _writer(self, part: str) -> Any:
        """That of a part's folder; of the run's own for the empty name."""
        if part not in self._writers:
            from tensorboardX import SummaryWriter

            # Files are named by the second: two drivers within one must not share a name.
            self._writers[part] = SummaryWriter(
                logdir=str(self.run_dir / "tensorboard" / part),
                filename_suffix=f".{uuid.uuid4().hex[:6]}",
            )
        return self._writers[part]


def _quoted(text: str) -> str:
    """As Markdown shows it unchanged."""
    return "\n".join(f"    {line}" for line in text.splitlines())
