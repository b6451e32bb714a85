"""Facts to be planted, deleted and asked for; and the stores in which they are.

A world's own `FactSource` (plugged in by `_target_`) says what a fact is there: a line of memory, a
question that the line answers, the other ways in which a store may hold it, and what is near it.
The variants are those of arXiv 2607.00605: the fact alone, beside an alias, among noise, beside
near neighbours that collide with it.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

import msgspec

from automem.trace.events import Outcome


class Variant(StrEnum):
    """What stands in memory beside the fact."""

    BASE = "base"
    """Nothing."""
    ALIAS = "alias"
    """The same fact in another wording and in another file: a deletion of the line misses both."""
    NOISE = "noise"
    """Lines that have nothing to do with it."""
    COLLISION = "collision"
    """Near neighbours: lines of the same shape that say something else of the same things."""


class Kind(StrEnum):
    """What a planted line is."""

    DIRECT = "direct"
    ALIAS = "alias"
    NOISE = "noise"
    COLLISION = "collision"


class Condition(StrEnum):
    """What is done to the store before the question; the model is held fixed."""

    FULL = "FULL"
    """Nothing."""
    DEL_ON = "DEL-ON"
    """The fact's line is deleted; the agent may retrieve."""
    DEL_OFF = "DEL-OFF"
    """The same, and nothing can be retrieved: memory is off."""


class Line(NamedTuple):
    """A line of memory."""

    file: str
    text: str


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """One fact of a world."""

    name: str
    """Names it in results, for example `concentration-40-17`."""
    question: str
    """The observation in which it is needed."""
    outcome: Outcome
    answer: str
    """The action of one who knows it."""
    chance: float
    """Probability that one who knows nothing gives the answer."""
    direct: Line
    alias: tuple[Line, ...]
    noise: tuple[Line, ...]
    collision: tuple[tuple[Line, str], ...]
    """Near neighbours, each with the action of one who takes it for the fact; empty: none."""
    cue: str
    """What a memory turn says before the fact's symbol, and `symbols[truth]` after it."""
    symbols: tuple[str, ...]
    """Everything that could stand there, the same for all facts of a source."""
    truth: int
    ending: str = ""
    """What ends such a turn."""

    def planted(self, variant: Variant) -> list[tuple[Kind, Line]]:
        """What the store holds, the fact's own line in the middle."""
        beside = {
            Variant.BASE: [],
            Variant.ALIAS: [(Kind.ALIAS, line) for line in self.alias],
            Variant.NOISE: [(Kind.NOISE, line) for line in self.noise],
            Variant.COLLISION: [(Kind.COLLISION, line) for line, _ in self.collision],
        }[variant]
        middle = len(beside) // 2
        return [*beside[:middle], (Kind.DIRECT, self.direct), *beside[middle:]]

    @property
    def completion(self) -> str:
        """A memory turn that says it."""
        return f"{self.cue}{self.symbols[self.truth]}{self.ending}"


class FactSource(Protocol):
    """Who knows the facts of a world."""

    world: str
    instruction: str
    fallback_action: str
    max_steps: int

    def facts(self, seed: int) -> Sequence[Fact]:
        """Every fact of the world of this seed; the same symbols and as many of them for all."""
        ...

    def moment(self, seed: int) -> tuple[str, str, Outcome, str, Outcome]:
        """A first observation, an action and what follows, in the world of another seed: a memory
        turn about that shows the model nothing of the facts."""
        ...
