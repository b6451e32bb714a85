"""The training loop."""

import random

import pytest

from automem_learners.pretrain.evaluation import evaluate
from automem_learners.pretrain.model import ModelShape, build_model
from automem_learners.pretrain.training import Progress, TrainingPlan, batches, train
from automem_learners.pretrain.trees import Answer, Conversation, ConversationTree

SHAPE = ModelShape(hidden=32, layers=1, heads=2, kv_heads=1, mlp=32)


def copying(card: int, length: int = 8) -> Conversation:
    """The answer is the token that the prompt ends with; saying nothing is as likely."""
    tree = ConversationTree()
    prompt = [1, *range(300, 300 + length), card, 4, 3]
    answers = [Answer((card, 4), 0.5), Answer((4,), 0.5)]
    tree.add_turn(prompt, answers, [(card, 4), (4,)], card % 3)
    return tree.finish()


CORPUS = [copying(400 + number % 20, 4 + number % 9) for number in range(240)]


def test_training_brings_the_model_to_its_teacher() -> None:
    model = build_model(SHAPE, seed=0)
    seen: list[Progress] = []
    plan = TrainingPlan(batch_tokens=512, epochs=12, warmup_steps=5)
    tokens = train(model, CORPUS, plan, 0, seen.append)
    assert seen[-1].step == seen[-1].steps
    assert seen[-1].tokens == tokens
    assert seen[-1].loss < 0.2 * seen[0].loss
    assert sum(score.tokens for score in evaluate(model, CORPUS).values()) == 480


def test_training_is_seeded() -> None:
    def losses() -> list[float]:
        model = build_model(SHAPE, seed=3)
        seen: list[Progress] = []
        train(model, CORPUS[:60], TrainingPlan(batch_tokens=512), 5, seen.append)
        return [progress.loss for progress in seen]

    assert losses() == pytest.approx(losses())


def test_batches_hold_every_conversation_once_and_keep_to_their_size() -> None:
    groups = list(batches(CORPUS, 256, random.Random(1)))
    assert sorted(id(c) for group in groups for c in group) == sorted(id(c) for c in CORPUS)
    assert all(max(len(c.tokens) for c in group) * len(group) <= 256 for group in groups)


def test_time_ends_the_schedule() -> None:
    model = build_model(SHAPE, seed=0)
    plan = TrainingPlan(batch_tokens=256, epochs=1000, seconds=0.2)
    seen: list[Progress] = []
    train(model, CORPUS[:60], plan, 0, seen.append)
    assert seen[-1].step < seen[-1].steps


def test_a_number_of_tokens_ends_the_schedule_at_the_same_place_every_time() -> None:
    def trained() -> tuple[int, list[float]]:
        model = build_model(SHAPE, seed=0)
        losses: list[float] = []
        plan = TrainingPlan(batch_tokens=256, epochs=1000, tokens=2_000)
        seen = train(model, CORPUS[:60], plan, 0, lambda progress: losses.append(progress.loss))
        return seen, losses

    seen, losses = trained()
    assert 2_000 <= seen < 2_000 + 256
    assert trained() == (seen, pytest.approx(losses))
