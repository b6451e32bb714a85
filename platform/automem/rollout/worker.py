"""A worker: one process, one event loop, hundreds of episodes.

It gets specs and builds its parts here; it is told which episodes to play and asked, by `pulse`,
how they stand. A pulse is the heartbeat, too: worlds are stepped in the loop, so a world that hangs
keeps the pulse from being answered, and the pool kills the process. Nothing needs to be saved when
that happens, or when the worker is drained: the journals hold everything.

The class knows no Ray. `pool` makes an actor of it; `run` uses it directly for `workers=0`.
"""

import asyncio
import os
import resource
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from automem.engine.protocol import Engine
from automem.errors import InfrastructureError, StoreError
from automem.rollout.engines import build_own_engines
from automem.rollout.episode import EpisodeResult, EpisodeStatus, play_episode
from automem.rollout.guarded_world import check_world
from automem.rollout.meter import EpisodeMeter, WorkerMeter, WorkerStats
from automem.rollout.parts import Parts, build_parts
from automem.rollout.patience import Patience
from automem.rollout.scratch import (
    forget_episode,
    node_name,
    scratch_dir,
    use_temporary_folder,
)
from automem.rollout.spec import EpisodeKey, RolloutSpec
from automem.rollout.stored_run import StoredRun, scaffold_of
from automem.trace.compact import warm_up

SHORTEST_PULSE_S = 0.05
"""Pulses are answered at most so often, however fast episodes finish."""


class Straggler(msgspec.Struct, frozen=True):
    """An episode that has not finished a step for a while."""

    episode: str
    step: int
    idle_s: float


class Pulse(msgspec.Struct, frozen=True):
    """A worker's sign of life."""

    host: str
    pid: int
    node: str
    """Ray's id of its node."""
    finished: tuple[EpisodeResult, ...]
    """Episodes that came out since the last pulse, one way or another."""
    running: int
    """Episodes that are being played now; those that wait for a slot left out."""
    stats: WorkerStats
    stragglers: tuple[Straggler, ...] = ()


class Worker:
    """See the module's docstring."""

    def __init__(
        self,
        spec: RolloutSpec,
        run_dir: str,
        shared: Mapping[str, Engine] | None = None,
        import_path: Sequence[str] = (),
        temporary: str = "",
    ) -> None:
        """`shared`: engines that live in actors of their own, by name. `import_path`: the driver's
        `sys.path`, so that what can be imported there can be imported here. `temporary`: where the
        process is the worker's own and may be killed, a name for its folder of temporary files."""
        sys.path.extend(path for path in import_path if path not in sys.path)
        if temporary:
            use_temporary_folder(temporary)
        self._spec = spec
        self._run_dir = Path(run_dir)
        self._stored: StoredRun | None = None
        self._node = node_name()
        self._shared = dict(shared or {})
        self._own: dict[str, Engine] = {}
        self._parts: Parts | None = None
        self._meter = WorkerMeter()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._meters: dict[str, EpisodeMeter] = {}
        self._finished: list[EpisodeResult] = []
        self._slots = asyncio.Semaphore(spec.sessions_per_worker)
        self._news = asyncio.Event()

    async def start(self) -> None:
        """Build engines and parts. UsageError where they were asked for in the wrong way; an engine
        that is away is waited for a while, then its EngineError goes to the caller."""
        _allow_many_files()
        check_world(self._spec.world)
        patience = Patience(self._spec.deadlines)
        while self._parts is None:
            try:
                if self._spec.storage_url and self._stored is None:
                    await asyncio.to_thread(self._play_from_storage)
                self._own = self._own or await build_own_engines(self._spec)
                self._parts = await build_parts(self._spec, {**self._shared, **self._own})
            except InfrastructureError as error:
                delay_s = patience.delay_after(error, 0)
                if delay_s is None:
                    raise
                await asyncio.sleep(delay_s)
        warm_up()
        self._meter.begin()

    def _play_from_storage(self) -> None:
        """Nothing is shared with other nodes: a folder of this one, and the scaffold as stored."""
        url = self._spec.storage_url
        self._run_dir = scratch_dir(url)
        scaffold = str(scaffold_of(url))
        segments = self._spec.segments_url or f"{url}/segments"
        self._spec = msgspec.structs.replace(self._spec, scaffold=scaffold, segments_url=segments)
        self._stored = StoredRun(url)

    async def play(self, keys: list[EpisodeKey]) -> None:
        """Take on more episodes; returns at once."""
        for key in keys:
            episode = self._spec.episode_id(key)
            self._tasks[episode] = asyncio.create_task(self._play(key, episode))

    async def pulse(self, wait_s: float) -> Pulse:
        """How things stand: at once where an episode came out, else after `wait_s`."""
        try:
            await asyncio.wait_for(self._news.wait(), wait_s)
            await asyncio.sleep(SHORTEST_PULSE_S)
        except TimeoutError:
            pass
        self._news.clear()
        finished, self._finished = tuple(self._finished), []
        return Pulse(
            host=socket.gethostname(),
            pid=os.getpid(),
            node=self._node,
            finished=finished,
            running=len(self._meters),
            stats=self._meter.stats(),
            stragglers=self._stragglers(),
        )

    async def drain(self) -> Pulse:
        """Stop where things stand; everything stays resumable."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for engine in self._own.values():
            await engine.close()
        return await self.pulse(0.0)

    async def _play(self, key: EpisodeKey, episode: str) -> None:
        meter = EpisodeMeter(self._meter)
        try:
            async with self._slots:
                if self._parts is None:
                    raise InfrastructureError("this worker was not started")
                self._meters[episode] = meter
                meter.moved_at = time.monotonic()
                result = await play_episode(self._parts, key, self._run_dir, meter)
                if self._stored is not None and result.status is EpisodeStatus.FINISHED:
                    await self._store(self._stored, episode)
        except InfrastructureError as error:
            result = EpisodeResult(episode, EpisodeStatus.PENDING, reason=str(error))
        finally:
            meter.settle()
            self._tasks.pop(episode, None)
            self._meters.pop(episode, None)
        self._finished.append(result)
        self._news.set()

    async def _store(self, stored: StoredRun, episode: str) -> None:
        """Finished here becomes finished for everybody; StoreError where the store stays away."""
        patience = Patience(self._spec.deadlines)
        while True:
            try:
                await asyncio.to_thread(stored.put_episode, self._run_dir, episode)
            except StoreError as error:
                delay_s = patience.delay_after(error, 0)
                if delay_s is None:
                    raise
                await asyncio.sleep(delay_s)
            else:
                await asyncio.to_thread(forget_episode, self._run_dir, episode)
                return

    def _stragglers(self) -> tuple[Straggler, ...]:
        now, limit_s = time.monotonic(), self._spec.watchdog.straggler_s
        return tuple(
            Straggler(episode, meter.step, now - meter.moved_at)
            for episode, meter in self._meters.items()
            if now - meter.moved_at > limit_s
        )


def _allow_many_files() -> None:
    """Each episode holds a journal and a memory folder open: raise the soft limit to the hard."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
