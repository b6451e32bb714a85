"""The session's hold on its gate: asks it, journals what it said, and does without it if it fails.

Promise: a decision is journalled before it takes effect, with what it was made from; a resumed step
takes the journalled one, and the steps after it are decided as an unbroken run would have. A gate
that is missing, broken or raises is given up for the rest of the episode: one `Failed` of boundary
`gate` in the trace, one warning in the log, and every step has all its memory work again.
"""

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from automem.agent.gating.decision import EVERYTHING, GateOptions, MemoryGate, Question
from automem.agent.gating.exported import ExportedGate, GateError, gate_digest
from automem.agent.gating.features import features
from automem.agent.gating.rules import RULES, make_rule, rule_name
from automem.agent.record import SessionRecord
from automem.agent.recorder import LastStep
from automem.errors import UsageError
from automem.memory.ops import OpStatus
from automem.memory.sandbox import Sandbox
from automem.seeds import derive
from automem.suggest import no_such
from automem.trace.events import EpisodeStarted, Event, Failed, Gated, OpDone, Outcome

FALLBACK = "fallback"
"""`Gated.by` of steps that the gate was not asked about any more."""
_LOOKING = frozenset({"SEARCH", "READ", "TAIL"})
_log = logging.getLogger(__name__)


class GateKeeper:
    """See the module's docstring."""

    def __init__(
        self,
        name: str,
        options: GateOptions,
        spec: EpisodeStarted,
        record: SessionRecord,
        sandbox: Sandbox,
        recent: Sequence[LastStep] = (),
    ) -> None:
        """`name`: a rule, or a folder. `recent`: the finished steps of a resumed episode."""
        self._name, self._options = name, options
        self._spec, self._record, self._sandbox = spec, record, sandbox
        self._gate: MemoryGate | None = None
        last = recent[-1].gated if recent else None
        self._is_given_up = last is not None and last.by == FALLBACK

    def decide(
        self, step: int, observation: str, outcome: Outcome, recent: Sequence[LastStep]
    ) -> Gated:
        """What this step may spend on memory, on record."""
        recalled = self._record.recall(Gated)
        if recalled is not None:
            self._is_given_up = self._is_given_up or recalled.by == FALLBACK
            return recalled
        spec = self._spec
        size = sum(file.bytes for file in self._sandbox.listing())
        seen = features(step, spec.max_steps, observation, outcome, recent, size)
        seed = derive(spec.run_seed, spec.episode, step, "gate")
        gated = self._ask(Question(step, seed, seen))
        self._record.recorder.append(gated)
        return gated

    def _ask(self, question: Question) -> Gated:
        decision, by = EVERYTHING, FALLBACK
        if not self._is_given_up:
            try:
                if self._gate is None:
                    self._gate = make_gate(self._name, self._options)
                decision, by = self._gate.decide(question), self._gate.name
            except Exception as error:  # noqa: BLE001 - whatever a gate raises, memory is kept
                self._give_up(question.step, error)
        return Gated(question.step, decision.log, decision.consult, by, list(question.features))

    def _give_up(self, step: int, error: Exception) -> None:
        self._is_given_up = True
        text = f"{error or type(error).__name__}; from here on every step has all its memory work"
        _log.warning("episode %s, step %d: gate: %s", self._spec.episode, step, text)
        # Not the player's failure: that would end the episode.
        failed = Failed(step, "gate", text, is_infrastructure=True, time=time.time())
        self._record.recorder.append(failed)


def make_gate(name: str, options: GateOptions) -> MemoryGate:
    """The rule of this name, or the gate in this folder. GateError where it cannot be used."""
    return make_rule(name, options) if name in RULES else ExportedGate(Path(name).expanduser())


def check_gate(name: str, options: GateOptions) -> None:
    """UsageError where a person asks for a gate that does not work: before time is spent."""
    if not name or name in RULES:
        return
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise UsageError(no_such("agent.gate", name, RULES) + " (or give the folder of a gate)")
    try:
        make_gate(name, options)
    except GateError as error:
        raise UsageError(f"agent.gate: {error}") from error


def with_gate(agent: Mapping[str, Any]) -> dict[str, Any]:
    """The agent's options, checked by `check_gate`; a gate's folder is named by its full path."""
    gate = str(agent.get("gate") or "")
    try:
        check_gate(gate, msgspec.convert(agent.get("gating") or {}, GateOptions))
    except msgspec.ValidationError as error:
        raise UsageError(f"agent.gating: {error}") from None
    folder = Path(gate).expanduser()
    return {**agent, "gate": str(folder.resolve())} if gate and folder.is_dir() else dict(agent)


def gate_label(name: str, options: GateOptions) -> str:
    """What a policy's name says of its gate: a rule, or the digest of a learned one."""
    if name in RULES:
        return f"gate@{rule_name(name, options)}"
    return f"gate@{gate_digest(Path(name).expanduser())}"


def found_in(events: Iterable[Event]) -> int:
    """How many lines the look-ups among a step's events gave; -1 where there were none."""
    looks = [event for event in events if isinstance(event, OpDone) and event.op.name in _LOOKING]
    if not looks:
        return -1
    shown = (look.result for look in looks if look.result.status is OpStatus.OK)
    return sum(len(numbers) for result in shown for numbers in result.lines.values())
