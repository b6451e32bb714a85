"""Gated episodes as decisions and what came of them, read from the platform's own journals.

One reading for all: the offline start learns from traces that were recorded under fixed rules, PPO
from those that were played with the gate as it was then. A decision's reward is the progression
gained until the next one, less the price of the tokens that its step took. Not covered: the
terminal LOG, which no gate decides about.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import msgspec

from automem.agent.gating.decision import DEPTHS, Depth
from automem.errors import StoreError
from automem.rollout.chain import iter_events
from automem.trace.events import Ended, Event, Gated, Observed, Turn


class GateTrace(msgspec.Struct, frozen=True):
    """One episode; all lists are as long as it has decisions."""

    episode: str
    features: list[list[float]]
    actions: list[tuple[int, int]]
    """LOG and consulting, as indices of `DEPTHS`."""
    gains: list[float]
    """Progression gained after the decision, until the next observation."""
    tokens: list[int]
    """Prompt and completion, of every model call of the step."""
    progression: float

    @property
    def tokens_per_step(self) -> float:
        return sum(self.tokens) / len(self.tokens)


class Price(msgspec.Struct, frozen=True):
    """What tokens cost, in progression."""

    price: float
    """Of an episode in which every step takes `reference_tokens`."""
    reference_tokens: float
    """Tokens per step of the always-on agent."""
    steps: int
    """Of a whole episode."""

    def rewards(self, trace: GateTrace) -> list[float]:
        """One for each decision."""
        each = self.price / (self.reference_tokens * self.steps)
        return [
            gain - each * tokens for gain, tokens in zip(trace.gains, trace.tokens, strict=True)
        ]


def read_traces(run_dir: Path) -> list[GateTrace]:
    """Every episode of a run that was gated; StoreError where one is not, or not finished."""
    folders = sorted(path for path in (run_dir / "episodes").glob("*") if path.is_dir())
    return [trace_of(folder.name, iter_events(folder)) for folder in folders]


def trace_of(episode: str, events: Iterable[Event]) -> GateTrace:
    """An episode's decisions from its events; StoreError as `read_traces`."""
    gates: list[Gated] = []
    progression: list[float] = []
    tokens: dict[int, int] = {}
    is_ended = False
    for event in events:
        match event:
            case Observed():
                progression.append(event.outcome.progression)
            case Gated():
                gates.append(event)
            case Turn():
                spent = event.prompt_tokens + event.completion_tokens
                tokens[event.step] = tokens.get(event.step, 0) + spent
            case Ended():
                is_ended = True
    if is_ended and len(progression) == len(gates):  # the player failed: no answer to its last step
        progression = [*progression, *progression[-1:]]
    if not is_ended or not gates or len(progression) != len(gates) + 1:
        raise StoreError(
            f"episode {episode} is no finished gated episode ({len(gates)} decisions, "
            f"{len(progression)} observations): play it with agent.gate=always or another rule"
        )
    return GateTrace(
        episode=episode,
        features=[gate.features for gate in gates],
        actions=[(_index(gate.log), _index(gate.consult)) for gate in gates],
        gains=[after - before for before, after in pairwise(progression)],
        tokens=[tokens.get(gate.step, 0) for gate in gates],
        progression=progression[-1],
    )


def _index(depth: str) -> int:
    return DEPTHS.index(Depth(depth))


def mean_tokens(traces: Sequence[GateTrace]) -> float:
    """Tokens per step over all of them."""
    return sum(sum(trace.tokens) for trace in traces) / sum(len(t.tokens) for t in traces)


def shares(traces: Sequence[GateTrace], routine: int) -> tuple[float, float, float]:
    """Shares of skip, brief, full among the decisions about LOG (0) or consulting (1)."""
    counts = [0, 0, 0]
    for trace in traces:
        for action in trace.actions:
            counts[action[routine]] += 1
    total = sum(counts)
    return counts[0] / total, counts[1] / total, counts[2] / total
