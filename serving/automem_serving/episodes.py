"""Served episodes: make them, act in them, look at their memory, delete them.

Promise: an act happens once. It is journalled under its idempotency key before it takes effect; a
retry with the same key and body gets the same answer, from any replica, before and after any death;
the same key with another body is refused. Acts of one episode come one after the other. A caller
that goes away does not stop its act.

Not covered: an act that is sent again without a key after its answer was lost: it is a new act.
Give `step`, then such a retry is refused with 409.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from automem.errors import EngineError, InfrastructureError, LeaseLostError, PlayerError
from automem.rollout.finish import DONE_FILE
from automem.rollout.parts import Parts
from automem.rollout.recovery import recover
from automem.trace.events import SCHEMA, EpisodeStarted
from automem_serving.acts import Act, check_finishes, check_same, check_step, pending_act, under_way
from automem_serving.attempt import Attempt, ToolAnswer, recorded_tool_answer
from automem_serving.exclusive import exclusive
from automem_serving.journals import (
    Answer,
    MemoryView,
    memory_view,
    observed_steps,
    recorded_answer,
)
from automem_serving.policies import Policies
from automem_serving.problems import ApiError
from automem_serving.settings import Settings, WorldText
from automem_serving.store import ACT_LOCK, EpisodeStore, PinnedEpisode, body_digest, episode_id
from automem_serving.stored_bytes import StoredBytes

Result = TypeVar("Result")


class NewEpisode(msgspec.Struct, frozen=True):
    """What a caller asks for: one of `world` and `task`."""

    world: str | None = None
    task: str | None = None
    policy: str = "current"
    scaffold: str | None = None
    """A registered scaffold instead of the policy's own."""
    fallback_action: str | None = None
    max_steps: int | None = None


class EpisodeState(msgspec.Struct, frozen=True):
    """How an episode stands."""

    pinned: PinnedEpisode
    step: int
    """Actions given so far: the number of the next act."""
    progression: float
    stop: str | None
    """Why it ended; None while it is open."""
    pending_key: str | None
    """Idempotency key of the act that was begun and not finished; None where none was."""


