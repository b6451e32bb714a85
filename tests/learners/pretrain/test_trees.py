"""Training conversations as trees of tokens."""

import math

import numpy as np
import pytest
import torch

from automem_learners.pretrain.model import ModelShape, build_model
from automem_learners.pretrain.training import collate, divergences
from automem_learners.pretrain.trees import REACH_FLOOR, Answer, Conversation, ConversationTree

YES, NO, END = 7, 8, 4
PROMPT = [1, 10, 11, 4, 3]
ANSWERS = [Answer((YES, 20, END), 0.5), Answer((YES, 21, END), 0.25), Answer((NO, END), 0.25)]


def tree(*branches: tuple[int, ...], prompt: list[int] = PROMPT) -> ConversationTree:
    grown = ConversationTree()
    grown.add_turn(prompt, ANSWERS, list(branches), 1)
    return grown


def targets(conversation: Conversation) -> dict[tuple[int, ...], dict[int, float]]:
    """Path of tokens after the prompt to the distribution over what follows."""
    found = {}
    for row, node in enumerate(conversation.target_nodes.tolist()):
        path: list[int] = []
        while node >= 0:
            path.insert(0, int(conversation.tokens[node]))
            node = int(conversation.parents[node])
        entries = slice(conversation.starts[row], conversation.starts[row + 1])
        shares = zip(
            conversation.ids[entries].tolist(), conversation.shares[entries].tolist(), strict=True
        )
        found[tuple(path[len(PROMPT) :])] = dict(shares)
    return found


def test_targets_are_the_teachers_distribution_given_what_precedes() -> None:
    found = targets(tree((YES, 20, END), (NO, END)).finish())
    assert found == {
        (): {YES: 0.75, NO: 0.25},
        (YES,): {20: pytest.approx(2 / 3), 21: pytest.approx(1 / 3)},
        (YES, 20): {END: 1.0},
        (NO,): {END: 1.0},
    }


def test_what_the_teacher_would_never_say_is_supervised_up_to_where_it_departs() -> None:
    found = targets(tree((YES, 99, END)).finish())
    assert set(found) == {(), (YES,)}


def test_a_token_weighs_by_how_likely_the_teacher_gets_there() -> None:
    conversation = tree((YES, 20, END), (NO, END)).finish()
    weights = dict(
        zip(conversation.target_nodes.tolist(), conversation.target_weights.tolist(), strict=True)
    )
    assert sorted(weights.values()) == [REACH_FLOOR, 0.5, 0.75, 1.0]


def test_turns_share_the_prompt_that_they_have_in_common() -> None:
    grown = tree((NO, END))
    alone = len(grown.tokens)
    grown.add_turn([1, 10, 11, 5, 6, 4, 3], ANSWERS, [(NO, END)], 2)
    assert len(grown.tokens) == alone + 4 + 1
    assert grown.finish().depths().max() == 7


def test_a_token_sees_its_ancestors_only() -> None:
    conversation = tree((YES, 20, END), (NO, END)).finish()
    mask = conversation.ancestors()
    sizes = mask.sum(axis=1)
    assert (sizes == conversation.depths() + 1).all()
    assert not mask[np.triu_indices(len(mask), 1)].any()


def test_merged_turns_give_the_same_divergence_as_turns_by_themselves() -> None:
    model = build_model(ModelShape(hidden=32, layers=2, heads=2, kv_heads=1, mlp=32), seed=1)
    grown = tree((YES, 20, END), (NO, END))
    longer = [1, 10, 11, 5, 6, 4, 3]
    grown.add_turn(longer, ANSWERS, [(YES, 21, END)], 2)
    together = divergences(model, collate([grown.finish(), tree((NO, END)).finish()], 0))
    parts = [
        tree((YES, 20, END)).finish(),
        tree((NO, END)).finish(),
        tree((YES, 21, END), prompt=longer).finish(),
    ]
    alone = [divergences(model, collate([part], 0)) for part in parts]
    one, no, other = (part.tolist() for part in alone)
    expected = sorted([*one, no[1], *other, *no])
    assert sorted(together.tolist()) == pytest.approx(expected, abs=1e-5)


def test_the_divergence_of_a_uniform_model_is_known() -> None:
    model = build_model(ModelShape(hidden=32, layers=1, heads=2, kv_heads=1, mlp=32), seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    each = divergences(model, collate([tree((NO, END)).finish()], 0)).tolist()
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert each == pytest.approx([math.log(896) - entropy, math.log(896)], abs=1e-4)
