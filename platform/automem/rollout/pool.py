"""The driver's side of a rollout: workers placed, watched, replaced; episodes handed out.

Promise: an episode is played to its end or left pending with a reason, whatever happens to the
workers. A worker that gives no sign of life is killed and its episodes restart elsewhere from their
journals; neighbours of a hung world lose the call in flight. Workers on a node that is being taken
back hand their episodes over. An episode that takes its worker down
again and again gets a worker of its own; if that is lost too, the episode is pending. The driver
does no work per step: it hears one pulse per worker and second, or when an episode comes out.

RLlib's `FaultTolerantActorManager` was considered: it calls actors that all do the same, marks the
unhealthy and probes them until they are back. Here a worker owns episodes, a silent one must die,
and what matters is where its episodes go next; little of the manager would be used, at the price of
importing RLlib into every driver.
"""

import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any
from uuid import uuid4

import ray
import ray._private.state
import ray.exceptions

from automem.engine.protocol import Engine
from automem.errors import StoreError, UsageError
from automem.rollout.episode import EpisodeResult, EpisodeStatus, result_of
from automem.rollout.finish import finished
from automem.rollout.killing import kill, kill_process
from automem.rollout.meter import WorkerStats
from automem.rollout.progress import Ledger, Progress
from automem.rollout.reserved import Reservation
from automem.rollout.spec import EpisodeKey, RolloutSpec
from automem.rollout.stored_run import StoredRun
from automem.rollout.suspicion import Suspicion, record_conviction
from automem.rollout.worker import Pulse, Worker

PULSE_S = 1.0
"""How long a worker without news waits with its pulse."""
REPORT_S = 0.5
DRAIN_S = 15.0
LATE_S = 20.0
"""A worker that has no place on a node after this gets no episodes while others have room."""
STARTS_IN_VAIN = 3
"""Workers in a row that die before their first pulse, after which the run gives up."""

OnProgress = Callable[[Progress], None]


@dataclass(slots=True, eq=False)
class Hand:
    """A worker actor as the driver knows it."""

    actor: Any
    start: Any
    """Reference to the result of `start`; None once it has come."""
    pulse: Any
    """Reference to the pulse that is under way."""
    heard_at: float
    began_at: float
    is_alone: bool = False
    """Placed for one episode that may not share a worker."""
    keys: dict[str, EpisodeKey] = field(default_factory=dict)
    last: Pulse | None = None
    temporary: str = ""
    """Name of its folder of temporary files."""

    @property
    def is_ready(self) -> bool:
        """It has its parts and plays."""
        return self.start is None

    @property
    def is_late(self) -> bool:
        """It has been waiting for a place for a while: the cluster is full, or still growing."""
        is_waiting = not self.is_ready and self.last is None
        return is_waiting and time.monotonic() - self.began_at > LATE_S