class _Held:
    """What this replica keeps of an episode between acts."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0
        self.attempt: Attempt | None = None

    def drop(self) -> None:
        if self.attempt is not None:
            self.attempt.close()
            self.attempt = None


class EpisodeService:
    """See the module's docstring."""

    def __init__(
        self,
        settings: Settings,
        worlds: dict[str, WorldText],
        store: EpisodeStore,
        policies: Policies,
    ) -> None:
        self.store = store
        self.stored = StoredBytes(store, settings.limits.stored_bytes)
        self._settings = settings
        self._worlds = worlds
        self._policies = policies
        self._held: OrderedDict[Path, _Held] = OrderedDict()
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def loaded(self) -> int:
        """Episodes that are open in this replica."""
        return sum(held.attempt is not None for held in self._held.values())

    # Making and removing

    async def create(self, tenant: str, wanted: NewEpisode, key: str) -> tuple[PinnedEpisode, bool]:
        """Make an episode: (what was pinned, whether it is new). One that is refused leaves nothing
        behind; one that fails is only kept where a retry finds it again, by its key."""
        pinned = await self._pin(tenant, wanted, key)
        await self.stored.check(tenant)
        await self._parts(pinned)
        directory, is_new = await self.store.create(
            pinned,
            self._settings.limits.open_episodes,
            self._settings.takeover_s,
            self._settings.fsync,
        )
        if is_new:
            try:
                async with self._holding(directory) as held:
                    held.attempt = await self._open(directory)
            except PlayerError as error:
                self.store.delete(directory)
                raise ApiError(422, "scaffold_failed", str(error)) from error
            except BaseException:
                if not key:
                    self.store.delete(directory)
                raise
        return self.store.read(directory), is_new

    async def delete(self, tenant: str, episode: str) -> None:
        """Remove an episode, its memory and its trace; an act under way is waited for."""
        directory = self.store.directory(tenant, episode)
        async with self._holding(directory) as held:
            self.store.directory(tenant, episode)
            held.drop()
            await asyncio.to_thread(self.store.delete, directory)
        self.stored.forget(tenant)

    async def close(self) -> None:
        """Let acts under way finish, then free everything."""
        if self._tasks:
            await asyncio.wait(self._tasks)
        for held in self._held.values():
            held.drop()

    async def _pin(self, tenant: str, wanted: NewEpisode, key: str) -> PinnedEpisode:
        text = self._text(wanted)
        name = episode_id(tenant, key)
        version = self._policies.resolve(wanted.policy, name)
        scaffold, folder = version.scaffold, version.scaffold_folder
        if wanted.scaffold is not None:
            scaffold, folder = await asyncio.to_thread(
                self._policies.keep_scaffold, wanted.scaffold
            )
        started = EpisodeStarted(
            schema=SCHEMA,
            episode=name,
            world=wanted.world or "task",
            seed=0,
            replicate=0,
            run_seed=0,
            max_steps=min(wanted.max_steps or text.max_steps, self._settings.limits.max_steps),
            policy=version.name,
            scaffold=scaffold.rpartition("@")[2],
            instruction=text.instruction,
            fallback_action=wanted.fallback_action or text.fallback_action,
        )
        return PinnedEpisode(started, tenant, scaffold, folder, time.time(), body_digest(wanted))

    def _text(self, wanted: NewEpisode) -> WorldText:
        if (wanted.world is None) == (wanted.task is None):
            raise ApiError(
                422, "one_of", "give either `world` (a registered one) or `task` (your own words)"
            )
        if wanted.task is not None:
            return WorldText(wanted.task, "wait", self._settings.limits.max_steps)
        if wanted.world not in self._worlds:
            known = ", ".join(sorted(self._worlds)) or "none"
            raise ApiError(
                422, "unknown_world", f"no world of that name is registered: {known}", "world"
            )
        return self._worlds[wanted.world]

    # Acting

    async def act(self, tenant: str, episode: str, act: Act) -> tuple[Answer, bool]:
        """Act: (the answer, whether it had been given before)."""
        return await self._finished(self._act_alone(tenant, episode, act))

    async def use_tool(
        self, tenant: str, episode: str, command: dict[str, Any], key: str
    ) -> tuple[ToolAnswer, bool]:
        """Carry out a command of the memory tool between two acts: (answer, whether it had been
        given before). A command that changes memory is done once per key."""
        return await self._finished(self._use_tool_alone(tenant, episode, command, key))

    async def _finished(self, work: Coroutine[Any, Any, Result]) -> Result:
        """What `work` comes to; it goes on where its caller goes away."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._settle)
        return await asyncio.shield(task)

    def _settle(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # its caller may have gone: then nobody else asks for it

    async def _act_alone(self, tenant: str, episode: str, act: Act) -> tuple[Answer, bool]:
        directory = self.store.directory(tenant, episode)
        async with self._holding(directory) as held:
            attempt = await self._attempt(directory, held)
            if attempt is None:
                return await self._replayed(directory, act), True
            return await self._next(tenant, held, attempt, act)

    async def _use_tool_alone(
        self, tenant: str, episode: str, command: dict[str, Any], key: str
    ) -> tuple[ToolAnswer, bool]:
        directory = self.store.directory(tenant, episode)
        async with self._holding(directory) as held:
            attempt = await self._attempt(directory, held)
            if key:
                known = await asyncio.to_thread(recorded_tool_answer, directory, key, command)
                if known is not None:
                    return known, True
            if attempt is None:
                raise ApiError(409, "episode_over", "this episode has ended; make a new one")
            if attempt.pending is not None:
                raise under_way(attempt.pending)
            await self.stored.check(tenant)
            try:
                return attempt.use_tool(command, key), False
            except InfrastructureError as error:
                self._break(held, error)
                raise
            except BaseException:
                held.drop()
                raise

    async def _attempt(self, directory: Path, held: _Held) -> Attempt | None:
        """This replica's attempt, taken over from another one's if need be; None where the
        episode is finished."""
        if held.attempt is not None:
            with suppress(LeaseLostError):
                held.attempt.lease.check()
                return held.attempt
            held.drop()
        if (directory / DONE_FILE).exists():
            return None
        attempt = await self._open(directory)
        if attempt.is_over:
            attempt.close()
            return None
        held.attempt = attempt
        return attempt

    async def _open(self, directory: Path) -> Attempt:
        pinned = self.store.read(directory)
        parts = await self._parts(pinned)
        return await Attempt.open(directory, pinned.started, parts, self._settings.fsync)

    async def _parts(self, pinned: PinnedEpisode) -> Parts:
        version = self._policies.version(pinned.started.policy)
        return await self._policies.parts(version, pinned.scaffold_folder, pinned.tenant)

    async def _next(
        self, tenant: str, held: _Held, attempt: Attempt, act: Act
    ) -> tuple[Answer, bool]:
        """A retry's old answer, or the act itself."""
        pending = attempt.pending
        if act.key in attempt.keys and (pending is None or pending.key != act.key):
            return await self._replayed(attempt.directory, act), True
        if pending is not None:
            check_finishes(pending, act)
            outcome = pending.outcome
        else:
            check_step(attempt.step, act.step)
            if not act.outcome.is_final:
                await self.stored.check(tenant)
            outcome = msgspec.structs.replace(act.outcome, action=attempt.last_action)
        try:
            async with asyncio.timeout(self._settings.act_s):
                answer = await attempt.act(act.observation, outcome, act.key)
        except TimeoutError:
            error = EngineError(f"the act took more than {self._settings.act_s:g} s")
            self._break(held, error)
            raise error from None
        except InfrastructureError as error:
            self._break(held, error)
            raise
        except BaseException:
            held.drop()
            raise
        if attempt.is_over:
            held.drop()
        return answer, False

    def _break(self, held: _Held, error: InfrastructureError) -> None:
        """The act stays pending; the next one opens a fresh attempt."""
        if held.attempt is not None:
            held.attempt.record_failure(error)
        held.drop()

    async def _replayed(self, directory: Path, act: Act) -> Answer:
        """The answer that was given under the act's key; 409 where there is none."""
        observed = await asyncio.to_thread(observed_steps, directory)
        known = next((one for one in observed if act.key and one.key == act.key), None)
        if known is None:
            raise ApiError(409, "episode_over", "this episode has ended; make a new one")
        check_same(known, act)
        started = self.store.read(directory).started
        answer = await asyncio.to_thread(recorded_answer, directory, started, known.step)
        if answer is None:
            raise ApiError(409, "act_pending", "this act was never finished, and the episode ended")
        return answer

    # Looking

    async def state(self, tenant: str, episode: str) -> EpisodeState:
        """How an episode stands, from its journal."""
        directory = self.store.directory(tenant, episode)
        pinned = self.store.read(directory)
        found = await asyncio.to_thread(recover, directory)
        stop = found.ended.stop if found.ended is not None else None
        pending = None if stop is not None else pending_act(found.history)
        return EpisodeState(
            pinned=pinned,
            step=len(found.history.actions) if found.history is not None else 0,
            progression=found.reached,
            stop=stop,
            pending_key=pending.key if pending is not None else None,
        )

    async def memory(self, tenant: str, episode: str, since: int | None = None) -> MemoryView:
        """Memory now, and as it was when act `since` was answered."""
        directory = self.store.directory(tenant, episode)
        view = await asyncio.to_thread(memory_view, directory, since)
        if not view.is_reached:
            raise ApiError(
                422, "step_not_reached", f"act {since} has no answer yet; next is {view.steps}"
            )
        return view

    # What is kept between acts

    @asynccontextmanager
    async def _holding(self, directory: Path) -> AsyncIterator[_Held]:
        """What this replica keeps of an episode, for as long as nobody else acts in it."""
        held = self._hold(directory)
        try:
            async with held.lock, exclusive(directory / ACT_LOCK, self._settings.takeover_s):
                yield held
        finally:
            self._release(held)

    def _hold(self, directory: Path) -> _Held:
        held = self._held.setdefault(directory, _Held())
        self._held.move_to_end(directory)
        held.users += 1
        return held

    def _release(self, held: _Held) -> None:
        held.users -= 1
        surplus = len(self._held) - self._settings.loaded_episodes
        idle = [path for path, other in self._held.items() if not other.users]
        for path in idle[: max(0, surplus)]:
            self._held.pop(path).drop()
