"""Policy gradient: the loss by hand, advantages by hand, and a policy that moves as it should."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.tiny_base import random_conversation

from automem.errors import UsageError
from automem_learners.adapters import read_version
from automem_learners.dataset import Conversation, DataKind, Dataset, write_dataset
from automem_learners.policy_gradient import (
    ClippedSurrogate,
    group_relative,
    improve,
    read_objective,
)
from automem_learners.recipe import Recipe, Scaling, read_recipe
from automem_learners.sft import fit


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)


def loss_of(objective: ClippedSurrogate, log_probs: torch.Tensor, **columns: torch.Tensor) -> float:
    return float(objective(log_probs, column(0.5, 0.25, 0.25), columns))


def test_the_loss_is_that_of_a_hand_computed_example() -> None:
    """Three tokens: ratios 1.5, 0.5 and 1.1; advantages 2, -1 and -1; clipped at 0.8 and 1.2.

    Surrogates: min(3, 2.4) = 2.4; min(-0.5, -0.8) = -0.8; min(-1.1, -1.1) = -1.1.
    Loss: -(0.5 * 2.4 - 0.25 * 0.8 - 0.25 * 1.1) = -0.725."""
    start = column(-1.0, -2.0, -3.0)
    found = loss_of(
        ClippedSurrogate(importance_cap=0.0),
        start + column(math.log(1.5), math.log(0.5), math.log(1.1)),
        start=start,
        advantage=column(2.0, -1.0, -1.0),
    )
    assert found == pytest.approx(-0.725, abs=1e-5)


def test_the_mismatch_with_the_engine_is_corrected_up_to_a_cap() -> None:
    """p_start / p_recorded is 1.25, 4 (capped to 2) and 0.5: -(0.5 * 1.25 + 0.25 * 2 + 0.125)."""
    start = column(-1.0, -1.0, -1.0)
    found = loss_of(
        ClippedSurrogate(importance_cap=2.0),
        start,
        start=start,
        recorded=start - column(math.log(1.25), math.log(4.0), math.log(0.5)),
        advantage=column(1.0, 1.0, 1.0),
    )
    assert found == pytest.approx(-1.25, abs=1e-5)


def test_the_divergence_from_the_base_is_paid_for() -> None:
    """base / p is e, 1 and 1/e: k3 is e - 2, 0 and 1/e; at weight 0.1 and advantage 0."""
    start = column(-1.0, -1.0, -1.0)
    found = loss_of(
        ClippedSurrogate(kl=0.1),
        start,
        start=start,
        base=start + column(1.0, 0.0, -1.0),
        advantage=column(0.0, 0.0, 0.0),
    )
    assert found == pytest.approx(0.1 * (0.5 * (math.e - 2) + 0.25 / math.e), abs=1e-5)


def test_beyond_the_clip_there_is_no_gradient() -> None:
    start = column(-1.0, -1.0, -1.0)
    log_probs = (start + column(0.5, -0.5, 0.5)).requires_grad_()
    objective = ClippedSurrogate(importance_cap=0.0)
    columns = {"start": start, "advantage": column(1.0, -1.0, -1.0)}
    objective(log_probs, column(1.0, 1.0, 1.0), columns).backward()
    assert log_probs.grad is not None
    # too far up with a gain, too far down with a loss: held; up with a loss: pushed back
    assert log_probs.grad.tolist() == pytest.approx([0.0, 0.0, math.exp(0.5)])


def test_at_the_start_the_gradient_is_that_of_weighted_log_probabilities() -> None:
    start = column(-1.0, -2.0, -3.0)
    log_probs = start.clone().requires_grad_()
    advantage, weights = column(2.0, -1.0, 0.5), column(0.5, 0.25, 0.25)
    ClippedSurrogate(importance_cap=0.0)(
        log_probs, weights, {"start": start, "advantage": advantage}
    ).backward()
    assert torch.allclose(log_probs.grad, -advantage * weights)


def test_advantages_are_relative_to_episodes_of_the_same_seed() -> None:
    found = group_relative([1.0, 3.0, 10.0, 10.0, 5.0], ["a", "a", "b", "b", "c"])
    assert found == [-1.0, 1.0, 0.0, 0.0, 0.0]
    assert group_relative([1.0, 3.0], [7, 7], scaled=False) == [-1.0, 1.0]


@pytest.fixture(scope="module")
def played(base: str, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """24 turns with recorded log-probabilities, one in four with an added end."""
    generator = np.random.default_rng(3)
    rows = []
    for number in range(24):
        row = random_conversation(number, generator)
        row = replace(row, weights=(row.weights > 0).astype(np.float32))
        logprobs = np.where(row.weights > 0, -6.0, 0.0).astype(np.float32)
        rows.append(replace(row, logprobs=logprobs, synthetic=int(number % 4 == 0)))
    folder = tmp_path_factory.mktemp("played")
    return write_dataset(folder, rows, kind=DataKind.EXACT, base_model=base, made_by="random")


def recipe(**changes: object) -> Recipe:
    return read_recipe(
        {
            "lora": {"rank": 8, "alpha": 16},
            "learning_rate": 3e-3,
            "conversations_per_step": 8,
            "precision": "fp32",
            "epochs": 4,
        }
        | changes
    )


def mean_log_prob(base: str, adapter: str, rows: list[Conversation]) -> float:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, adapter).eval()
    means = []
    for row in rows:
        ids = torch.from_numpy(row.token_ids)[None].long()
        with torch.no_grad():
            logs = torch.log_softmax(model(ids).logits[0, :-1], -1)
        scores = logs.gather(1, ids[0, 1:, None])[:, 0].numpy()
        generated = row.weights > 0
        generated[len(generated) - row.synthetic :] = False
        if generated.any():
            means.append(scores[generated[1:]].mean())
    return float(np.mean(means))


def test_good_turns_become_likelier_and_bad_ones_less_likely(
    played: Dataset, base: str, tmp_path: Path
) -> None:
    good = [row for number, row in enumerate(played.conversations) if number % 2]
    bad = [row for number, row in enumerate(played.conversations) if not number % 2]
    advantages = [1.0 if number % 2 else -1.0 for number in range(24)]
    untouched = improve(
        played, advantages, recipe(max_steps=1, warmup=1.0), base, tmp_path / "still"
    )
    version = improve(played, advantages, recipe(), base, tmp_path / "moved")
    before = [mean_log_prob(base, untouched.path, rows) for rows in (good, bad)]
    after = [mean_log_prob(base, version.path, rows) for rows in (good, bad)]
    assert after[0] > before[0] + 0.05
    assert after[1] < before[1] - 0.05


def test_the_mismatch_with_recorded_log_probabilities_is_on_the_card(
    played: Dataset, base: str, tmp_path: Path
) -> None:
    version = improve(played, [1.0, -1.0] * 12, recipe(max_steps=1), base, tmp_path)
    report = read_version(tmp_path).report
    assert report == version.report
    assert 0.1 < report["mismatch_mean"] < report["mismatch_max"] < 10
    assert report["turns"] == 24
    assert report["importance_capped"] < 0.5


def test_what_training_starts_from_is_recomputed_with_the_start_adapter(
    played: Dataset, base: str, tmp_path: Path
) -> None:
    """At the first step every ratio is 1: the loss is minus the mean of the advantages."""
    before = fit(played, recipe(), base, tmp_path / "before")
    advantages = [1.5, -0.5] * 12
    version = improve(
        played, advantages, recipe(conversations_per_step=24), base, tmp_path / "after",
        ClippedSurrogate(importance_cap=0.0, kl=0.0), start=Path(before.path),
    )  # fmt: skip
    kept = [a for a, row in zip(advantages, played.conversations, strict=True)
            if row.weights.sum() > row.synthetic]  # fmt: skip
    assert version.first_loss == pytest.approx(-float(np.mean(kept)), abs=1e-4)


def test_a_resumed_update_equals_an_unbroken_one(
    played: Dataset, base: str, tmp_path: Path
) -> None:
    class Dies:
        def log(self, metrics: dict, step: int) -> None:
            if step == 6:
                raise KeyboardInterrupt

        def finish(self, summary: dict) -> None: ...

    advantages, scaling = [1.0, -1.0] * 12, Scaling(checkpoint_every=4)
    objective = ClippedSurrogate(kl=0.05)
    arguments = (played, advantages, recipe(), base)
    whole = improve(*arguments, tmp_path / "whole", objective, scaling)
    with pytest.raises(KeyboardInterrupt):
        improve(*arguments, tmp_path / "broken", objective, scaling, Dies())
    assert improve(*arguments, tmp_path / "broken", objective, scaling).weights == whole.weights


def test_other_advantages_are_another_training(played: Dataset, base: str, tmp_path: Path) -> None:
    improve(played, [1.0, -1.0] * 12, recipe(max_steps=1), base, tmp_path)
    with pytest.raises(UsageError, match="versions are immutable"):
        improve(played, [-1.0, 1.0] * 12, recipe(max_steps=1), base, tmp_path)


def test_published_data_are_barred(played: Dataset, base: str, tmp_path: Path) -> None:
    published = write_dataset(
        tmp_path / "data", played.conversations, kind=DataKind.PUBLISHED, base_model=base,
        made_by="a test",
    )  # fmt: skip
    with pytest.raises(UsageError, match="barred from RL"):
        improve(published, [1.0] * 24, recipe(), base, tmp_path / "out")


def test_advantages_that_say_nothing_are_refused(
    played: Dataset, base: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="play more episodes per seed"):
        improve(played, [0.0] * 24, recipe(), base, tmp_path)
    with pytest.raises(UsageError, match="3 advantages for 24 conversations"):
        improve(played, [1.0] * 3, recipe(), base, tmp_path)


def test_a_wrong_objective_is_answered_in_words() -> None:
    assert read_objective({"kl": 0.1}) == ClippedSurrogate(kl=0.1)
    with pytest.raises(UsageError, match="did you mean 'clip_low'"):
        read_objective({"clip_lo": 0.1})
    with pytest.raises(UsageError, match=r"policy_gradient\.kl must be 0 or more"):
        read_objective({"kl": -1.0})
    with pytest.raises(UsageError, match="Expected `float`"):
        read_objective({"kl": "much"})
