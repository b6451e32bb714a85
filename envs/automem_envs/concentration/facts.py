"""Facts of Concentration for `automem audit`: which rank a card has.

A fact is a line such as `17 horse`. The question is the board after the card's mate was flipped:
who knows the fact flips 17, who does not has one chance in as many as there are cards down.
Implements `automem.audit.facts.FactSource`.
"""

import random
from collections.abc import Sequence

from automem.audit.facts import Fact, Line
from automem.seeds import derive
from automem.trace.events import Outcome
from automem_envs.concentration.view import read_board
from automem_envs.concentration.world import ConcentrationWorld

NOISE_LINES = 12


class ConcentrationFacts:
    """See the module's docstring."""

    def __init__(
        self, cards: int = 40, file: str = "cards.txt", other_file: str = "notes.txt"
    ) -> None:
        """`file` is where the scaffold keeps cards, `other_file` one that it has besides."""
        made = ConcentrationWorld(cards)
        self.world = "concentration"
        self.instruction = made.instruction
        self.fallback_action = made.fallback_action
        self.max_steps = made.max_steps
        self._cards = cards
        self._file, self._other = file, other_file

    def facts(self, seed: int) -> Sequence[Fact]:
        """One for each card."""
        deck = self._deck(seed)
        symbols = tuple(sorted(set(deck.values())))
        return [self._fact(seed, card, deck, symbols) for card in sorted(deck)]

    def moment(self, seed: int) -> tuple[str, str, Outcome, str, Outcome]:
        """The opening of that seed's game."""
        world = ConcentrationWorld(self._cards)
        first, _ = world.reset(seed=seed)
        card = random.Random(derive("moment", seed)).choice(read_board(first).down)
        second, reward, _, _, info = world.step(f"flip {card}")
        after = Outcome(progression=info["progression"], reward=reward, action=f"flip {card}")
        return first, f"flip {card}", Outcome(progression=0.0), second, after

    def _deck(self, seed: int) -> dict[str, str]:
        """Card to rank, by looking at every card of the deck."""
        deck: dict[str, str] = {}
        for number in range(self._cards):
            world = ConcentrationWorld(self._cards)
            world.reset(seed=seed)
            board = read_board(world.step(f"flip {number + 1}")[0])
            deck[board.card] = board.rank
        return deck

    def _fact(self, seed: int, card: str, deck: dict[str, str], symbols: tuple[str, ...]) -> Fact:
        rank = deck[card]
        mate = next(other for other in deck if other != card and deck[other] == rank)
        world = ConcentrationWorld(self._cards)
        world.reset(seed=seed)
        question, reward, _, _, info = world.step(f"flip {mate}")
        chooser = random.Random(derive("facts", seed, card))
        others = [other for other in deck if deck[other] != rank]
        chooser.shuffle(others)
        stranger = others[0]
        return Fact(
            name=f"{self.world}-{seed}-{card}",
            question=question,
            outcome=Outcome(progression=info["progression"], reward=reward, action=f"flip {mate}"),
            answer=f"flip {card}",
            chance=1 / (self._cards - 1),
            direct=Line(self._file, f"{card} {rank}"),
            alias=(
                Line(self._file, f"{rank} {card}"),
                Line(self._other, f"{card} {rank}"),
            ),
            noise=tuple(
                Line(self._file, f"{other} {deck[other]}") for other in others[1 : NOISE_LINES + 1]
            ),
            collision=(
                (Line(self._file, f"{stranger} {rank}"), f"flip {stranger}"),
                (Line(self._file, f"{card} {deck[stranger]}"), ""),
            ),
            cue=f"<|APPEND|>{self._file}|{card}",
            symbols=tuple(f" {symbol}" for symbol in symbols),
            truth=symbols.index(rank),
            ending="<|END|><|DONE|>",
        )
