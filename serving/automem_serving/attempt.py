"""One replica's hold on a served episode: a lease, a journal file, a memory folder, a session.

The counterpart of `automem.rollout.episode.Attempt`, driven by HTTP instead of a world: the same
session, journal and recovery, and no world to rebuild, since every answer of the caller's world is
in the journal.

Promise: after a death at any instruction a new attempt goes on from the last record. An attempt in
which anything failed is closed and never used again.
"""

import asyncio
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from automem.errors import InfrastructureError, PlayerError, StoreError
from automem.memory.dialects.memory_tool import MemoryTool
from automem.memory.execute import Executor
from automem.memory.sandbox import Sandbox
from automem.rollout import lease as leases
from automem.rollout.chain import journal_epochs
from automem.rollout.finish import drop_older_memories, finish_episode, memory_path
from automem.rollout.journal import Journal
from automem.rollout.parts import Parts, build_session
from automem.rollout.recovery import Recovered, recover
from automem.trace.events import (
    Ended,
    EpisodeStarted,
    Event,
    Failed,
    Observed,
    Outcome,
    StopReason,
    ToolUsed,
)
from automem_serving.journals import Answer, answer_of, observed_steps, used_tools
from automem_serving.problems import ApiError
from automem_serving.store import command_digest


class ToolAnswer(msgspec.Struct, frozen=True):
    """What a command of the memory tool is answered with."""

    text: str
    """As the tool's documentation words it: for the model that gave the command."""
    is_error: bool = False
    changed_files: tuple[str, ...] = ()


