"""The progress display, in a log and on a (pretended) terminal."""

import io

from automem.progress import LOG_INTERVAL_S, RunProgress
from automem.rollout.progress import Progress


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def at(finished: int, steps: int, failed: int = 0, pending: int = 0) -> Progress:
    return Progress(
        episodes_total=10,
        episodes_done=finished,
        running=4,
        pending=pending,
        failed=failed,
        steps=steps,
        tokens_in=9 * steps,
        tokens_out=steps,
        progression_so_far=0.5 if finished else None,
        steps_per_s=0.0,
        restarts=0,
    )


def test_a_log_gets_one_line_per_interval_and_the_last_one() -> None:
    clock, stream = Clock(), io.StringIO()
    with RunProgress("crafter", stream, clock) as progress:
        for second in range(25):
            clock.now = 100.0 + second
            progress.update(at(finished=second // 5, steps=100 * second))
        clock.now += 1
        progress.update(at(finished=10, steps=2500))
    lines = stream.getvalue().splitlines()
    assert len(lines) == 1 + int(24 // LOG_INTERVAL_S) + 1
    assert lines[0].startswith("crafter: 0/10 episodes")
    assert lines[-1].startswith("crafter: 10/10 episodes")
    assert "progression 0.500" in lines[-1]


def test_rates_are_those_of_the_last_seconds() -> None:
    clock, stream = Clock(), io.StringIO()
    with RunProgress("crafter", stream, clock) as progress:
        for second in range(60):
            clock.now = 100.0 + second
            progress.update(at(finished=1, steps=(10 * second) if second < 30 else 300))
    assert "10 steps/s" in stream.getvalue().splitlines()[1]
    assert ", 0 steps/s" in stream.getvalue().splitlines()[-1]


def test_failures_are_shown_once_there_are_any() -> None:
    stream = io.StringIO()
    with RunProgress("crafter", stream, Clock()) as progress:
        progress.update(at(finished=3, steps=10))
        progress.update(at(finished=4, steps=20, failed=1, pending=2))
    first, last = stream.getvalue().splitlines()
    assert "failed" not in first
    assert last.endswith("1 failed, 2 pending")


def test_a_terminal_gets_a_live_bar() -> None:
    stream = Terminal()
    with RunProgress("crafter", stream) as progress:
        progress.update(at(finished=3, steps=10))
    assert "3/10 episodes" in stream.getvalue()
    assert "━" in stream.getvalue()
