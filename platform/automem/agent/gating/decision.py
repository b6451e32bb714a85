"""The gate's protocol: what it is asked, what it answers, and how a fixed rule is set up."""

from enum import StrEnum
from typing import Protocol

import msgspec

from automem.errors import UsageError


class Depth(StrEnum):
    """How much of a routine is done."""

    SKIP = "skip"
    """Nothing: no model call."""
    BRIEF = "brief"
    """One model call at most."""
    FULL = "full"
    """As many as the scaffold allows."""

    def turns(self, most: int) -> int:
        """Model calls that this allows where the scaffold allows `most`."""
        return {Depth.SKIP: 0, Depth.BRIEF: min(1, most), Depth.FULL: most}[self]


DEPTHS = tuple(Depth)
"""In the order of a learned gate's choices: 0 skip, 1 brief, 2 full."""


class Decision(msgspec.Struct, frozen=True):
    """What a step may spend on memory. The commit, and the terminal LOG, are not the gate's."""

    log: Depth
    """LOG of what the last action did."""
    consult: Depth
    """The consulting half of PLAN."""


EVERYTHING = Decision(Depth.FULL, Depth.FULL)
NOTHING = Decision(Depth.SKIP, Depth.SKIP)


class Question(msgspec.Struct, frozen=True):
    """What a gate may look at. A decision is a pure function of it."""

    step: int
    seed: int
    """Of this step: all the randomness that there is."""
    features: tuple[float, ...]
    """`automem.agent.gating.features.NAMES` says which."""


class MemoryGate(Protocol):
    """Decides; keeps nothing between calls, so that a resumed episode is decided alike."""

    @property
    def name(self) -> str:
        """For the trace: the rule, or `gate@` and the digest of a learned gate's file."""
        ...

    def decide(self, question: Question) -> Decision:
        """What this step may spend. Whatever it raises, the session goes on without a gate."""
        ...


class GateOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How fixed rules are set up; a learned gate has no options."""

    every: int = 4
    """`every_k`: all memory work at each so-manieth step, none between."""
    novelty: float = 0.0
    """`on_change`: how much of the observation's changed lines must not have been seen in recent
    steps, from 0 (any change) to 1."""
    log: tuple[float, float, float] = (0.5, 0.0, 0.5)
    """`random`: shares of steps whose LOG is skipped, brief, full."""
    consult: tuple[float, float, float] = (0.5, 0.0, 0.5)
    """The same for consulting."""

    def __post_init__(self) -> None:
        if self.every < 1:
            raise UsageError(f"agent.gating.every must be at least 1, got {self.every}")
        if not 0.0 <= self.novelty <= 1.0:
            raise UsageError(f"agent.gating.novelty must lie in [0, 1], got {self.novelty:g}")
        for name, shares in (("log", self.log), ("consult", self.consult)):
            if min(shares) < 0.0 or abs(sum(shares) - 1.0) > 1e-3:
                raise UsageError(
                    f"agent.gating.{name} must be three shares that sum to 1 (skip, brief, full), "
                    f"got {list(shares)}"
                )
