"""NetHack as a world of text: the game of `NetHackChallenge-v0`, words in and words out.

Promise: deterministic given seed and actions, in any process; every advertised action can be
executed; `--More--` never waits for the agent; progression is the published figure for the deepest
dungeon level and the highest experience level so far, and never falls. An episode is restored by
replaying its actions. It ends when the game does, after `max_steps` actions, or after
`no_progress_steps` actions in a row that did not move the game's turn counter.
"""

import string
from typing import Any

import gymnasium

from automem.errors import UsageError
from automem_envs.nethack.installed import require_nle
from automem_envs.nethack.keys import ESCAPE, GRAMMAR, keys_for
from automem_envs.nethack.progression import progression
from automem_envs.text_world import checked_cap, quoted

PUBLISHED_MAX_STEPS = 100_000
PUBLISHED_NO_PROGRESS = 150
_DEPTH, _EXPERIENCE, _TURN, _SCORE = 12, 18, 20, 9

INSTRUCTION = f"""\
This is NetHack. Go as deep into the dungeon, and become as experienced, as you can, and stay alive:
each new dungeon level and experience level counts, the deepest and highest reached. You are the @
on the map under the cursor.

The observation shows: what the game says; what is around, with distance in steps and direction
(tame and peaceful creatures are called so); the cursor; the map; what you carry; your status. On
the map . is floor, # a corridor or a sink, | and - walls or open doors, + a closed door or a
spellbook, < and > stairs up and down, letters are creatures, and other signs are objects.

Actions: {GRAMMAR}.
Some commands ask for more: give the letter of a thing you carry, a direction, y or n. `far north`
and the like run until something interesting comes. Walk into hostile creatures to fight them.
`travel`, then `>`, then `wait` goes to known stairs. `esc` leaves a question unanswered; `more`
confirms a menu. An answer that is no action leaves questions unanswered, like `esc`."""


class NetHackWorld(gymnasium.Env[str, str]):
    """See the module's docstring; implements `automem.world.World`.

    `info`: `progression`; `depth`, `experience_level`, `turn` and `score` now; `invalid_action`
    after an answer that is no action; `stop` at the end, in words, such as `died: killed by a
    newt`. The reward is the change in the game's score."""

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 - Gymnasium's own declaration

    def __init__(
        self,
        max_steps: int = PUBLISHED_MAX_STEPS,
        no_progress_steps: int = PUBLISHED_NO_PROGRESS,
        shows_ways: bool = False,
    ) -> None:
        """`shows_ways`: add which of the eight directions are passable, blocked or dangerous."""
        if no_progress_steps < 1:
            raise UsageError("nethack: `no_progress_steps` must be at least 1")
        require_nle()
        from automem_envs.nethack.glyphs import names

        self.max_steps = checked_cap(max_steps)
        self.no_progress_steps = no_progress_steps
        self.actions = GRAMMAR
        self.fallback_action = "esc"
        self.instruction = INSTRUCTION
        self.vocabulary: tuple[str, ...] = names()
        self.action_space = gymnasium.spaces.Text(200, charset=string.printable)
        self.observation_space = gymnasium.spaces.Text(20_000, charset=string.printable)
        self._shows_ways = shows_ways
        self._is_on = self._is_open = False
        self._open()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start the game of `seed`, which is both of NetHack's seeds."""
        super().reset(seed=seed)
        if seed is None:
            seed = int(self.np_random.integers(2**31 - 1))
        if not self._is_open:
            self._open()
        self._game.start(seed)
        self._view.reset()
        self._is_on = True
        self._steps = self._still = 0
        self._turn = self._score = 0
        self._info: dict[str, Any] = {"progression": 0.0}
        self._measure()
        return self._view.observe(), dict(self._info)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """One action in words. Anything that is not one executes the fallback."""
        if not self._is_on:
            raise gymnasium.error.ResetNeeded("call reset before the first step")
        keys = keys_for(action, self._game.prompt)
        self._game.press((ESCAPE,) if keys is None else keys)
        self._steps += 1
        before = self._score
        notice = ""
        if keys is None:
            notice = f'"{quoted(action)}" is not an action here; esc was done instead.'
        if self._game.is_over:
            return self._ended(notice, keys is None)
        self._measure()
        stop = ""
        if self._still >= self.no_progress_steps:
            stop = f"no progress: the game's turn did not change for {self._still} actions"
        elif self._steps >= self.max_steps:
            stop = "cap"
        info = dict(self._info)
        if keys is None:
            info["invalid_action"] = True
        if stop:
            info["stop"] = stop
            self._is_on = False
        return self._view.observe(notice), float(self._score - before), False, bool(stop), info

    def close(self) -> None:
        """Free the game; `reset` makes another."""
        self._is_on = False
        if self._is_open:
            self._is_open = False
            self._game.close()

    def _open(self) -> None:
        from automem_envs.nethack.game import Game
        from automem_envs.nethack.view import View

        self._game = Game.new()
        self._view = View(self._game, self._shows_ways)
        self._is_open = True

    def _measure(self) -> None:
        """Read off what `info` tells."""
        numbers = self._game.standing
        turn, depth, level = numbers[_TURN], numbers[_DEPTH], numbers[_EXPERIENCE]
        self._still = 0 if turn != self._turn else self._still + 1
        self._turn, self._score = turn, numbers[_SCORE]
        self._info = {
            "progression": max(self._info["progression"], progression(depth, level)),
            "depth": depth,
            "experience_level": level,
            "turn": turn,
            "score": self._score,
        }

    def _ended(
        self, notice: str, is_invalid: bool
    ) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """The last observation. The game has no screen any more, only what it said; what the last
        action reached counts, also where a fall and death came in one."""
        self._is_on = False
        before = self._score
        self._measure()
        deepest = progression(self._game.deepest_level, self._info["experience_level"])
        info = {**self._info, "stop": self._game.end}
        info["progression"] = max(info["progression"], deepest)
        if self._game.has_ascended:
            info["progression"] = 1.0
        if is_invalid:
            info["invalid_action"] = True
        lines = [notice] if notice else []
        lines += [f"message:\n{self._game.message or 'none'}", f"the game is over: {info['stop']}"]
        reward = float(self._score - before)
        return "\n".join(lines), reward, True, False, info
