"""What a structure loop declares before its first look, and the order of its attempts.

A revision is made of *waves*: fresh attempts that are raced together, then continuations, each
alone and shown what became of an attempt before it. At most one contender of a wave is confirmed,
so the confirmations that a loop could ask for are known beforehand; K may be smaller, then the loop
ends when it is used up.
"""

from collections.abc import Iterator

import msgspec

from automem.errors import UsageError
from automem.loops.gate import Rule


class Smoke(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The first episodes of a contender, before any is raced: does it run at all?"""

    episodes: int = 2
    """0: no such episodes."""
    steps: int = 30
    """Game actions of each; 0: to the end."""

    def __post_init__(self) -> None:
        if self.episodes < 0 or self.steps < 0:
            raise UsageError(
                f"episodes and steps must be 0 or more, got {self.episodes} and {self.steps}"
            )


class Wave(msgspec.Struct, frozen=True):
    """Contenders that are raced together."""

    revision: int
    name: str
    """Of its folder, such as `wave-1`."""
    slots: tuple[str, ...]
    """What its nodes fill in the lineage."""
    is_continuation: bool = False

    @property
    def title(self) -> str:
        return f"revision {self.revision}, {self.name.replace('-', ' ')}"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """See the module's docstring."""

    rule: Rule
    revisions: int = 5
    attempts: int = 3
    """Fresh ones per revision."""
    continuations: int = 1
    """Per revision, once every fresh attempt has failed."""
    at_once: int = 3
    """Fresh attempts that are raced together; the rest of a revision's only where these failed."""
    study: int = 32
    """Episodes that a champion plays for its reviewer, on `train` seeds."""
    smoke: Smoke = Smoke()
    seed: int = 0
    """Of racing's and the gate's draws, and of reviewers that draw."""
    allow_hooks: bool = False
    """Whether a revision may bring code."""

    def __post_init__(self) -> None:
        for name, least in (("revisions", 1), ("attempts", 1), ("continuations", 0), ("study", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not 1 <= self.at_once <= self.attempts:
            raise UsageError(
                f"at_once must be from 1 to attempts ({self.attempts}), got {self.at_once}"
            )
        if self.at_once > 1 and not self.rule.race:
            raise UsageError("attempts at once need a race to choose between them: set gate.race")

    @property
    def most_confirmations(self) -> int:
        """What the attempts could ask for: one a wave."""
        return self.revisions * sum(1 for _ in self.waves(1))

    def waves(self, revision: int) -> Iterator[Wave]:
        """Those of one revision, in their order."""
        for number, first in enumerate(range(0, self.attempts, self.at_once), 1):
            last = min(first + self.at_once, self.attempts)
            slots = tuple(f"revision {revision}, attempt {n + 1}" for n in range(first, last))
            yield Wave(revision, f"wave-{number}", slots)
        for number in range(1, self.continuations + 1):
            slot = f"revision {revision}, continuation {number}"
            yield Wave(revision, f"continuation-{number}", (slot,), is_continuation=True)
