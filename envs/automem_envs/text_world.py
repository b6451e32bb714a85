"""What most worlds of text share: seeds, the fallback, the cap, rewards without shaping.

A subclass says how an episode begins (`begin`), what an action means (`read`) and what comes of it
(`play`). This class does the rest of the contract of `automem.world`: an action that `read` does
not know executes `fallback_action` and the next observation says so first; `max_steps` actions end
the episode; the reward is the rise of progression and nothing else. Deterministic where the
subclass draws everything from the seed that `begin` gets. Not covered: snapshots; an episode is
restored by replaying its actions.
"""

import string
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import gymnasium

from automem.errors import UsageError

Move = TypeVar("Move")

_QUOTED = 60
"""Characters of an invalid action that the observation repeats."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a world shows after an action."""

    text: str
    progression: float
    """In [0, 1]."""
    is_over: bool = False
    stop: str = ""
    """Why it is over, in words; `TextWorld` says `cap` where nothing else is said."""
    info: dict[str, Any] = field(default_factory=dict)
    """More to keep in the trace: small, JSON."""
    is_cut: bool = False
    """Over by a limit of its own, not by what happened in it."""


class TextWorld(gymnasium.Env[str, str], ABC, Generic[Move]):
    """See the module's docstring; implements `automem.world.World`."""

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 - Gymnasium's own declaration
    actions: tuple[str, ...] | str
    fallback_action: str
    instruction: str

    def __init__(self, max_steps: int) -> None:
        """UsageError where the cap leaves no action."""
        self.max_steps = checked_cap(max_steps)
        self.action_space = gymnasium.spaces.Text(200, min_length=0, charset=string.printable)
        self.observation_space = gymnasium.spaces.Text(100_000, charset=string.printable)
        self._steps = 0
        self._progression = 0.0
        self._is_over = True

    @abstractmethod
    def begin(self, seed: int) -> Seen:
        """Set up the episode of `seed`; what is seen before the first action."""

    @abstractmethod
    def read(self, action: str) -> Move | None:
        """What an action (without space around it) asks for here and now; None where nothing."""

    @abstractmethod
    def play(self, move: Move) -> Seen:
        """Do it."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start the episode of `seed`; without one, the next seed of the world's own stream."""
        super().reset(seed=seed)
        if seed is None:
            seed = int(self.np_random.integers(2**31 - 1))
        seen = self.begin(seed)
        self._steps, self._progression, self._is_over = 0, seen.progression, False
        return seen.text, {"progression": seen.progression, **seen.info}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """One action in words."""
        if self._is_over:
            raise gymnasium.error.ResetNeeded("the episode is over: call reset first")
        move = self.read(action.strip())
        is_invalid = move is None
        if move is None:
            move = self.read(self.fallback_action)
            assert move is not None, "the fallback must be an action wherever the episode stands"
        seen = self.play(move)
        self._steps += 1
        is_capped = not seen.is_over and self._steps >= self.max_steps
        is_cut = seen.is_cut or is_capped
        self._is_over = seen.is_over or is_cut
        reward, self._progression = seen.progression - self._progression, seen.progression
        info = {"progression": seen.progression, **seen.info}
        if is_invalid:
            info["invalid_action"] = True
        if self._is_over:
            info["stop"] = seen.stop or ("cap" if is_cut else "")
        text = self._told_invalid(action) + seen.text if is_invalid else seen.text
        return text, reward, seen.is_over and not is_cut, is_cut, info

    def _told_invalid(self, action: str) -> str:
        return f'"{quoted(action)}" is no action here; {self.fallback_action} was done instead.\n'


def checked_cap(max_steps: int) -> int:
    """UsageError where a cap is no whole number from 1 on."""
    if isinstance(max_steps, bool) or not isinstance(max_steps, int) or max_steps < 1:
        raise UsageError(f"`max_steps` must be a whole number from 1 on, got {max_steps!r}")
    return max_steps


def quoted(answer: str) -> str:
    """Any text as one short printable line without double quotes."""
    line = " ".join(answer[: 4 * _QUOTED].split())
    line = "".join(sign if sign in string.printable and sign != '"' else "?" for sign in line)
    return line if len(line) <= _QUOTED else line[: _QUOTED - 3] + "..."


__all__ = ["Seen", "TextWorld", "checked_cap", "quoted"]
