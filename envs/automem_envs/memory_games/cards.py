"""Two card games of POPGym as text: RepeatPrevious and CountRecall.

The deck, the questions and what counts as right are POPGym's; the world says the cards in words
and scores the share of questions answered rightly. Nothing is revealed before the first action, so
that every card comes while the agent may write. `decks` sets the horizon: 52 cards each.
"""

from typing import Any

from automem.errors import UsageError
from automem_envs.memory_games.package import game_of
from automem_envs.text_world import Seen, TextWorld

NEXT = "next"
PASS = -1
"""An answer that is always wrong."""
COLOURS = ("black", "red")
SUITS = ("spades", "diamonds", "clubs", "hearts")
RANKS = (
    "ace",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "jack",
    "queen",
    "king",
)
"""Names in the order of POPGym's numbers."""
CARDS_OF_DECK = 52
MAX_DECKS = 1000


def check_decks(game: str, decks: int) -> None:
    """UsageError where there are too few or too many."""
    if not 1 <= decks <= MAX_DECKS:
        raise UsageError(f"{game}: `decks` must be from 1 to {MAX_DECKS}, got {decks}")


class RepeatPreviousWorld(TextWorld[int]):
    """Which suit lay on the table k cards ago? Asked at every card."""

    def __init__(self, decks: int = 1, k: int = 4) -> None:
        """POPGym's sizes: easy 1 deck and k = 4, medium 2 and 32, hard 3 and 64. As there, the
        card in view counts as the first: k = 4 asks for the one shown three cards before it."""
        check_decks("repeat_previous", decks)
        if not 2 <= k < CARDS_OF_DECK * decks:
            raise UsageError(
                f"repeat_previous: `k` must be from 2 to {CARDS_OF_DECK * decks - 1}, got {k}"
            )
        self._game = game_of("popgym.envs.repeat_previous", "RepeatPrevious")(decks, k)
        super().__init__(max_steps=CARDS_OF_DECK * decks)
        self._back = k - 1
        self._questions = CARDS_OF_DECK * decks - k
        self.actions: tuple[str, ...] = (NEXT, *SUITS)
        self.fallback_action = NEXT
        self.instruction = (
            "Cards are shown one by one. Say which suit was shown "
            f"{self._back} {'card' if self._back == 1 else 'cards'} before the one in view: "
            "spades, diamonds, clubs or hearts; say next while there were not that many, and to "
            "skip."
        )
        self._shown = self._right = 0
        self._first = ""

    def begin(self, seed: int) -> Seen:
        suit, _ = self._game.reset(seed=seed)
        self._first = SUITS[suit]
        self._shown = self._right = 0
        return Seen("The deck is shuffled.\nSay: next", 0.0)

    def read(self, action: str) -> int | None:
        action = action.lower()
        if action == NEXT:
            return PASS
        return SUITS.index(action) if action in SUITS and self._shown else None

    def play(self, move: int) -> Seen:
        self._shown += 1
        if self._shown == 1:
            return Seen(self._text(self._first), 0.0)
        suit, reward, is_over, _, _ = self._game.step(move)
        self._right += reward > 0
        progression = self._right / self._questions
        stop = "deck finished" if is_over else ""
        return Seen(self._text(SUITS[suit]), progression, is_over, stop, {"right": self._right})

    def _text(self, suit: str) -> str:
        ask = "Say: next"
        if self._shown > self._back:
            ask = f"Which suit was shown {self._back} before it? Say: a suit, or next to skip"
        return f"Card {self._shown}: {suit}\n{ask}"


class CountRecallWorld(TextWorld[int]):
    """How many cards of this kind were shown so far? Asked at every card."""

    def __init__(self, decks: int = 1, kind: str = "colors") -> None:
        """POPGym's sizes: easy 1 deck and colors, medium 2 and suits, hard 4 and ranks."""
        names = {"colors": COLOURS, "suits": SUITS, "ranks": RANKS}
        check_decks("count_recall", decks)
        if kind not in names:
            raise UsageError(f"count_recall: `kind` must be one of {', '.join(names)}, got {kind}")
        self._game = game_of("popgym.envs.count_recall", "CountRecall")(decks, deck_type=kind)
        super().__init__(max_steps=CARDS_OF_DECK * decks)
        self._names = names[kind]
        self._most = CARDS_OF_DECK * decks // len(self._names)
        self.actions = f"a number from 0 to {self._most}, or next to skip"
        self.fallback_action = NEXT
        self.instruction = (
            "Cards are shown one by one. Each time you are asked how many cards of some kind were "
            f"shown so far, the one in view included. Kinds: {', '.join(self._names)}. Say the "
            "number, or next to skip."
        )
        self._seen: Any = None
        self._shown = self._right = 0

    def begin(self, seed: int) -> Seen:
        self._seen, _ = self._game.reset(seed=seed)
        self._shown = self._right = 0
        return Seen("The deck is shuffled.\nSay: next", 0.0)

    def read(self, action: str) -> int | None:
        if action.lower() == NEXT:
            return PASS
        # isdecimal also takes digits of other scripts; a number of thousands of digits is none.
        is_number = action.isascii() and action.isdecimal() and len(action) < 10 and self._shown
        return int(action) if is_number and int(action) <= self._most else None

    def play(self, move: int) -> Seen:
        self._shown += 1
        if self._shown == 1:
            return Seen(self._text(), 0.0)
        self._seen, reward, is_over, _, _ = self._game.step(move)
        self._right += reward > 0
        progression = self._right / self._game.max_episode_length
        stop = "deck finished" if is_over else ""
        return Seen(self._text(), progression, is_over, stop, {"right": self._right})

    def _text(self) -> str:
        shown, asked = (self._names[int(number)] for number in self._seen)
        return (
            f"Card {self._shown}: {shown}\nHow many were {asked} so far, this one included? "
            "Say: a number, or next to skip"
        )
