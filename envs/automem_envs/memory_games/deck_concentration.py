"""POPGym's Concentration as text: whole decks face down, any two cards of one rank are a pair.

Rules and horizon are POPGym's (about two flips a card); progression is the share of cards matched.
The embedded game, `automem_envs.concentration`, differs: its ranks come in single pairs.
"""

import re

from automem.errors import UsageError
from automem_envs.concentration.ranks import card_name
from automem_envs.memory_games.cards import CARDS_OF_DECK, COLOURS, RANKS, check_decks
from automem_envs.memory_games.package import game_of
from automem_envs.text_world import Seen, TextWorld

_FLIP = re.compile(r"flip\s+([0-9]{1,9}|next)", re.IGNORECASE)
_LOWEST = -1


class DeckConcentrationWorld(TextWorld[int]):
    """See the module's docstring."""

    def __init__(self, decks: int = 1, kind: str = "ranks") -> None:
        """POPGym's sizes: easy 1 deck and colors, medium 2 and colors, hard 1 and ranks."""
        names = {"colors": COLOURS, "ranks": RANKS}
        check_decks("deck_concentration", decks)
        if kind not in names:
            raise UsageError(
                f"deck_concentration: `kind` must be one of {', '.join(names)}, got {kind}"
            )
        self._game = game_of("popgym.envs.concentration", "Concentration")(decks, kind)
        super().__init__(max_steps=self._game.episode_length)
        self._names = names[kind]
        self.cards = CARDS_OF_DECK * decks
        self.actions = "flip NUMBER; or flip next, the lowest card that lies face down"
        self.fallback_action = "flip next"
        self.instruction = (
            f"{self.cards} cards lie face down. Two flips make a turn: two cards of one kind stay "
            "face up, others are turned down again. Flipping a card that is already face up wastes "
            "the turn. Find all pairs."
        )
        self._pending: int | None = None
        self._up: set[int] = set()

    def begin(self, seed: int) -> Seen:
        self._game.reset(seed=seed)
        self._pending = None
        self._up = set()
        return Seen(f"New deck.\n{self._board()}", 0.0)

    def read(self, action: str) -> int | None:
        found = _FLIP.fullmatch(action)
        if found is None:
            return None
        if found[1].lower() == "next":
            return _LOWEST
        card = int(found[1]) - 1
        return card if 0 <= card < self.cards else None

    def play(self, move: int) -> Seen:
        card = self._lowest() if move == _LOWEST else move
        table, reward, is_over, _, _ = self._game.step(card)
        name = self._names[int(table[card])]
        if reward > 0:
            assert self._pending is not None
            self._up |= {card, self._pending}
            event = "match"
        elif card in self._up:
            event = "was face up already"
        else:
            event = "first" if self._pending is None else "miss"
        self._pending = card if event == "first" else None
        text = f"Card {card_name(card, self.cards)} is: {name}, {event}\n{self._board()}"
        progression = len(self._up) / self.cards
        return Seen(text, progression, is_over, "all pairs found" if is_over else "")

    def _lowest(self) -> int:
        taken = {*self._up, self._pending}
        return next(card for card in range(self.cards) if card not in taken)

    def _board(self) -> str:
        pending = "none" if self._pending is None else card_name(self._pending, self.cards)
        down = [
            card for card in range(self.cards) if card not in self._up and card != self._pending
        ]
        return f"Open: {pending}\nFace down: {_runs(down, self.cards) or 'none'}"


def _runs(cards: list[int], of: int) -> str:
    """Numbers, three and more in a row as `05-17`."""
    runs: list[list[int]] = []
    for card in cards:
        if runs and runs[-1][-1] == card - 1:
            runs[-1].append(card)
        else:
            runs.append([card])
    words = []
    for run in runs:
        if len(run) > 2:
            words.append(f"{card_name(run[0], of)}-{card_name(run[-1], of)}")
        else:
            words += [card_name(card, of) for card in run]
    return " ".join(words)