class ActRecorder:
    """The journal, with the caller's key put into each observation; keeps the act's events."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.key = ""
        self.events: list[Event] = []
        """Of the act under way."""

    def text(self, text: str) -> str:
        return self._journal.text(text)

    def append(self, event: Event) -> None:
        if isinstance(event, Observed):
            event = msgspec.structs.replace(event, key=self.key, time=round(time.time(), 3))
        self._journal.append(event)
        self.events.append(event)


class Attempt:
    """See the module's docstring; `Attempt.open` makes one."""

    def __init__(
        self,
        directory: Path,
        started: EpisodeStarted,
        lease: leases.Lease,
        recovered: Recovered,
        observed: list[Observed],
        fsync: bool,
    ) -> None:
        self.directory = directory
        self.started = started
        self.lease = lease
        self.keys = {one.key: one.step for one in observed if one.key}
        """Idempotency keys of the acts so far, with their steps."""
        self.is_over = recovered.ended is not None
        self.progression = recovered.reached
        actions = recovered.history.actions if recovered.history is not None else ()
        self.last_action = actions[-1] if actions else ""
        self.pending = observed[-1] if len(observed) > len(actions) else None
        """What the caller sent for the act that was begun and not finished."""
        self._fsync = fsync
        self._journal: Journal | None = None
        self._sandbox: Sandbox | None = None

    @classmethod
    async def open(
        cls, directory: Path, started: EpisodeStarted, parts: Parts, fsync: bool = False
    ) -> "Attempt":
        """Take the episode over from whoever had it. StoreError where its journal is damaged,
        PlayerError where its scaffold is at fault."""
        lease = leases.acquire(directory, max(journal_epochs(directory), default=0))
        recovered = await asyncio.to_thread(recover, directory)
        observed = await asyncio.to_thread(observed_steps, directory)
        attempt = cls(directory, recovered.started or started, lease, recovered, observed, fsync)
        try:
            if attempt.is_over:
                files = recovered.history.files if recovered.history else {}
                await attempt._finish(files)
            else:
                await attempt._begin(recovered, parts)
        except BaseException:
            attempt.close()
            raise
        return attempt

    @property
    def step(self) -> int:
        """The act that comes next, or is under way."""
        return self._session.step_index

    async def act(self, observation: str, outcome: Outcome, key: str) -> Answer:
        """Take the world's answer, give the next action; the terminal one ends the episode.

        InfrastructureError leaves the act pending: close this attempt and open another."""
        step = self.step
        self._recorder.key = key
        self.progression = outcome.progression
        if self.pending is None:
            self._recorder.events.clear()
        try:
            if outcome.is_final or step >= self.started.max_steps:
                await self._session.close(outcome, observation)
                await self._end(_ended(outcome, step, self.started.max_steps))
            else:
                self.last_action = await self._session.step(observation, outcome)
        except PlayerError as error:
            self._recorder.append(_failed(step, error, is_infrastructure=False))
            await self._end(self._player_failed(step, str(error)))
        self.pending = None
        if key:
            self.keys[key] = step
        answer = answer_of(self.started, step, self._recorder.events)
        if answer is None:
            raise StoreError(f"step {step} has no end in the journal")
        return answer

    def use_tool(self, command: dict[str, Any], key: str) -> ToolAnswer:
        """Carry out a command of the memory tool, between two acts; one that changes memory is
        journalled first. A bad command is answered with an error text and changes nothing.

        InfrastructureError: close this attempt and open another."""
        assert self._sandbox is not None, "the episode is open"
        planned = MemoryTool(self._sandbox, Executor(self._sandbox)).run(command)
        if planned.edits:
            used = ToolUsed(
                step=self.step,
                command=str(command.get("command")),
                answer=planned.text,
                edits=list(planned.edits),
                chain="",
                key=key,
                body=command_digest(command) if key else "",
                time=round(time.time(), 3),
            )
            self._session.change_from_outside(used)
            return _tool_answer(used)
        return ToolAnswer(planned.text, planned.is_error)

    def record_failure(self, error: InfrastructureError) -> None:
        """Leave the failure in the trace, as far as the journal still takes anything."""
        if self._journal is not None:
            with suppress(StoreError):
                self._journal.append(_failed(self.step, error, is_infrastructure=True))

    def close(self) -> None:
        """Free everything; nothing durable happens here."""
        if self._sandbox is not None:
            self._sandbox.close()
            self._sandbox = None
        if self._journal is not None:
            self._journal.close()

    async def _begin(self, recovered: Recovered, parts: Parts) -> None:
        self._journal = Journal(
            self.directory, self.lease, recovered.head, recovered.known, fsync=self._fsync
        )
        self._recorder = ActRecorder(self._journal)
        history = recovered.history
        if recovered.started is None:
            self._recorder.append(self.started)
        if history is not None and self.pending is not None:
            self._recorder.events.extend(history.pending)
        drop_older_memories(self.directory, self.lease.epoch)
        path = memory_path(self.directory, self.lease.epoch)
        self._sandbox = Sandbox.open(path, parts.quota, self._fsync)
        self._sandbox.rebuild(history.files if history is not None else {})
        self._session = build_session(parts, self.started, self._sandbox, self._recorder, history)
        if recovered.player_failure is not None:  # a death came before its `Ended`
            failure = recovered.player_failure
            await self._end(self._player_failed(failure.step, failure.error))
        else:
            await self._session.start()

    def _player_failed(self, step: int, error: str) -> Ended:
        return Ended(
            stop=StopReason.PLAYER_FAILED,
            progression=self.progression,
            steps=step,
            detail=error,
            time=time.time(),
        )

    async def _end(self, ended: Ended) -> None:
        self._recorder.append(ended)
        self.is_over = True
        if self._sandbox is not None:
            self._sandbox.close()
            self._sandbox = None
        await self._finish(None)

    async def _finish(self, files: dict[str, str] | None) -> None:
        """Tables, memory and the done mark, as every finished episode has them."""
        tables = self.directory.parents[1] / "tables"
        await asyncio.to_thread(
            finish_episode, self.directory, tables, self.lease, files, self._fsync
        )


def recorded_tool_answer(directory: Path, key: str, command: dict[str, Any]) -> ToolAnswer | None:
    """What a command under this key was answered with when it changed memory; None where none
    did. 422 where it was another command."""
    used = next((one for one in used_tools(directory) if one.key == key), None)
    if used is None:
        return None
    if used.body != command_digest(command):
        raise ApiError(
            422,
            "idempotency_key_reused",
            "this Idempotency-Key was sent with another command; use a new key",
        )
    return _tool_answer(used)


def _tool_answer(used: ToolUsed) -> ToolAnswer:
    return ToolAnswer(used.answer, changed_files=tuple(sorted({e.file for e in used.edits})))


def _failed(step: int, error: InfrastructureError | PlayerError, is_infrastructure: bool) -> Failed:
    return Failed(
        step=step,
        boundary=error.boundary,
        error=str(error),
        is_infrastructure=is_infrastructure,
        time=time.time(),
    )


def _ended(outcome: Outcome, step: int, max_steps: int) -> Ended:
    if outcome.terminated:
        stop = StopReason.SOLVED if outcome.progression >= 1.0 else StopReason.TERMINATED
    else:
        stop = StopReason.TRUNCATED if outcome.truncated else StopReason.CAP
    return Ended(
        stop=stop,
        progression=outcome.progression,
        steps=step,
        detail=str(outcome.info.get("stop", "")),
        time=time.time(),
    )
