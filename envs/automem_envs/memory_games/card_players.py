"""Scripted players of the card games: each notes every card and looks up what the game asks.

They work from the text and their files alone. With `reads=False` a player is its memoryless twin.
"""

import random
import re
from collections.abc import Sequence

from automem.agent.prompt_view import PromptView
from automem.memory.ops import AnyOp, Append, Count, Read, Search, Tail, Upsert
from automem_envs.memory_games.cards import SUITS
from automem_envs.note_player import NotePlayer, keyed, lines_of

CARDS_FILE = "actions.txt"
PLACES_FILE = "map.txt"
_SHOWN = re.compile(r"^Card \d+: (\w+)$", re.MULTILINE)
_BEFORE = re.compile(r"^Which suit was shown (\d+) before it\?", re.MULTILINE)
_HOW_MANY = re.compile(r"^How many were (\w+) so far", re.MULTILINE)
_FLIPPED = re.compile(r"^Card (\d+) is: (\w+), ", re.MULTILINE)
_OPEN = re.compile(r"^Open: (\d+)$", re.MULTILINE)
_DOWN = re.compile(r"^Face down: (.*)$", re.MULTILINE)


class _CardNotes(NotePlayer):
    """Appends every card shown."""

    def note(self, view: PromptView) -> Sequence[AnyOp]:
        shown = _SHOWN.search(view.observation)
        return [Append(CARDS_FILE, shown[1])] if shown else []


class RepeatPreviousPlayer(_CardNotes):
    """Looks at the last cards of its list; without it, guesses a suit."""

    def look_up(self, view: PromptView) -> Sequence[AnyOp]:
        before = _BEFORE.search(view.observation)
        return [Tail(CARDS_FILE, int(before[1]) + 1)] if before else []

    def decide(self, view: PromptView, chance: random.Random) -> str:
        before = _BEFORE.search(view.observation)
        if not before:
            return "next"
        lines = lines_of(view, CARDS_FILE)
        return lines[0] if len(lines) == int(before[1]) + 1 else chance.choice(SUITS)


class CountRecallPlayer(_CardNotes):
    """Counts the lines of its list; without it, says 1."""

    def look_up(self, view: PromptView) -> Sequence[AnyOp]:
        asked = _HOW_MANY.search(view.observation)
        return [Count(CARDS_FILE, asked[1])] if asked else []

    def decide(self, view: PromptView, chance: random.Random) -> str:
        if not _HOW_MANY.search(view.observation):
            return "next"
        counts = [result.lines[0] for result in view.results if result.name == "COUNT"]
        return counts[-1] if counts and counts[-1].isdecimal() else "1"


class DeckConcentrationPlayer(NotePlayer):
    """Keeps one line per kind, `king: 07 31`; flips known pairs first, then unknown cards."""

    def note(self, view: PromptView) -> Sequence[AnyOp]:
        flipped = _FLIPPED.search(view.observation)
        if not flipped:
            return []
        card, kind = flipped.groups()
        if not view.turns:
            return [Search(PLACES_FILE, f"{kind}: ")]
        cards = keyed(lines_of(view, PLACES_FILE)).get(kind, "").split()
        return [] if card in cards else [Upsert(PLACES_FILE, kind, " ".join([*cards, card]))]

    def look_up(self, view: PromptView) -> Sequence[AnyOp]:
        return [Read(PLACES_FILE)]

    def decide(self, view: PromptView, chance: random.Random) -> str:
        down = _cards(_DOWN.search(view.observation))
        opened = _OPEN.search(view.observation)
        known = {
            kind: [card for card in cards.split() if card in down]
            for kind, cards in keyed(lines_of(view, PLACES_FILE)).items()
        }
        if opened:
            flipped = _FLIPPED.search(view.observation)
            wanted = known.get(flipped[2], []) if flipped else []
        else:
            wanted = next((cards for cards in known.values() if len(cards) > 1), [])
        seen = {card for cards in known.values() for card in cards}
        fresh = [card for card in down if card not in seen]
        # A card of a kind that is known flips into a pair more often than not: none is saved up.
        choices = wanted[:1] or fresh[:1] or list(down)
        if not self.reads:
            choices = list(down)
        return f"flip {chance.choice(choices)}" if choices else "flip next"


def _cards(found: re.Match[str] | None) -> dict[str, None]:
    """Numbers of a line, runs (`05-17`) spelled out, in order."""
    cards: dict[str, None] = {}
    for word in found[1].split() if found else ():
        first, _, last = word.partition("-")
        if first.isdecimal():
            width = len(first)
            for card in range(int(first), int(last or first) + 1):
                cards[f"{card:0{width}d}"] = None
    return cards
