"""What a person sees while episodes are played: a live line, or plain lines in a log.

Promise: on a terminal one bar with episodes, steps/s, tokens/s, progression so far and failures;
elsewhere the same as plain lines, one per `LOG_INTERVAL_S` at most, and the last one always. It
only displays: it owns no figure.
"""

import sys
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

from automem.rollout.progress import Progress

LOG_INTERVAL_S = 10.0
RATE_WINDOW_S = 15.0
"""Rates are over the last so many seconds: what it does now, without flicker."""


class Rate:
    """Growth of a count per second over the last seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._points: deque[tuple[float, int]] = deque()

    def add(self, count: int) -> float | None:
        """The rate, this point included; None at the first point."""
        now = self._clock()
        self._points.append((now, count))
        while len(self._points) > 2 and now - self._points[1][0] > RATE_WINDOW_S:
            self._points.popleft()
        then, before = self._points[0]
        return (count - before) / (now - then) if now > then else None


class RunProgress:
    """Shows how a run stands until it is closed; use as a context."""

    def __init__(
        self,
        title: str,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._title = title
        self._stream = stream or sys.stderr
        self._clock = clock
        self._started = clock()
        self._steps, self._tokens = Rate(clock), Rate(clock)
        self._last_line_at = -LOG_INTERVAL_S
        self._last_line = ""
        self._latest: Progress | None = None
        self._bar = _Bar(title, self._stream) if self._stream.isatty() else None

    def __enter__(self) -> "RunProgress":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()
        elif self._latest:
            self._print(self._line(self._latest))

    def update(self, progress: Progress) -> None:
        """Show how things stand; cheap enough to be called often."""
        self._latest = progress
        line = self._line(progress)
        if self._bar:
            self._bar.show(progress, line)
        elif self._clock() - self._last_line_at >= LOG_INTERVAL_S:
            self._print(line)

    def _print(self, line: str) -> None:
        if line != self._last_line:
            print(f"{self._title}: {line}", file=self._stream, flush=True)
        self._last_line, self._last_line_at = line, self._clock()

    def _line(self, at: Progress) -> str:
        parts = [f"{at.episodes_done}/{at.episodes_total} episodes"]
        steps_per_s = self._steps.add(at.steps)
        tokens_per_s = self._tokens.add(at.tokens_in + at.tokens_out)
        if steps_per_s is not None and tokens_per_s is not None:
            parts += [f"{steps_per_s:,.0f} steps/s", f"{tokens_per_s:,.0f} tokens/s"]
        if at.progression_so_far is not None:
            parts.append(f"progression {at.progression_so_far:.3f}")
        parts += [f"{at.failed} failed"] if at.failed else []
        parts += [f"{at.pending} pending"] if at.pending else []
        parts += [f"{len(at.stragglers)} slow"] if at.stragglers else []
        parts += [f"{at.restarts} workers replaced"] if at.restarts else []
        return ", ".join(parts)


class _Bar:
    """Rich's live bar."""

    def __init__(self, title: str, stream: TextIO) -> None:
        from rich import progress as rich_progress
        from rich.console import Console

        self._progress = rich_progress.Progress(
            rich_progress.SpinnerColumn(),
            rich_progress.TextColumn("[bold]{task.description}"),
            rich_progress.BarColumn(bar_width=24),
            rich_progress.TextColumn("{task.fields[line]}"),
            rich_progress.TimeElapsedColumn(),
            console=Console(file=stream),
            refresh_per_second=4,
        )
        self._task = self._progress.add_task(title, total=None, line="starting")

    def start(self) -> None:
        self._progress.start()

    def stop(self) -> None:
        self._progress.stop()

    def show(self, at: Progress, line: str) -> None:
        self._progress.update(
            self._task, total=at.episodes_total, completed=at.episodes_done, line=line
        )
