"""Recall drills."""

from automem_learners.pretrain.corpus import shared_encoder
from automem_learners.pretrain.drills import RANKS, DrillPlan, recall_drills
from automem_learners.pretrain.tokenizer import build_tokenizer
from automem_learners.pretrain.trees import Conversation


def spoken(drill: Conversation) -> list[tuple[str, str]]:
    """(prompt, card to flip) of every question."""
    tokenizer, (flip,) = build_tokenizer(), shared_encoder().answer("flip")[:-1]
    found = []
    for row, node in enumerate(drill.target_nodes.tolist()):
        if drill.tokens[node] == flip:
            path, above = [], node
            while above >= 0:
                path.append(int(drill.tokens[above]))
                above = int(drill.parents[above])
            [answer] = drill.ids[drill.starts[row] : drill.starts[row + 1]].tolist()
            found.append((tokenizer.decode(path[::-1]), tokenizer.decode([answer]).strip()))
    return found


def test_one_line_tells_the_answer_and_the_world_allows_it() -> None:
    orders = set()
    for drill in recall_drills(DrillPlan(), 60, seed=3):
        for prompt, answer in spoken(drill):
            [shown] = [line for line in prompt.splitlines() if " shows " in line]
            card, _, rank, _ = shown.split()
            assert rank in RANKS
            lines = [
                line.replace(":", "").replace(" is ", " ").split() for line in prompt.splitlines()
            ]
            told = [line for line in lines if len(line) == 2 and rank in line and card not in line]
            assert [sorted(line) for line in told] == [sorted((answer, rank))]
            assert prompt.endswith(f"{rank} {answer}<|ACTION|>flip")
            [down] = [line for line in lines if line[:1] == ["down"]]
            assert answer in down
            assert card not in down
            orders.add(prompt.index(" shows ") < prompt.index(" ".join(told[0])[:2]))
    assert orders == {True, False}


def test_the_same_seed_gives_the_same_drills() -> None:
    one, same = (recall_drills(DrillPlan(), 5, seed=1) for _ in range(2))
    assert [drill.tokens.tolist() for drill in one] == [drill.tokens.tolist() for drill in same]
    other = recall_drills(DrillPlan(), 5, seed=2)
    assert [drill.tokens.tolist() for drill in one] != [drill.tokens.tolist() for drill in other]
