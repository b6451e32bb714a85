"""The world contract: what an environment must be for an agent with memory to play it.

A world is a Gymnasium `Env` whose observations and actions are text. `World` below is a Protocol:
nothing has to be inherited. It must be deterministic given the seed and the actions, so that a
killed episode can be replayed; an invalid action executes `fallback_action`, and the next
observation says so.

`info`, returned by `reset` and `step`, holds at least `progression` (float in [0, 1]); after an
invalid action also `invalid_action` (True). Everything else in it must be JSON and small; it is
kept in the trace. `info["stop"]` may name why a terminated episode ended, in words.

A world may have a `vocabulary`: words of its own beyond instruction and actions, such as the names
in its data files. Passages of a scaffold that speak in them are taken for knowledge of the task.
"""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class World(Protocol):
    """See the module's docstring."""

    actions: tuple[str, ...] | str
    """Every valid action, or a sentence that gives their grammar."""
    fallback_action: str
    """Executed where the agent gives none, or an invalid one. Itself valid."""
    instruction: str
    """What the agent is told about the game: static text, the same for every seed."""
    max_steps: int
    """Cap on the number of actions; reaching it ends the episode with what it has."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start an episode; the first observation and its info."""
        ...

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Gymnasium's (observation, reward, terminated, truncated, info)."""
        ...

    def close(self) -> None:
        """Free what the world holds."""
        ...


def progression_of(info: Mapping[str, Any]) -> float:
    """`info["progression"]`, checked."""
    value = float(info["progression"])
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"progression must lie in [0, 1], got {value}")
    return value
