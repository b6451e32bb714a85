"""Crafter as a world of text: 17 actions in words, what is near in words, 22 achievements.

Promise: deterministic given seed and actions, in any process; never draws a picture; progression
is the share of achievements unlocked and never falls. The dynamics are Crafter's own
(`simulation`). Not covered: snapshots; an episode is restored by replaying its actions.
"""

import string
from typing import Any

import gymnasium

from automem_envs.crafter.rules import (
    ACHIEVEMENTS,
    ACTIONS,
    FALLBACK_ACTION,
    PUBLISHED_MAX_STEPS,
    VOCABULARY,
    action_number,
    instruction,
)
from automem_envs.crafter.scan import look
from automem_envs.crafter.sight import write_sight
from automem_envs.crafter.simulation import Simulation
from automem_envs.text_world import checked_cap

_INVALID_SHOWN = 60
"""Characters of an invalid action that the observation repeats."""


class CrafterWorld(gymnasium.Env[str, str]):
    """See the module's docstring; implements `automem.world.World`.

    `info`: `progression` in [0, 1]; `achievements`, names unlocked by this step; `invalid_action`
    (True) after an answer that is no action; `stop` at the end: `died` or `cap`. The reward is
    Crafter's: 1 where something was unlocked, plus a tenth of the change in health."""

    def __init__(self, max_steps: int = PUBLISHED_MAX_STEPS) -> None:
        self.max_steps = checked_cap(max_steps)
        self.actions: tuple[str, ...] = ACTIONS
        self.fallback_action = FALLBACK_ACTION
        self.instruction = instruction()
        self.vocabulary: tuple[str, ...] = VOCABULARY
        self.action_space = gymnasium.spaces.Text(200, charset=string.printable)
        self.observation_space = gymnasium.spaces.Text(4000, charset=string.printable)
        self._simulation: Simulation | None = None
        self._is_over = True
        self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start the episode of `seed`; without one, the next seed of the world's own stream."""
        super().reset(seed=seed)
        if seed is None:
            seed = int(self.np_random.integers(2**31 - 1))
        self._simulation = Simulation(seed, length=self.max_steps)
        self._simulation.reset()
        self._is_over = False
        self._steps = 0
        return write_sight(look(self._simulation)), {"progression": 0.0, "achievements": []}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """One action in words. Anything that is not one executes the fallback."""
        simulation = self._simulation
        if simulation is None or self._is_over:
            raise gymnasium.error.ResetNeeded("the episode is over: call reset first")
        number = action_number(action)
        before = simulation.unlocked
        fallback = action_number(self.fallback_action)
        reward = simulation.step(fallback if number is None else number)[1]
        self._steps += 1
        unlocked = simulation.unlocked
        is_dead = simulation.hero.health <= 0
        is_cut = not is_dead and self._steps >= self.max_steps
        self._is_over = is_dead or is_cut
        info: dict[str, Any] = {
            "progression": len(unlocked) / len(ACHIEVEMENTS),
            "achievements": sorted(unlocked - before),
        }
        if number is None:
            info["invalid_action"] = True
        if is_dead or is_cut:
            info["stop"] = "died" if is_dead else "cap"
        invalid = _quoted(action) if number is None else None
        text = write_sight(look(simulation, invalid))
        return text, float(reward), is_dead, is_cut, info

    def close(self) -> None:
        """Forget the episode."""
        self._simulation = None


def _quoted(answer: str) -> str:
    """An invalid answer as one short printable line."""
    line = " ".join(answer.split())
    line = "".join(sign if sign in string.printable and sign != '"' else "?" for sign in line)
    return line if len(line) <= _INVALID_SHOWN else line[: _INVALID_SHOWN - 3] + "..."
