"""What a person sees while episodes are played: a live line, or plain lines in a log.

Promise: on a terminal one bar with episodes, steps/s, tokens/s, progression so far and failures;
elsewhere the same as plain lines, one per `LOG_INTERVAL_S` at most, and the last one always. It
only displays: it owns no figure.
"""

import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TextIO

LOG_INTERVAL_S = 10.0
RATE_WINDOW_S = 15.0
"""Rates are over the last so many seconds: what it does now, without flicker."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run at one moment; totals since this process took it up, but for the counts of episodes."""

    episodes: int
    finished: int
    """Episodes with an end, failed players included."""
    playing: int
    failed: int
    """Episodes whose player failed: they count with what was reached."""
    pending: int
    """Episodes given up for now because something broke: `automem resume`."""
    steps: int
    tokens: int
    """Prompt and generated tokens."""
    progression: float | None
    """Mean over finished episodes; None before the first."""


class Rate:
    """Growth of a count per second over the last seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._points: deque[tuple[float, int]] = deque()

    def add(self, count: int) -> float:
        """The rate, this point included."""
        now = self._clock()
        self._points.append((now, count))
        while len(self._points) > 2 and now - self._points[1][0] > RATE_WINDOW_S:
            self._points.popleft()
        then, before = self._points[0]
        return (count - before) / (now - then) if now > then else 0.0


class RunProgress:
    """Shows a run's snapshots until it is closed; use as a context."""

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
        self._snapshot: Snapshot | None = None
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
        elif self._snapshot:
            self._print(self._line(self._snapshot))

    def update(self, snapshot: Snapshot) -> None:
        """Show how things stand; cheap enough to be called often."""
        self._snapshot = snapshot
        line = self._line(snapshot)
        if self._bar:
            self._bar.show(snapshot, line)
        elif self._clock() - self._last_line_at >= LOG_INTERVAL_S:
            self._print(line)

    def _print(self, line: str) -> None:
        if line != self._last_line:
            print(f"{self._title}: {line}", file=self._stream, flush=True)
        self._last_line, self._last_line_at = line, self._clock()

    def _line(self, at: Snapshot) -> str:
        parts = [
            f"{at.finished}/{at.episodes} episodes",
            f"{self._steps.add(at.steps):,.0f} steps/s",
            f"{self._tokens.add(at.tokens):,.0f} tokens/s",
        ]
        if at.progression is not None:
            parts.append(f"progression {at.progression:.3f}")
        parts += [f"{at.failed} failed"] if at.failed else []
        parts += [f"{at.pending} pending"] if at.pending else []
        return ", ".join(parts)


class _Bar:
    """Rich's live bar."""

    def __init__(self, title: str, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[line]}"),
            TimeElapsedColumn(),
            console=Console(file=stream),
            refresh_per_second=4,
        )
        self._task = self._progress.add_task(title, total=None, line="starting")

    def start(self) -> None:
        self._progress.start()

    def stop(self) -> None:
        self._progress.stop()

    def show(self, at: Snapshot, line: str) -> None:
        self._progress.update(self._task, total=at.episodes, completed=at.finished, line=line)
