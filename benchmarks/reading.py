"""Does the small model act on lines of memory that its prompt holds: is the right card flipped?

One card lies open; its mate's line stands among n lines of memory, brought in different ways. The
figure is the share of answers, sampled at temperature 1 as in play, that flip the mate. Chance
among 39 cards is 0.026; a model that copies any line's card reaches 1 / n, one that reads the ranks
reaches 1. So it tells what a memory that shows lines can be worth to this actor (docs/memories.md).
A minute. Another model's name or folder on the command line is measured instead, and nothing is
written.
"""

import argparse
import json
import random
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from automem.config import compose
from automem.engine.models import resolve
from automem.engine.protocol import Message
from automem.engine.render import ChatRenderer, load_tokenizer
from automem.loops.experiment import commit
from automem_envs.concentration.ranks import rank_names

RESULTS = Path(__file__).parent / "results" / "reading.json"
WAYS = ("result of SEARCH", "shown by the scaffold", "shown, no files listed")
LINES = (1, 2, 5, 10, 20)
PROMPTS, SAMPLES = 60, 4
SCHEMA = "cards.txt card rank\nnotes.txt\n<|SEARCH|>file|keyword<|END|>"


def main() -> None:
    """Print a table, write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", help="measured instead of the shipped one; not written")
    options = parser.parse_args()
    name = options.model or compose("config", ["experiment=embedded"]).engine.model
    model: Any = AutoModelForCausalLM.from_pretrained(resolve(name), dtype=torch.float32).eval()
    renderer, tokenizer = ChatRenderer(name), load_tokenizer(name)
    table: dict[str, dict[str, float]] = {}
    print(f"{'':<24}" + "".join(f"{count:>8}" for count in LINES))
    torch.manual_seed(7)
    for way in WAYS:
        table[way] = {}
        for count in LINES:
            chooser = random.Random(7)
            hits = 0
            for _ in range(PROMPTS):
                messages, mate = prompt(way, count, chooser)
                ids = torch.tensor([renderer.start(messages)])
                answers = model.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    do_sample=True,
                    top_k=0,
                    max_new_tokens=10,
                    num_return_sequences=SAMPLES,
                )
                said = tokenizer.batch_decode(answers[:, ids.shape[1] :])
                hits += sum(f"<|ACTION|>flip {mate}<|END|>" in text for text in said)
            table[way][str(count)] = round(hits / PROMPTS / SAMPLES, 3)
        print(f"{way:<24}" + "".join(f"{value:>8.3f}" for value in table[way].values()))
    if options.model:
        return
    data = {
        "commit": commit(),
        "model": name,
        "prompts": PROMPTS,
        "samples": SAMPLES,
        "share": table,
    }
    RESULTS.write_text(json.dumps(data, indent=1) + "\n")


def prompt(way: str, count: int, chooser: random.Random) -> tuple[list[Message], str]:
    """A PLAN's messages up to the hand-over, and the card to flip."""
    ranks = rank_names(20)[:20]
    deck = 2 * ranks
    chooser.shuffle(deck)
    rank_of = {f"{number:02d}": rank for number, rank in enumerate(deck, 1)}
    card = chooser.choice(list(rank_of))
    rank = rank_of[card]
    [mate] = [c for c in rank_of if c != card and rank_of[c] == rank]
    others = chooser.sample([c for c in rank_of if c not in (card, mate)], count - 1)
    lines = [f"{c} {rank_of[c]}" for c in others]
    lines.insert(chooser.randrange(len(lines) + 1), f"{mate} {rank}")
    down = " ".join(c for c in rank_of if c != card)
    opening = (
        f"# plan\n# observation\n{card} shows {rank} first\npending {card}\ndown {down}\n# files"
    )
    shown = "\n".join(lines)
    if way == "shown, no files listed":
        user = f"{opening}\n# memory cards.txt\n{shown}\n# commit"
        return [Message("system", "find pairs of cards"), Message("user", user)], mate
    system = Message("system", f"find pairs of cards\n{SCHEMA}")
    opening += f"\ncards.txt {count}\nnotes.txt 0"
    if way == "shown by the scaffold":
        return [system, Message("user", f"{opening}\n# memory cards.txt\n{shown}\n# commit")], mate
    search, header = f"<|SEARCH|>cards.txt|{rank}<|END|>", f"SEARCH cards.txt|{rank}"
    result = Message("user", f"# results\n{header}\n{shown}\n# commit")
    return [system, Message("user", opening), Message("assistant", search), result], mate


if __name__ == "__main__":
    main()
