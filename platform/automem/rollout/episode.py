"""A durable episode: one play of a world that survives the death of its process.

Promise: after a kill at any instruction, playing the episode again continues from the last record,
and the finished trace equals the one that an unbroken play would have written. What breaks is told
apart by whose fault it is: infrastructure is retried in a fresh attempt (own lease, own memory
folder, fresh world replayed from the journal) until patience runs out, then the episode is pending;
a player that fails ends it with what was reached; a lost lease ends this attempt and nothing else.
Not covered: worlds that are not deterministic; they do not replay and stay pending.
"""

import asyncio
import time
import traceback
from collections.abc import Coroutine
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from automem.agent.session import AgentSession
from automem.errors import (
    AutoMemError,
    EngineError,
    InfrastructureError,
    LeaseLostError,
    PlayerError,
    StoreError,
    WorldError,
)
from automem.memory.sandbox import Sandbox
from automem.rollout import lease as leases
from automem.rollout.chain import journal_epochs
from automem.rollout.finish import drop_older_memories, finish_episode, finished, memory_path
from automem.rollout.guarded_world import GuardedWorld
from automem.rollout.journal import Journal
from automem.rollout.lease import Lease
from automem.rollout.meter import EpisodeMeter
from automem.rollout.parts import Parts, build_session, episode_started
from automem.rollout.patience import DamagedError, Patience, UnexpectedError
from automem.rollout.recovery import Recovered, digest_of, recover, stored_name
from automem.rollout.segments import SegmentWriter, restore
from automem.rollout.spec import EpisodeKey
from automem.trace.blobs import blob_name
from automem.trace.compact import EpisodeSummary
from automem.trace.events import (
    Ended,
    EpisodeStarted,
    Event,
    Failed,
    Observed,
    Outcome,
    StopReason,
)

T = TypeVar("T")


class EpisodeStatus(StrEnum):
    """How a play of an episode came out."""

    FINISHED = "finished"
    """It has an end and its done mark."""
    PENDING = "pending"
    """Something broke; it can be resumed."""
    LOST = "lost"
    """A newer attempt took it over."""


class EpisodeResult(msgspec.Struct, frozen=True):
    """What a worker tells about an episode."""

    episode: str
    status: EpisodeStatus
    progression: float = 0.0
    steps: int = 0
    is_player_failure: bool = False
    reason: str = ""
    """Why it is pending, or how the player failed."""


def result_of(summary: EpisodeSummary) -> EpisodeResult:
    """A finished episode's result."""
    return EpisodeResult(
        episode=summary.episode,
        status=EpisodeStatus.FINISHED,
        progression=summary.progression,
        steps=summary.steps,
        is_player_failure=summary.failed,
        reason=summary.detail,
    )


async def play_episode(
    parts: Parts, key: EpisodeKey, run_dir: Path, meter: EpisodeMeter
) -> EpisodeResult:
    """Play, or go on playing, until the episode is finished, pending or somebody else's."""
    episode = parts.spec.episode_id(key)
    directory = run_dir / "episodes" / episode
    patience = Patience(parts.spec.deadlines)
    while True:
        attempt: Attempt | None = None
        try:
            done = finished(directory, run_dir / "tables")
            if done is not None:
                return result_of(done)
            attempt = Attempt(parts, key, directory, meter)
            return result_of(await attempt.play(run_dir / "tables"))
        except asyncio.CancelledError:
            if attempt is not None:
                await attempt.hand_over()
            raise
        except LeaseLostError as error:
            return EpisodeResult(episode, EpisodeStatus.LOST, reason=str(error))
        except Exception as error:  # noqa: BLE001 - told apart and recorded, never dropped
            failure = _as_infrastructure(error)
            if attempt is not None and (overtaken := attempt.overtaken_by()):
                # A newer attempt has taken its folder away, too: that is why something broke.
                return EpisodeResult(episode, EpisodeStatus.LOST, reason=overtaken)
            if attempt is not None:
                attempt.record_failure(failure)
            delay_s = patience.delay_after(failure, meter.step)
            if delay_s is None:
                return EpisodeResult(
                    episode,
                    EpisodeStatus.PENDING,
                    progression=meter.progression,
                    steps=meter.step,
                    reason=f"{failure.boundary}: {failure}",
                )
        finally:
            if attempt is not None:
                attempt.close()
        await asyncio.sleep(delay_s)


