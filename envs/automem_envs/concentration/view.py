"""What a prompt of Concentration says, read back for scripted players: board, schema, facts.

Everything comes from the messages of one routine. Nothing is remembered between calls.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from automem.agent.prompt_view import PromptView
from automem.engine.protocol import Message
from automem_envs.concentration.ranks import ANIMALS, COLOURS

_EVENT = re.compile(r"(\d+) shows (.+) (first|match|miss)")
_RANK = re.compile(rf"\b(?:(?:{'|'.join(COLOURS)}) )?(?:{'|'.join(ANIMALS)})\b", re.IGNORECASE)
_CARD = re.compile(r"(?<![\w.])\d{2,}\b")
_SCHEMA = re.compile(r"^(\S+\.\w+)\b.*\b(card rank|rank card)\b", re.MULTILINE)
_OPERATION = re.compile(r"<\|([A-Z]+)\|>")


@dataclass(frozen=True, slots=True)
class Board:
    """One observation. Cards are named by their numbers as the text has them."""

    card: str
    """The card flipped last; empty before the first flip."""
    rank: str
    event: str
    """`first`, `match`, `miss`, or empty before the first flip."""
    pending: str
    """The open card; empty where none is."""
    down: tuple[str, ...]


def read_board(observation: str) -> Board:
    """Parse an observation; parts that are missing come back empty."""
    card = rank = event = pending = ""
    down: tuple[str, ...] = ()
    for line in observation.split("\n"):
        if found := _EVENT.fullmatch(line):
            card, rank, event = found.groups()
        elif line.startswith("pending ") and not line.endswith(" none"):
            pending = line.removeprefix("pending ")
        elif line.startswith("down ") and not line.endswith(" none"):
            down = tuple(_cards(line.removeprefix("down ").split()))
    return Board(card, rank, event, pending, down)


def _cards(names: Iterable[str]) -> Iterable[str]:
    """Single cards, runs (`0003-0017`) spelled out."""
    for name in names:
        first, _, last = name.partition("-")
        if last:
            yield from (f"{card:0{len(first)}d}" for card in range(int(first), int(last) + 1))
        else:
            yield name


@dataclass(frozen=True, slots=True)
class MemorySchema:
    """What the system message says about memory."""

    file: str
    """The file whose purpose reads `card rank` (or `rank card`); else the first file listed."""
    is_card_first: bool
    operations: frozenset[str]
    """Operations that the routine may use; empty where the message lists none."""

    def line(self, card: str, rank: str) -> str:
        """How the file spells one card."""
        return f"{card} {rank}" if self.is_card_first else f"{rank} {card}"


def read_schema(messages: Sequence[Message], view: PromptView) -> MemorySchema:
    """The memory schema of a routine's messages."""
    system = "\n".join(message.content for message in messages if message.role == "system")
    found = _SCHEMA.search(system)
    file = found[1] if found else next(iter(view.files), "cards.txt")
    is_card_first = found is None or found[2] == "card rank"
    return MemorySchema(file, is_card_first, frozenset(_OPERATION.findall(system)))


def facts_in(view: PromptView) -> list[tuple[str, str]]:
    """(card, rank) for each line of memory in the context that holds both; repeats are kept."""
    lines = [line for shown in view.shown.values() for line in shown]
    lines += [
        line for result in view.results for line in result.lines if result.name in _RETURN_LINES
    ]
    facts = []
    for line in lines:
        card, rank = _CARD.search(line), _RANK.search(line)
        if card and rank:
            facts.append((card[0], rank[0].lower()))
    return facts


_RETURN_LINES = frozenset({"READ", "SEARCH", "TAIL"})
"""Operations whose results are lines of memory."""
