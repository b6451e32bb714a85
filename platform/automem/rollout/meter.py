"""What is measured while episodes are played: steps, tokens, and who spent the time."""

import time

import msgspec

from automem.rollout.guarded_world import WorldClock
from automem.rollout.journal import Totals


class WorkerStats(msgspec.Struct, frozen=True):
    """A worker's totals since it started."""

    steps: int = 0
    """Actions that worlds executed, replayed ones left out."""
    turns: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    records: int = 0
    bytes: int = 0
    world_s: float = 0.0
    cpu_s: float = 0.0
    """CPU time of the process, worlds left out: what the platform costs."""

    def plus(self, other: "WorkerStats") -> "WorkerStats":
        """The sum, field by field."""
        return WorkerStats(
            *(getattr(self, name) + getattr(other, name) for name in WorkerStats.__struct_fields__)
        )


class WorkerMeter:
    """Adds up what the episodes of one process do."""

    def __init__(self) -> None:
        self.world = WorldClock()
        self.steps = 0
        self._ended = Totals()
        self._running: dict[int, Totals] = {}
        self._cpu_at_start = time.process_time()

    def begin(self) -> None:
        """Leave out what the process has done so far: imports and the building of parts."""
        self._cpu_at_start = time.process_time()

    def follow(self, totals: Totals) -> None:
        """Count a journal's totals from now on."""
        self._running[id(totals)] = totals

    def settle(self, totals: Totals) -> None:
        """The journal is closed: keep what it has written."""
        if self._running.pop(id(totals), None) is not None:
            for name in Totals.__struct_fields__:
                setattr(self._ended, name, getattr(self._ended, name) + getattr(totals, name))

    def stats(self) -> WorkerStats:
        """The totals now."""
        written = [self._ended, *self._running.values()]
        return WorkerStats(
            steps=self.steps,
            turns=sum(totals.turns for totals in written),
            tokens_in=sum(totals.tokens_in for totals in written),
            tokens_out=sum(totals.tokens_out for totals in written),
            records=sum(totals.records for totals in written),
            bytes=sum(totals.bytes for totals in written),
            world_s=self.world.wall_s,
            cpu_s=max(0.0, time.process_time() - self._cpu_at_start - self.world.cpu_s),
        )


class EpisodeMeter:
    """Where one episode stands, for its worker's reports."""

    def __init__(self, worker: WorkerMeter) -> None:
        self.step = 0
        """Actions that the world has executed."""
        self.progression = 0.0
        self.moved_at = time.monotonic()
        """When the last step was finished."""
        self._worker = worker
        self._totals: Totals | None = None

    @property
    def world(self) -> WorldClock:
        return self._worker.world

    def follow(self, totals: Totals) -> None:
        """A new attempt writes into a journal of its own."""
        self.settle()
        self._totals = totals
        self._worker.follow(totals)

    def settle(self) -> None:
        """The last attempt is over."""
        if self._totals is not None:
            self._worker.settle(self._totals)
            self._totals = None

    def resume_at(self, step: int, progression: float) -> None:
        """Stand where the journal ends."""
        self.step, self.progression = step, progression
        self.moved_at = time.monotonic()

    def count_step(self, progression: float) -> None:
        """The world has answered an action."""
        self.step += 1
        self.progression = progression
        self.moved_at = time.monotonic()
        self._worker.steps += 1