def _as_infrastructure(error: Exception) -> InfrastructureError:
    """What broke, as one of the taxonomy; defects keep their traceback."""
    if isinstance(error, InfrastructureError):
        return error
    if isinstance(error, AutoMemError):
        failure = UnexpectedError(str(error))
        failure.boundary = getattr(error, "boundary", "platform")
        return failure
    return UnexpectedError("".join(traceback.format_exception(error)).strip())


class Attempt:
    """One attempt at an episode: a lease, a journal file, a memory folder, a world."""

    def __init__(self, parts: Parts, key: EpisodeKey, directory: Path, meter: EpisodeMeter) -> None:
        self._parts = parts
        self._key = key
        self._directory = directory
        self._meter = meter
        self._lease: Lease | None = None
        self._journal: Journal | None = None
        self._sandbox: Sandbox | None = None
        self._world: GuardedWorld | None = None
        self._segments: SegmentWriter | None = None

    async def play(self, tables_dir: Path) -> EpisodeSummary:
        """From wherever the journal ends to the done mark."""
        lease = self._lease = leases.acquire(self._directory, await self._newest_epoch())
        recovered = await self._recover()
        self._meter.resume_at(recovered.steps, recovered.reached)
        if recovered.ended is None:
            await self._open_journal(lease, recovered)
            ended = await self._play_to_end(lease, recovered)
            self._append(ended)
            if self._segments is not None:
                await self._segments.finish()
        self._close_sandbox()
        history = recovered.history
        files = history.files if recovered.ended is not None and history is not None else None
        return await asyncio.to_thread(
            finish_episode, self._directory, tables_dir, lease, files, self._parts.spec.fsync
        )

    def overtaken_by(self) -> str:
        """Who has the lease by now; empty while it is this attempt."""
        try:
            if self._lease is not None:
                self._lease.check()
        except LeaseLostError as error:
            return str(error)
        return ""

    def record_failure(self, error: InfrastructureError) -> None:
        """Leave the failure in the trace, as far as the journal still takes anything."""
        if self._journal is not None:
            with suppress(StoreError):
                self._append(self._failed(error, is_infrastructure=True))

    async def hand_over(self) -> None:
        """Store what was written, so that whoever goes on elsewhere loses nothing; without a store
        the journal on disk is all that is needed."""
        if self._segments is not None:
            with suppress(StoreError):
                await self._segments.finish()

    def close(self) -> None:
        """Free everything; nothing durable happens here."""
        self._close_sandbox()
        if self._segments is not None:
            self._segments.cancel()
        if self._journal is not None:
            self._journal.close()
        if self._world is not None:
            with suppress(WorldError):
                self._world.close()

    async def _recover(self) -> Recovered:
        try:
            return await asyncio.to_thread(recover, self._directory)
        except StoreError as error:
            raise DamagedError(str(error)) from error

    async def _newest_epoch(self) -> int:
        """The newest attempt so far, on this node or on another one whose journal is then ours."""
        store = self._parts.store
        if store is None:
            return max(journal_epochs(self._directory), default=0)
        await asyncio.to_thread(restore, store, self._directory)
        claimed = await asyncio.to_thread(store.epochs, self._directory.name)
        return max([*journal_epochs(self._directory), *claimed], default=0)

    async def _open_journal(self, lease: Lease, recovered: Recovered) -> None:
        spec, store = self._parts.spec, self._parts.store
        if store is not None:
            self._segments = await asyncio.to_thread(
                SegmentWriter,
                store,
                self._directory,
                lease.epoch,
                recovered.head,
                spec.segment_steps,
                spec.segment_s,
            )
        self._journal = Journal(
            self._directory,
            lease,
            recovered.head,
            recovered.known,
            fsync=spec.fsync,
            on_write=self._segments.add if self._segments is not None else None,
        )
        self._meter.follow(self._journal.totals)

    async def _play_to_end(self, lease: Lease, recovered: Recovered) -> Ended:
        """The record that ends the episode; it is not written yet."""
        if recovered.player_failure is not None:
            return self._player_failed(recovered.player_failure.error)
        try:
            return await self._play_world(lease, recovered)
        except PlayerError as error:
            self._append(self._failed(error, is_infrastructure=False))
            return self._player_failed(str(error))

    async def _play_world(self, lease: Lease, recovered: Recovered) -> Ended:
        world = self._world = GuardedWorld(self._parts.spec.world, self._meter.world)
        started = self._start(recovered, world)
        session = self._open_session(lease, recovered, started)
        observation, outcome = await self._replay(world, recovered, started.seed)
        await session.start()
        while not outcome.is_final and self._meter.step < started.max_steps:
            action = await self._within_deadline(session.step(observation, outcome))
            observation, outcome = world.step(action)
            self._meter.count_step(outcome.progression)
            if self._segments is not None:
                await self._segments.after_step()
            await asyncio.sleep(0)
        await self._within_deadline(session.close(outcome, observation))
        return _ended(outcome, self._meter.step, started.max_steps)

    def _start(self, recovered: Recovered, world: GuardedWorld) -> EpisodeStarted:
        """The first record: written now, or, in a resumed episode, checked against the parts."""
        started = episode_started(self._parts, self._key, world)
        if recovered.started is None:
            self._append(started)
            return started
        if recovered.started.scaffold != started.scaffold:
            raise DamagedError(
                f"the scaffold has changed since this episode began (digest "
                f"{recovered.started.scaffold}, now {started.scaffold}): restore it and resume, "
                "or play the new one in a new run"
            )
        return recovered.started

    def _open_session(
        self, lease: Lease, recovered: Recovered, started: EpisodeStarted
    ) -> AgentSession:
        drop_older_memories(self._directory, lease.epoch)
        path = memory_path(self._directory, lease.epoch)
        sandbox = self._sandbox = Sandbox.open(path, self._parts.quota, self._parts.spec.fsync)
        history = recovered.history
        sandbox.rebuild(history.files if history is not None else {})
        assert self._journal is not None
        recorder = _TimedRecorder(self._journal, self._world)
        return build_session(self._parts, started, sandbox, recorder, history)

    async def _replay(
        self, world: GuardedWorld, recovered: Recovered, seed: int
    ) -> tuple[str, Outcome]:
        """The world's present, from its seed and every action so far; WorldError where what it
        says differs from the journal."""
        actions = recovered.history.actions if recovered.history is not None else ()
        observation, outcome = world.reset(seed)
        self._check_replay(recovered, 0, observation, outcome)
        for step, action in enumerate(actions, 1):
            observation, outcome = world.step(action)
            self._check_replay(recovered, step, observation, outcome)
            await asyncio.sleep(0)
        self._meter.resume_at(len(actions), outcome.progression)
        return recovered.as_recorded(observation), outcome

    def _check_replay(
        self, recovered: Recovered, step: int, observation: str, outcome: Outcome
    ) -> None:
        if step >= len(recovered.observed):
            return
        name = blob_name if step in recovered.redacted else stored_name
        if digest_of(name(observation), outcome) != recovered.observed[step]:
            raise WorldError(
                f"{self._parts.spec.world.name} is not deterministic: replayed with the same seed "
                f"and actions, step {step} differs from what the journal recorded"
            )

    async def _within_deadline(self, work: Coroutine[Any, Any, T]) -> T:
        limit_s = self._parts.spec.deadlines.step_s
        try:
            async with asyncio.timeout(limit_s) as limit:
                return await work
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise EngineError(f"step {self._meter.step} took more than {limit_s:g} s") from error

    def _player_failed(self, error: str) -> Ended:
        return Ended(
            stop=StopReason.PLAYER_FAILED,
            progression=self._meter.progression,
            steps=self._meter.step,
            detail=error,
            time=time.time(),
        )

    def _failed(self, error: InfrastructureError | PlayerError, is_infrastructure: bool) -> Failed:
        return Failed(
            step=self._meter.step,
            boundary=error.boundary,
            error=str(error),
            is_infrastructure=is_infrastructure,
            time=time.time(),
        )

    def _append(self, event: Event) -> None:
        assert self._journal is not None
        self._journal.append(event)

    def _close_sandbox(self) -> None:
        if self._sandbox is not None:
            self._sandbox.close()
            self._sandbox = None


class _TimedRecorder:
    """The journal, with the world's time put into each observation."""

    def __init__(self, journal: Journal, world: GuardedWorld | None) -> None:
        self._journal = journal
        self._world = world
        self.text = journal.text

    def append(self, event: Event) -> None:
        if type(event) is Observed and self._world is not None:
            event = msgspec.structs.replace(
                event, world_s=round(self._world.last_s, 6), time=round(time.time(), 3)
            )
        self._journal.append(event)


def _ended(outcome: Outcome, steps: int, max_steps: int) -> Ended:
    if outcome.terminated:
        stop = StopReason.SOLVED if outcome.progression >= 1.0 else StopReason.TERMINATED
    elif steps >= max_steps:
        stop = StopReason.CAP
    else:
        stop = StopReason.TRUNCATED
    return Ended(
        stop=stop,
        progression=outcome.progression,
        steps=steps,
        detail=str(outcome.info.get("stop", "")),
        time=time.time(),
    )
