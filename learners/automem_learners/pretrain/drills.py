"""Recall drills: a list of lines, then questions, each answered by one of the lines.

In play a search's result is sifted already, so copying any line of it does nearly as well as
reading it, and games alone never teach a small model to find a line among others by its rank. A
drill asks for nothing else. Half of them hold one list and several questions, each a branch of one
tree: the densest way to practise. The rest asks first and lists then, as most scaffolds do.

Promise: the same plan and seed give the same drills. Not covered: any habit of keeping memory.
"""

import random

import msgspec

from automem.engine.protocol import Message
from automem.seeds import derive
from automem_learners.pretrain.corpus import KINDS, Encoder, shared_encoder
from automem_learners.pretrain.tokenizer import words
from automem_learners.pretrain.trees import Answer, Conversation, ConversationTree
from automem_learners.pretrain.variants import SEPARATORS


class DrillPlan(msgspec.Struct, frozen=True):
    """How much is practised, and at what."""

    first: int = 0
    """Drills that a fresh model is trained on before anything else."""
    mixed: int = 0
    """Drills among the routines of every training: what is not practised is lost again."""
    learning_rate: float = 2e-3
    """Of the first ones."""
    batch_tokens: int = 2048
    """Of the first ones: many small steps teach this sooner than few large ones."""
    lines: int = 20
    """At most, in a list; evenly distributed from 1 on."""
    questions: int = 6
    """At most, about one list."""
    list_first: float = 0.5
    """Share of drills whose list comes before the question."""
    card_first: float = 0.85
    """Share whose lines name the card, then the rank."""


PAIRS = 20
RANKS = tuple(words()[:40])
"""What a deck's ranks are drawn from."""
_PLACES = ("memory cards.txt", "memory deck.md", "memory seen.txt", "memory notes.txt")
_READS = ("READ", "TAIL")
_LINKS = ("", "", "# files\ncards.txt {count}\nnotes.txt 0\n", "# files\ndeck.md {count}\n")


def recall_drills(plan: DrillPlan, count: int, seed: int) -> list[Conversation]:
    """`count` of them."""
    encoder = shared_encoder()
    return [
        _drill(random.Random(derive("drill", seed, number)), encoder, plan)
        for number in range(count)
    ]


def _drill(chooser: random.Random, encoder: Encoder, plan: DrillPlan) -> Conversation:
    deck = 2 * chooser.sample(RANKS, PAIRS)
    chooser.shuffle(deck)
    rank_of = {f"{number:02d}": rank for number, rank in enumerate(deck, 1)}
    seen = chooser.sample(sorted(rank_of), chooser.randint(1, min(plan.lines, len(deck))))
    separator, is_card_first = chooser.choice(SEPARATORS), chooser.random() < plan.card_first
    pairs = [(card, rank_of[card]) if is_card_first else (rank_of[card], card) for card in seen]
    listed = _heading(chooser) + "".join(f"{a}{separator}{b}\n" for a, b in pairs)
    link = chooser.choice(_LINKS).format(count=len(seen))
    is_list_first = chooser.random() < plan.list_first
    tree = ConversationTree()
    for mate in chooser.sample(seen, min(plan.questions if is_list_first else 1, len(seen))):
        asked = _question(chooser, rank_of, mate, seen)
        parts = (listed, asked) if is_list_first else (asked, link, listed)
        prompt = encoder.prompt([Message("user", "# plan\n" + "".join(parts) + "# commit")])
        answer = encoder.answer(f"{rank_of[mate]} {mate}<|ACTION|>flip {mate}<|END|>")
        tree.add_turn(prompt, [Answer(answer, 1.0)], [answer], KINDS.index("commit"))
    return tree.finish()


def _heading(chooser: random.Random) -> str:
    """Where the lines come from: shown by the scaffold, or the result of an operation."""
    place = chooser.choice(_PLACES)
    if chooser.random() < 0.6:
        return f"# {place}\n"
    return f"# results\n{chooser.choice(_READS)} {place.split()[1]}\n"


def _question(chooser: random.Random, rank_of: dict[str, str], mate: str, seen: list[str]) -> str:
    """What the world shows when the other card of `mate`'s pair lies open."""
    [card] = [other for other in rank_of if other != mate and rank_of[other] == rank_of[mate]]
    # Cards that lie face down must not give the answer away: mostly, all that are listed do.
    others = [other for other in rank_of if other not in (card, mate)]
    if chooser.random() < 0.8:
        others = [other for other in others if other not in seen]
    gone = set(chooser.sample(others, chooser.randint(0, len(others) - 1)))
    down = [other for other in rank_of if other != card and other not in gone]
    shown = f"{card} shows {rank_of[card]} first\npending {card}\ndown {' '.join(down)}\n"
    return f"# observation\n{shown}"
