"""Scripted players of Concentration: one way of acting, three ways of keeping memory.

Each is stateless: what it knows is in the request's messages, its randomness in `request.seed`.
All act alike on what their context holds: they flip the mate of the open card where a line in view
names it, one of a pair where both are in view, else any card that lies face down. They differ in
memory habits alone. `SloppyPlayer`, the small model's teacher, has poor ones by design: doing
nothing is its most frequent habit, the right write and the right search are minority habits, the
rest is noise.
"""

import random
from collections import Counter
from dataclasses import dataclass

from automem.agent.prompt_view import PromptView, read_prompt
from automem.engine.protocol import GenerateRequest
from automem.seeds import derive
from automem.trace.events import Routine
from automem_envs.concentration.view import Board, MemorySchema, facts_in, read_board, read_schema

DONE = "<|DONE|>"


@dataclass(frozen=True, slots=True)
class Habits:
    """Probabilities of memory habits; what is left of 1 is doing nothing.

    LOG: `write` the card shown, as the schema has it; write it to a `wrong_file`, under a
    `wrong_card`, or `twice`; `look` for its rank. PLAN with an open card: `search` its rank; in a
    `search_wrong_file`; `search_card` (its number, where its rank is what matters). PLAN without
    one: `search_idly` for what the last flip showed."""

    write: float = 0.0
    wrong_file: float = 0.0
    wrong_card: float = 0.0
    twice: float = 0.0
    look: float = 0.0
    search: float = 0.0
    search_wrong_file: float = 0.0
    search_card: float = 0.0
    search_idly: float = 0.0


NO_MEMORY = Habits()
PERFECT = Habits(write=1.0, search=1.0)
SLOPPY = Habits(
    write=0.34,
    wrong_file=0.045,
    wrong_card=0.045,
    twice=0.02,
    look=0.02,
    search=0.36,
    search_wrong_file=0.045,
    search_card=0.045,
    search_idly=0.06,
)
"""Doing nothing is likelier than *any* operation, not only than each: a model decides whether to
write before it decides what, token by token, so greedy decoding would else write every card."""


@dataclass(frozen=True, slots=True)
class Option:
    """One thing a player may say, and how likely it says it."""

    text: str
    probability: float
    habit: str
    """Field of `Habits`, `nothing`, or `act`."""


def options(request: GenerateRequest, habits: Habits) -> list[Option]:
    """Everything the player may answer; probabilities sum to 1, texts may repeat."""
    view = read_prompt(request.messages)
    board = read_board(view.observation)
    schema = read_schema(request.messages, view)
    has_looked = bool(view.results) or view.turns > 0
    if view.routine is Routine.LOG:
        if has_looked or not board.card:
            return [Option(DONE, 1.0, "nothing")]
        return _with_nothing(_log_options(view, board, schema, habits), [(DONE, 1.0)], "nothing")
    actions = _action_options(view, board)
    if view.wants_commit or has_looked or not view.files:
        return _with_nothing([], actions, "act")
    return _with_nothing(_plan_options(view, board, schema, habits), actions, "nothing")


def _with_nothing(memory: list[Option], rest: list[tuple[str, float]], habit: str) -> list[Option]:
    """`memory` options, and the remaining probability shared out among `rest`."""
    chosen = [option for option in memory if option.probability > 0]
    left = max(0.0, 1.0 - sum(option.probability for option in chosen))
    return chosen + [Option(text, left * share, habit) for text, share in rest if left > 0]


def _log_options(
    view: PromptView, board: Board, schema: MemorySchema, habits: Habits
) -> list[Option]:
    card, rank = board.card, board.rank
    right = _write(schema, schema.file, card, rank)
    found = [
        Option(right + DONE, habits.write, "write"),
        Option(right + right + DONE, habits.twice, "twice"),
    ]
    others = [file for file in view.files if file != schema.file]
    for file in others:
        text = _write(schema, file, card, rank) + DONE
        found.append(Option(text, habits.wrong_file / len(others), "wrong_file"))
    wrong = [other for other in board.down if other != card]
    for other in wrong:
        text = _write(schema, schema.file, other, rank) + DONE
        found.append(Option(text, habits.wrong_card / len(wrong), "wrong_card"))
    if "SEARCH" in schema.operations:
        found.append(Option(f"<|SEARCH|>{schema.file}|{rank}<|END|>", habits.look, "look"))
    return found


def _write(schema: MemorySchema, file: str, card: str, rank: str) -> str:
    if "UPSERT" in schema.operations:
        key, text = (card, rank) if schema.is_card_first else (rank, card)
        return f"<|UPSERT|>{file}|{key}|{text}<|END|>"
    return f"<|APPEND|>{file}|{schema.line(card, rank)}<|END|>"


