"""The durable agent: LOG and PLAN over a memory directory, driven by a world or by HTTP.

`step(observation, outcome)` takes the world's answer to the last action and returns the next one;
`close` gives the terminal observation its LOG. The session owns scaffold, memory, roles and the
record of it all; it knows no world and no Ray.

Promise: everything that decides what comes next is recorded before it takes effect, so a session
built with the `History` of a dead one goes on in the middle of a step: recorded turns are not asked
again, recorded operations not done again. Nothing about an action's outcome is written to memory
before the world has answered.
"""

from collections import deque

from automem.agent.gating import Depth, GateKeeper
from automem.agent.gating.keeper import found_in
from automem.agent.hooks import make_hooks
from automem.agent.memories import make_recall, schema_with
from automem.agent.prompts import Prompts
from automem.agent.record import SessionRecord
from automem.agent.recorder import RECENT_STEPS, History, LastStep, Recorder
from automem.agent.roles import AgentOptions, Roles
from automem.agent.routines import Answered, Moment, RoutineRunner
from automem.agent.scaffold import Scaffold
from automem.agent.upkeep import Upkeep
from automem.errors import StoreError, WorldError
from automem.memory.dialects import make_dialect
from automem.memory.sandbox import Sandbox
from automem.trace.events import EpisodeStarted, Observed, Outcome, ToolUsed


class AgentSession:
    """See the module's docstring."""

    def __init__(
        self,
        spec: EpisodeStarted,
        scaffold: Scaffold,
        roles: Roles,
        sandbox: Sandbox,
        recorder: Recorder,
        options: AgentOptions | None = None,
        history: History | None = None,
    ) -> None:
        options = options or AgentOptions()
        self.spec = spec
        self._options = options
        self._record = SessionRecord(recorder, sandbox, history)
        self._recall = make_recall(options.memory, options.recall, scaffold.schema, self._record)
        scaffold = scaffold.with_schema(schema_with(options.memory, scaffold.schema))
        self._upkeep = Upkeep(scaffold.schema.files, self._record, sandbox)
        dialect = make_dialect(options.dialect)
        has_files = options.memory != "none"  # an automatic log is one, and listed as such
        prompts = Prompts(scaffold, dialect, spec.instruction, has_files, options.knowledge)
        self._routines = RoutineRunner(
            spec,
            scaffold,
            roles,
            dialect,
            prompts,
            self._record,
            sandbox,
            options,
            make_hooks(scaffold.hooks, options.hooks),
            self._recall,
        )
        self._recent: deque[LastStep] = deque(
            history.recent if history else (), maxlen=RECENT_STEPS
        )
        self._gate = (
            GateKeeper(
                options.gate, options.gating, spec, self._record, sandbox, tuple(self._recent)
            )
            if options.gate
            else None
        )
        self._is_initialised = history.initialised if history else False
        self.step_index = len(history.actions) if history else 0

    async def start(self) -> None:
        """Write the scaffold's initial files, once per episode."""
        if self._options.has_memory and not self._is_initialised:
            self._upkeep.write_initial()
        self._is_initialised = True

    async def step(self, observation: str, outcome: Outcome) -> str:
        """LOG what the last action did, then PLAN; the committed action.

        Raises EngineError, StoreError, WorldError (the world did not replay) or PlayerError."""
        moment = self._observe(observation, outcome)
        gated = None
        if self._gate is not None:
            gated = self._gate.decide(moment.step, observation, outcome, moment.recent)
        unseen = await self._log(moment, Depth(gated.log) if gated else Depth.FULL)
        consulting = Depth(gated.consult) if gated else Depth.FULL
        committed = await self._routines.plan(moment, unseen, consulting)
        self._record.recorder.append(committed)
        found = found_in(self._record.step_ops) if gated else -1
        self._recent.append(
            LastStep(self.step_index, observation, committed.action, outcome, gated, found)
        )
        self.step_index += 1
        return committed.action

    async def close(self, outcome: Outcome, observation: str) -> None:
        """Give the terminal observation its LOG, whatever the gate; the caller records the end."""
        await self._log(self._observe(observation, outcome))

    def change_from_outside(self, used: ToolUsed) -> None:
        """Carry out a command that is not the agent's, between two steps; `chain` is filled in.

        StoreError where it could not be journalled or applied: the session is of no more use."""
        if self._record.is_replaying:
            raise StoreError("memory cannot be changed from outside while a step is under way")
        self._record.record_tool(used)

    def _observe(self, observation: str, outcome: Outcome) -> Moment:
        """Record the world's answer, or check it against the journal's."""
        self._record.step_ops.clear()
        changed = not self._recent or self._recent[-1].observation != observation
        recalled = self._record.recall(Observed)
        if recalled is None:
            recorder = self._record.recorder
            recorder.append(
                Observed(
                    step=self.step_index,
                    observation=recorder.text(observation),
                    changed=changed,
                    outcome=outcome,
                )
            )
        elif recalled.observation != observation:
            raise WorldError(
                f"step {self.step_index}: the world did not replay to what the journal recorded; "
                "it is not deterministic given its seed and actions"
            )
        if self._recall is not None:
            action = self._recent[-1].action if self._recent else ""
            self._recall.note(self.step_index, action, observation)
        return Moment(self.step_index, observation, changed, tuple(self._recent))

    async def _log(self, moment: Moment, depth: Depth = Depth.FULL) -> Answered:
        """LOG, where there is an action to speak of; errors it has not been shown."""
        if moment.step == 0 or not self._options.has_memory:
            return []
        if self._options.memory == "blanked":
            self._upkeep.blank(moment.step)
        unseen = [] if depth is Depth.SKIP else await self._routines.log(moment, depth)
        self._upkeep.prune(moment.step, moment.observation)
        return unseen