class Pool:
    """Plays episodes on worker actors until all have come out; see the module's docstring."""

    def __init__(
        self,
        spec: RolloutSpec,
        run_dir: Path,
        ledger: Ledger,
        shared: Mapping[str, Engine],
        should_stop: Callable[[], bool],
        on_progress: OnProgress | None = None,
    ) -> None:
        self._spec = spec
        self._run_dir = run_dir
        self._ledger = ledger
        self._shared = dict(shared)
        self._should_stop = should_stop
        self._on_progress = on_progress
        self._hands: list[Hand] = []
        self._todo: deque[EpisodeKey] = deque()
        self._todo_alone: deque[EpisodeKey] = deque()
        self._suspicion = Suspicion(spec.watchdog.strikes)
        self._stats_of_the_gone = WorkerStats()
        self._starts_in_vain = 0
        self._began = self._reported = self._looked_for_drains = time.monotonic()
        self.restarts = 0
        self._stored = StoredRun(spec.storage_url) if spec.storage_url else None
        self._worker: Any = ray.remote(Worker)
        self._room = Reservation(spec) if spec.placement.group else None

    @property
    def stats(self) -> WorkerStats:
        """Totals over all workers, the gone ones included."""
        total = self._stats_of_the_gone
        for hand in self._hands:
            if hand.last is not None:
                total = total.plus(hand.last.stats)
        return total

    def play(self, keys: Sequence[EpisodeKey]) -> None:
        """Until every one of `keys` has come out, or a stop was asked for."""
        self._todo.extend(keys)
        try:
            if self._room is not None:
                self._room.wait()
            while self._todo or self._todo_alone or any(hand.keys for hand in self._hands):
                if self._should_stop():
                    self._drain(self._hands)
                    return
                self._leave_draining_nodes()
                self._place()
                self._hand_out()
                self._listen()
                self._kill_the_silent()
                self._report()
        finally:
            self._report(is_last=True)
            for hand in self._hands:
                kill(hand.actor, hand.temporary)
            if self._room is not None:
                self._room.release()

    # Placing and handing out

    def _place(self) -> None:
        """Bring the workers up to the number that the work asks for."""
        shared = [hand for hand in self._hands if not hand.is_alone]
        wanted = len(self._todo) + sum(len(hand.keys) for hand in shared)
        for _ in range(len(shared), min(self._spec.workers, wanted)):
            self._start_worker()
        alone = sum(hand.is_alone for hand in self._hands)
        while self._todo_alone and alone < max(1, self._spec.workers):
            self._give(self._start_worker(is_alone=True), [self._todo_alone.popleft()])
            alone += 1

    def _start_worker(self, is_alone: bool = False) -> Hand:
        temporary = f"worker-{uuid4().hex}"
        actor = self._class_for(is_alone).remote(
            self._spec, str(self._run_dir), self._shared, sys.path, temporary
        )
        start, pulse = actor.start.remote(), actor.pulse.remote(PULSE_S)
        now = time.monotonic()
        hand = Hand(actor, start, pulse, now, now, is_alone, temporary=temporary)
        self._hands.append(hand)
        return hand

    def _class_for(self, is_alone: bool) -> Any:
        """The actor's class, with where it goes: into the run's reservation, where it has one."""
        spec, place = self._spec, self._spec.placement
        room = None if is_alone else self._room
        return self._worker.options(
            num_cpus=spec.worker_cpus,
            resources=place.resources or None,
            label_selector=place.labels if place.labels and room is None else None,
            scheduling_strategy=room.strategy
            if room is not None
            else ("SPREAD" if place.spread else "DEFAULT"),
            max_restarts=0,
            max_concurrency=10_000,
        )

    def _hand_out(self) -> None:
        """Spread what is to do evenly, as far as the workers have room."""
        self._take_back_from_the_late()
        hands = [hand for hand in self._hands if not hand.is_alone and not hand.is_late]
        if not self._todo or not hands:
            return
        load = len(self._todo) + sum(len(hand.keys) for hand in hands)
        share = min(self._spec.sessions_per_worker, ceil(load / len(hands)))
        for hand in hands:
            room = min(share - len(hand.keys), len(self._todo))
            if room > 0:
                self._give(hand, [self._todo.popleft() for _ in range(room)])

    def _take_back_from_the_late(self) -> None:
        """Nobody waits for a node that may never come, where others can play."""
        if any(hand.is_ready and not hand.is_alone for hand in self._hands):
            for hand in self._hands:
                if hand.is_late and not hand.is_alone:
                    self._todo.extend(hand.keys.values())
                    hand.keys.clear()

    def _give(self, hand: Hand, keys: list[EpisodeKey]) -> None:
        for key in keys:
            hand.keys[self._spec.episode_id(key)] = key
        if hand.is_ready:
            hand.actor.play.remote(keys)

    # Listening

    def _listen(self) -> None:
        """Wait a moment for workers to start and to pulse; hear what came."""
        awaited = {hand.pulse: hand for hand in self._hands}
        awaited |= {hand.start: hand for hand in self._hands if hand.start is not None}
        ready, _ = ray.wait(list(awaited), num_returns=1, timeout=REPORT_S)
        if len(awaited) > 1:
            ready, _ = ray.wait(list(awaited), num_returns=len(awaited), timeout=0)
        for reference in ready:
            hand = awaited[reference]
            if hand in self._hands:
                self._hear(hand, reference)

    def _hear(self, hand: Hand, reference: Any) -> None:
        try:
            pulse: Pulse | None = ray.get(reference)
        except ray.exceptions.RayActorError as error:
            self._lose(hand, f"its worker died: {_first_line(error)}")
            return
        except ray.exceptions.RayTaskError as error:
            self._refuse_start(hand, error)
            return
        hand.heard_at = time.monotonic()
        if pulse is None:
            hand.start = None
            self._starts_in_vain = 0
            hand.actor.play.remote(list(hand.keys.values()))
            return
        hand.last = pulse
        self._take(pulse, hand)
        hand.pulse = hand.actor.pulse.remote(PULSE_S)
        if hand.is_alone and not hand.keys:
            self._remove(hand)

    def _take(self, pulse: Pulse, hand: Hand) -> None:
        for result in pulse.finished:
            hand.keys.pop(result.episode, None)
            self._ledger.add(result)

    def _refuse_start(self, hand: Hand, error: ray.exceptions.RayTaskError) -> None:
        """A worker raised instead of starting: bad input is told, the rest is tried again."""
        cause = error.cause if isinstance(error.cause, Exception) else error
        if isinstance(cause, UsageError):
            raise cause
        self._lose(hand, f"its worker did not start: {_first_line(cause)}")

    # Losing

    def _kill_the_silent(self) -> None:
        now, watchdog = time.monotonic(), self._spec.watchdog
        for hand in list(self._hands):
            limit_s = watchdog.silent_s + PULSE_S if hand.is_ready else watchdog.start_s
            if hand.last is None:
                limit_s = max(limit_s, self._spec.placement.wait_s)
            if now - hand.heard_at > limit_s:
                kill_process(hand.last)
                self._lose(hand, f"its worker gave no sign of life for {limit_s:.0f} s")

    def _lose(self, hand: Hand, reason: str) -> None:
        """The worker is gone; its episodes go on elsewhere, from their journals."""
        self._remove(hand)
        self.restarts += 1
        if not hand.is_ready:
            self._starts_in_vain += 1
        gives_up = self._starts_in_vain >= STARTS_IN_VAIN
        for episode, key in hand.keys.items():
            directory = self._run_dir / "episodes" / episode
            done = self._done(directory)
            if done is not None:
                self._ledger.add(done)
            elif gives_up:
                self._ledger.add(EpisodeResult(episode, EpisodeStatus.PENDING, reason=reason))
            elif hand.is_alone and hand.is_ready:
                self._convict(directory, reason)
            else:
                self._requeue(key, directory, is_suspect=hand.is_ready)
        if gives_up:
            self._give_up(reason)

    def _requeue(self, key: EpisodeKey, directory: Path, is_suspect: bool) -> None:
        if is_suspect:
            self._suspicion.note_loss(directory)
        alone = self._suspicion.must_play_alone(directory.name)
        (self._todo_alone if alone else self._todo).append(key)

    def _convict(self, directory: Path, reason: str) -> None:
        """It had a worker to itself and the worker is gone: its world is broken."""
        error = f"alone in a worker, {reason}"
        with suppress(StoreError):
            record_conviction(directory, error)
        self._ledger.add(
            EpisodeResult(directory.name, EpisodeStatus.PENDING, reason=f"world: {error}")
        )

    def _give_up(self, reason: str) -> None:
        """No worker comes up any more: what is left to do stays pending."""
        for key in [*self._todo, *self._todo_alone]:
            episode = self._spec.episode_id(key)
            self._ledger.add(EpisodeResult(episode, EpisodeStatus.PENDING, reason=reason))
        self._todo.clear()
        self._todo_alone.clear()

    def _done(self, directory: Path) -> EpisodeResult | None:
        try:
            if self._stored is None:
                done = finished(directory, directory.parents[1] / "tables")
            else:
                done = self._stored.done(directory.name)
        except StoreError:
            return None
        return result_of(done) if done is not None else None

    def _remove(self, hand: Hand) -> None:
        if hand in self._hands:
            self._hands.remove(hand)
        if hand.last is not None:
            self._stats_of_the_gone = self._stats_of_the_gone.plus(hand.last.stats)
        kill(hand.actor, hand.temporary)

    # Ending and telling

    def _leave_draining_nodes(self) -> None:
        """A node that its owner takes back (a spot node, a smaller cluster) says so a while before:
        its episodes store what they have and go on elsewhere. Ray places nothing new there."""
        now, every_s = time.monotonic(), self._spec.placement.drain_s
        if not every_s or now - self._looked_for_drains < every_s:
            return
        self._looked_for_drains = now
        leaving = draining_nodes()
        hands = [hand for hand in self._hands if hand.last and hand.last.node in leaving]
        self._drain(hands)
        for hand in hands:
            (self._todo_alone if hand.is_alone else self._todo).extend(hand.keys.values())
            hand.keys.clear()
            self._remove(hand)

    def _drain(self, hands: Sequence[Hand]) -> None:
        """Ask workers to stop where they stand, and hear what still came out."""
        answers = {hand.actor.drain.remote(): hand for hand in hands if hand.is_ready}
        ready: list[Any] = []
        if answers:
            ready, _ = ray.wait(list(answers), num_returns=len(answers), timeout=DRAIN_S)
        for reference in ready:
            with suppress(ray.exceptions.RayError):
                pulse = ray.get(reference)
                answers[reference].last = pulse
                self._take(pulse, answers[reference])

    def _report(self, is_last: bool = False) -> None:
        now = time.monotonic()
        if self._on_progress is None or not (is_last or now - self._reported >= REPORT_S):
            return
        self._reported = now
        pulses = [hand.last for hand in self._hands if hand.last is not None]
        self._on_progress(
            self._ledger.progress(
                running=sum(pulse.running for pulse in pulses),
                stats=self.stats,
                wall_s=now - self._began,
                restarts=self.restarts,
                stragglers=tuple(late for pulse in pulses for late in pulse.stragglers),
            )
        )


def draining_nodes() -> set[str]:
    """Ray's ids of the nodes that are being taken back. (Ray Train and Serve ask the same way;
    there is no public one.) Nothing where the head does not answer: it is asked again."""
    try:
        return set(ray._private.state.state.get_draining_nodes())
    except (ray.exceptions.RayError, RuntimeError):
        return set()


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]