def _plan_options(
    view: PromptView, board: Board, schema: MemorySchema, habits: Habits
) -> list[Option]:
    if not board.card or _mates(view, board):
        return []
    if not board.pending:
        return [Option(_find(schema, schema.file, board.rank), habits.search_idly, "search_idly")]
    found = [
        Option(_find(schema, schema.file, board.rank), habits.search, "search"),
        Option(_find(schema, schema.file, board.pending), habits.search_card, "search_card"),
    ]
    others = [file for file in view.files if file != schema.file]
    for file in others:
        probability = habits.search_wrong_file / len(others)
        found.append(Option(_find(schema, file, board.rank), probability, "search_wrong_file"))
    return found


def _find(schema: MemorySchema, file: str, keyword: str) -> str:
    """Look for `keyword`, with what the routine allows."""
    if "SEARCH" in schema.operations or not schema.operations:
        return f"<|SEARCH|>{file}|{keyword}<|END|>"
    if "READ" in schema.operations:
        return f"<|READ|>{file}<|END|>"
    return f"<|TAIL|>{file}|20<|END|>"


def _mates(view: PromptView, board: Board) -> Counter[tuple[str, str]]:
    """(card, its rank) worth flipping by what the context says, each as often as a line says so."""
    down = set(board.down)
    facts = [(card, rank) for card, rank in facts_in(view) if card in down]
    if board.pending:
        return Counter((card, rank) for card, rank in facts if rank == board.rank)
    if board.card in down:
        facts.append((board.card, board.rank))
    cards_of: dict[str, set[str]] = {}
    for card, rank in facts:
        cards_of.setdefault(rank, set()).add(card)
    pairs = {rank: cards for rank, cards in cards_of.items() if len(cards) > 1}
    return Counter((card, rank) for rank, cards in pairs.items() for card in cards)


def _action_options(view: PromptView, board: Board) -> list[tuple[str, float]]:
    """Commits and their shares.

    With memory in view the player thinks aloud: it says the rank it looks for, the card that a line
    names for it, if one does, and then acts. A transformer of four layers learns to find a line
    by a word it has just said many times sooner than by one it has to keep in mind."""
    if not board.down:
        return [("<|ACTION|>flip next<|END|>", 1.0)]
    mates = _mates(view, board)
    if mates:
        said = {f"{rank} {card}{_flip(card)}": count for (card, rank), count in mates.items()}
    else:
        wanted = board.rank if board.pending and facts_in(view) else ""
        said = {wanted + _flip(card): 1 for card in board.down}
    total = sum(said.values())
    return [(text, count / total) for text, count in sorted(said.items())]


def _flip(card: str) -> str:
    return f"<|ACTION|>flip {card}<|END|>"


class HabitPlayer:
    """A player with given habits; implements the scripted engine's `Player`."""

    def __init__(self, habits: Habits) -> None:
        self.habits = habits

    def options(self, request: GenerateRequest) -> list[Option]:
        """Everything it may answer here, with probabilities that sum to 1."""
        return options(request, self.habits)

    def reply(self, request: GenerateRequest) -> str:
        """Its completion, drawn by the request's seed."""
        choices = self.options(request)
        chooser = random.Random(request.seed)
        weights = [option.probability for option in choices]
        return chooser.choices(choices, weights=weights)[0].text


class PerfectMemoryPlayer(HabitPlayer):
    """Writes every flip and searches for every open card. Not the best play there is: an open board
    is flipped at random, so its score is the ceiling of memory habits, not of strategy."""

    def __init__(self) -> None:
        super().__init__(PERFECT)


class NoMemoryPlayer(HabitPlayer):
    """Never reads nor writes: flips at random among the cards that lie face down."""

    def __init__(self) -> None:
        super().__init__(NO_MEMORY)


class SloppyPlayer(HabitPlayer):
    """The teacher; any habit can be given another probability."""

    def __init__(self, **habits: float) -> None:
        merged = {name: getattr(SLOPPY, name) for name in Habits.__slots__} | habits
        super().__init__(Habits(**merged))


class ClumsyPlayer(SloppyPlayer):
    """A sloppy player that now and then flips any card at all, open and matched ones included.

    For training data alone: it shows what the board says after an illegal flip."""

    def __init__(self, slip: float = 0.15, **habits: float) -> None:
        super().__init__(**habits)
        self._slip = slip

    def reply(self, request: GenerateRequest) -> str:
        """As `SloppyPlayer`, but a commit names a random card with probability `slip`."""
        text = super().reply(request)
        chooser = random.Random(derive(request.seed, "slip"))
        if "<|ACTION|>" in text and chooser.random() < self._slip:
            return _flip(f"{chooser.randint(1, 40):02d}")
        return text
