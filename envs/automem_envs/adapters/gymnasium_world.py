"""Any Gymnasium environment whose observations are text, as a world.

Observations: text, or a mapping with a text under `text_key`. Actions: a `Text` space, or a
`Discrete` one with a name for each number. Progression: `info[progression_key]`, kept where a step
does not tell it (some tell it only at the end), or the sum of rewards between `returns` (what the
worst and the best episode earn); either in [0, 1].

Not covered: environments that are not deterministic given seed and actions; they play, but a
killed episode of theirs cannot be resumed, and the replay says so.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete, Text

from automem.errors import UsageError
from automem_envs.text_world import Seen, TextWorld


class GymnasiumWorld(TextWorld[Any]):
    """See the module's docstring."""

    def __init__(
        self,
        environment: str | gymnasium.Env[Any, Any],
        instruction: str,
        max_steps: int,
        arguments: Mapping[str, Any] | None = None,
        actions: Sequence[str] | str = "any text",
        fallback_action: str | None = None,
        text_key: str | None = None,
        progression_key: str | None = None,
        returns: tuple[float, float] | list[float] = (0.0, 1.0),
    ) -> None:
        """`environment`: a Gymnasium id (`module:id` imports the module first) or an environment;
        `arguments` go to `gymnasium.make`. `actions`: the names of a Discrete space in order, or
        a sentence that describes those of a Text space, which then needs a `fallback_action`."""
        super().__init__(max_steps)
        self._environment = _made(environment, arguments or {})
        self._text_key = text_key
        self._progression_key = progression_key
        self._worst, self._best = returns
        if self._best <= self._worst:
            raise UsageError(f"returns must be [worst, best] with worst < best, got {returns}")
        self.instruction = instruction
        self.actions = actions if isinstance(actions, str) else _checked_names(actions)
        self._numbers = self._named_actions()
        first = "" if isinstance(self.actions, str) else self.actions[0]
        self.fallback_action = fallback_action or first
        if self.read(self.fallback_action) is None:
            raise UsageError(
                f"fallback_action {self.fallback_action!r} is no action of {environment}: "
                f"expected one of {self.actions}"
            )
        self._return = 0.0
        self._told: float | None = None

    def begin(self, seed: int) -> Seen:
        observation, info = self._environment.reset(seed=seed)
        self._return, self._told = 0.0, None
        return Seen(self._text(observation), self._reached(info))

    def read(self, action: str) -> Any | None:
        if self._numbers is not None:
            return self._numbers.get(action.casefold())
        return action if action and self._environment.action_space.contains(action) else None

    def play(self, move: Any) -> Seen:
        observation, reward, is_over, is_cut, info = self._environment.step(move)
        self._return += float(reward)
        progression = self._reached(info)
        if is_over or is_cut:
            self._check_told(info)
        return Seen(
            self._text(observation),
            progression,
            is_over=bool(is_over or is_cut),
            is_cut=bool(is_cut and not is_over),
            stop=str(info.get("stop", "")),
        )

    def close(self) -> None:
        self._environment.close()

    def _named_actions(self) -> dict[str, Any] | None:
        """Names to numbers of a Discrete space; None for a Text space."""
        space = self._environment.action_space
        if isinstance(space, Text):
            return None
        if not isinstance(space, Discrete):
            raise UsageError(f"the action space must be Text or Discrete, got {space}")
        if isinstance(self.actions, str) or len(self.actions) != space.n:
            raise UsageError(
                f"`actions` must name the {space.n} actions of {space} in order, "
                f"got {self.actions!r}"
            )
        start = int(space.start)
        return {name.casefold(): np.int64(start + n) for n, name in enumerate(self.actions)}

    def _text(self, observation: Any) -> str:
        if self._text_key is not None:
            if not isinstance(observation, Mapping) or self._text_key not in observation:
                raise UsageError(f"the observation has no {self._text_key!r}: {observation!r:.200}")
            observation = observation[self._text_key]
        if not isinstance(observation, str):
            raise UsageError(
                f"the observation must be text, got {type(observation).__name__}; where it is a "
                "mapping, `text_key` names its text"
            )
        return observation

    def _reached(self, info: Mapping[str, Any]) -> float:
        if self._progression_key is None:
            value = (self._return - self._worst) / (self._best - self._worst)
        else:
            if self._progression_key in info:
                self._told = float(info[self._progression_key])
            value = self._told or 0.0
        return min(1.0, max(0.0, value))

    def _check_told(self, info: Mapping[str, Any]) -> None:
        """UsageError where the environment ended and never told its progression: a misspelt key
        would score 0. (One that our cap cut short may have meant to tell it at the end.)"""
        if self._progression_key is not None and self._told is None:
            raise UsageError(
                f"no step of the episode had the progression_key {self._progression_key!r}; the "
                f"last one's info has {sorted(map(str, info)) or 'nothing'}"
            )


def _checked_names(actions: Sequence[Any]) -> tuple[str, ...]:
    """Names that can be told apart and said. YAML reads some words as something else: `yes`."""
    seen: set[str] = set()
    for name in actions:
        if not isinstance(name, str):
            raise UsageError(f"actions: expected text, got {name!r}; write it in quotes")
        if not name or name != name.strip():
            raise UsageError(f"actions: expected a name without blanks around it, got {name!r}")
        if name.casefold() in seen:
            raise UsageError(f"actions: {name!r} is there twice (upper and lower case are alike)")
        seen.add(name.casefold())
    return tuple(actions)


def _made(
    environment: str | gymnasium.Env[Any, Any], arguments: Mapping[str, Any]
) -> gymnasium.Env[Any, Any]:
    """UsageError where there is no such id."""
    if not isinstance(environment, str):
        return environment
    if not environment:
        raise UsageError("gymnasium: say which environment: env.world.environment=ID")
    try:
        made: gymnasium.Env[Any, Any] = gymnasium.make(
            environment, disable_env_checker=True, **arguments
        )
    except (gymnasium.error.Error, ModuleNotFoundError) as error:
        raise UsageError(f"Gymnasium has no environment {environment!r}: {error}") from error
    return made
