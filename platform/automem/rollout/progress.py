"""How a run stands: what its driver tells whoever watches, and what it returns at the end."""

from collections.abc import Callable

import msgspec

from automem.rollout.episode import EpisodeResult, EpisodeStatus
from automem.rollout.meter import WorkerStats
from automem.rollout.worker import Straggler


class Progress(msgspec.Struct, frozen=True):
    """A run at one moment; counts of episodes are the run's, the rest since this process took it
    up."""

    episodes_total: int
    episodes_done: int
    """With an end, failed players included."""
    running: int
    pending: int
    """Given up for now because something broke: a resume plays them on."""
    failed: int
    """Episodes whose player failed: they count with what was reached."""
    steps: int
    tokens_in: int
    tokens_out: int
    progression_so_far: float | None
    """Mean over finished episodes; None before the first."""
    steps_per_s: float
    restarts: int
    """Workers that were lost and replaced."""
    stragglers: tuple[Straggler, ...] = ()


class RunResult(msgspec.Struct, frozen=True):
    """What came out of a run (or of its resume)."""

    episodes: tuple[EpisodeResult, ...]
    """Every episode of the run, in the order of its plan."""
    interrupted: bool
    """Whether it was asked to stop."""
    wall_s: float
    stats: WorkerStats
    restarts: int

    @property
    def finished(self) -> tuple[EpisodeResult, ...]:
        return tuple(e for e in self.episodes if e.status is EpisodeStatus.FINISHED)

    @property
    def pending(self) -> tuple[EpisodeResult, ...]:
        """What a resume would play on."""
        return tuple(e for e in self.episodes if e.status is not EpisodeStatus.FINISHED)

    @property
    def is_complete(self) -> bool:
        return not self.pending


class Ledger:
    """Results so far, whoever reports them; the last word on an episode counts."""

    def __init__(self, total: int, on_finished: Callable[[str], None] | None = None) -> None:
        """`on_finished` hears of each episode that has come to its end, and must return at once."""
        self._total = total
        self._on_finished = on_finished
        self.results: dict[str, EpisodeResult] = {}

    def add(self, result: EpisodeResult) -> None:
        self.results[result.episode] = result
        if self._on_finished is not None and result.status is EpisodeStatus.FINISHED:
            self._on_finished(result.episode)

    def progress(
        self,
        running: int,
        stats: WorkerStats,
        wall_s: float,
        restarts: int,
        stragglers: tuple[Straggler, ...],
    ) -> Progress:
        """One look at the run."""
        done = [r for r in self.results.values() if r.status is EpisodeStatus.FINISHED]
        return Progress(
            episodes_total=self._total,
            episodes_done=len(done),
            running=running,
            pending=len(self.results) - len(done),
            failed=sum(result.is_player_failure for result in done),
            steps=stats.steps,
            tokens_in=stats.tokens_in,
            tokens_out=stats.tokens_out,
            progression_so_far=sum(r.progression for r in done) / len(done) if done else None,
            steps_per_s=stats.steps / wall_s if wall_s > 0 else 0.0,
            restarts=restarts,
            stragglers=stragglers,
        )
