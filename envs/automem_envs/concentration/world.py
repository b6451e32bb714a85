"""Concentration: a deck of pairs lies face down, and only memory tells which card is where.

Two flips make a turn. The observation shows the present and nothing else: what the last flip
showed, whether it was the first of a pair, a match or a miss, which card lies open ("pending") and
which still lie face down. Progression is the share of pairs matched.

An illegal flip (a matched card, the open one, one that does not exist, anything that is no flip)
executes `flip next`: the lowest card that lies face down; the next observation says so. The deck is
a function of the seed. `max_steps` flips (twice the cards unless said) end the episode.
"""

import random
import re
import string
from typing import Any

import gymnasium
from gymnasium.spaces import Text

from automem.errors import UsageError
from automem.seeds import derive
from automem_envs.concentration.ranks import MAX_CARDS, card_name, rank_names
from automem_envs.text_world import checked_cap

LISTED_CARDS = 100
"""Boards of more cards are shown as runs (`0001-0417`): the list alone would fill a context."""

_FLIP = re.compile(r"flip\s+([0-9]+|next)", re.IGNORECASE)


class ConcentrationWorld(gymnasium.Env[str, str]):
    """See the module's docstring; implements `automem.world.World`."""

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 - Gymnasium's own declaration

    def __init__(self, cards: int = 40, max_steps: int | None = None) -> None:
        if cards % 2 or not 2 <= cards <= MAX_CARDS:
            raise UsageError(
                f"concentration: `cards` must be even, from 2 to {MAX_CARDS}, got {cards}"
            )
        self.cards = cards
        self.max_steps = checked_cap(2 * cards if max_steps is None else max_steps)
        self.actions = "flip NUMBER, for a card that lies face down; or flip next, the lowest"
        self.fallback_action = "flip next"
        self.instruction = "find pairs of cards"
        self.action_space = Text(max_length=64, min_length=0, charset=string.printable)
        self.observation_space = Text(max_length=64 + 8 * cards, charset=string.printable)
        self._ranks: list[str] = []
        self._down: list[bool] = []
        self._pending: int | None = None
        self._pairs = 0
        self._steps = 0
        self._is_over = True

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Shuffle and lay out the deck."""
        super().reset(seed=seed)
        if seed is None:
            seed = int(self.np_random.integers(2**31))
        shuffler = random.Random(derive("concentration", seed, self.cards))
        pairs = self.cards // 2
        self._ranks = 2 * shuffler.sample(rank_names(pairs), pairs)
        shuffler.shuffle(self._ranks)
        self._down = [True] * self.cards
        self._pending = None
        self._pairs = self._steps = 0
        self._is_over = False
        return self._observe("new deck"), {"progression": 0.0, "pairs": 0}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Flip a card; reward is the share of pairs that this flip matched."""
        if self._is_over:
            raise gymnasium.error.ResetNeeded("the episode is over: call reset first")
        asked = self._read(action)
        card = self._down.index(True) if asked is None else asked
        before = self._pairs
        text = f"{self._name(card)} shows {self._ranks[card]} {self._flip(card)}"
        if asked is None:
            text = f"illegal flip\n{text}"
        self._steps += 1
        is_solved = 2 * self._pairs == self.cards
        is_cut = not is_solved and self._steps >= self.max_steps
        self._is_over = is_solved or is_cut
        info = self._info(is_invalid=asked is None, is_cut=is_cut)
        reward = 2 * (self._pairs - before) / self.cards
        return self._observe(text), reward, is_solved, is_cut, info

    def _read(self, action: str) -> int | None:
        """The card that a legal action names, else None."""
        match = _FLIP.fullmatch(action.strip())
        if match is None:
            return None
        if match[1].lower() == "next":
            return self._down.index(True)
        # A number of thousands of digits is no card; int() would refuse or take long.
        card = int(match[1]) - 1 if len(match[1]) < 10 else -1
        return card if 0 <= card < self.cards and self._down[card] else None

    def _flip(self, card: int) -> str:
        """Turn a face-down card over: `first` of a pair, `match` or `miss`."""
        self._down[card] = False
        if self._pending is None:
            self._pending = card
            return "first"
        pending, self._pending = self._pending, None
        if self._ranks[pending] == self._ranks[card]:
            self._pairs += 1
            return "match"
        self._down[card] = self._down[pending] = True
        return "miss"

    def _name(self, card: int) -> str:
        return card_name(card, self.cards)

    def _observe(self, event: str) -> str:
        pending = "none" if self._pending is None else self._name(self._pending)
        return f"{event}\npending {pending}\ndown {self._board()}"

    def _board(self) -> str:
        """The face-down cards: each by itself on boards of up to `LISTED_CARDS`, else in runs."""
        down = [card for card, is_down in enumerate(self._down) if is_down]
        if not down:
            return "none"
        if self.cards <= LISTED_CARDS:
            return " ".join(self._name(card) for card in down)
        runs: list[list[int]] = []
        for card in down:
            if runs and runs[-1][1] == card - 1:
                runs[-1][1] = card
            else:
                runs.append([card, card])
        return " ".join(
            self._name(a) if a == b else f"{self._name(a)}-{self._name(b)}" for a, b in runs
        )

    def _info(self, is_invalid: bool, is_cut: bool) -> dict[str, Any]:
        info: dict[str, Any] = {
            "progression": 2 * self._pairs / self.cards,
            "pairs": self._pairs,
        }
        if is_invalid:
            info["invalid_action"] = True
        if is_cut:
            info["stop"] = "cap"
        return info


__all__ = ["LISTED_CARDS", "ConcentrationWorld"]
