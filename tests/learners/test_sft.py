"""Training in one process: what it learns, what it saves, how it goes on, what it refuses."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from support.tiny_base import build_base, random_dataset
from support.tiny_model import build_tokenizer
from transformers import AutoModelForCausalLM

from automem.audit.weights import unfinished
from automem.errors import UsageError
from automem_learners.adapters import read_version
from automem_learners.dataset import Dataset
from automem_learners.job import make_job
from automem_learners.recipe import Recipe, Scaling, read_recipe
from automem_learners.sft import HISTORY, fit
from automem_learners.train.checkpoints import newest
from automem_learners.train.loop import Plan, learning_rate

FAST = {
    "lora": {"rank": 8, "alpha": 16},
    "learning_rate": 3e-3,
    "conversations_per_step": 8,
    "precision": "fp32",
    "max_steps": 12,
}


class Curve:
    """A tracker that keeps the losses; raises after `dies_after` steps where asked to."""

    def __init__(self, dies_after: int = 10**9) -> None:
        self.losses: dict[int, float] = {}
        self._dies_after = dies_after

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self.losses[step] = metrics["train/loss"]
        if len(self.losses) >= self._dies_after:
            raise KeyboardInterrupt

    def finish(self, summary: Mapping[str, object]) -> None: ...


def recipe(**changes: object) -> Recipe:
    return read_recipe(FAST | changes)


@pytest.fixture(scope="module")
def trained(dataset: Dataset, base: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    fit(dataset, recipe(epochs=8, max_steps=40), base, folder)
    return folder


def test_the_loss_falls_and_the_card_says_so(trained: Path) -> None:
    version = read_version(trained)
    assert version.last_loss < version.first_loss - 0.5
    assert version.name.startswith(f"{trained.name}-")
    assert (version.rank, version.steps, version.conversations) == (8, 40, 40)
    history = [json.loads(line) for line in (trained / HISTORY).read_text().splitlines()]
    assert [record["step"] for record in history] == list(range(40))
    assert history[0]["loss"] == version.first_loss
    assert not (trained / "checkpoints").exists()


def test_a_saved_adapter_loads_in_peft_with_equal_logits(
    trained: Path, base: str, dataset: Dataset
) -> None:
    version = read_version(trained)
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(plain, version.path).eval()
    ids = torch.from_numpy(dataset.conversations[0].token_ids)[None].long()
    with torch.no_grad():
        found = adapted(ids).logits
        with adapted.disable_adapter():
            untouched = adapted(ids).logits
        merged = adapted.merge_and_unload()(ids).logits
    reference = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    assert torch.allclose(untouched, reference(ids).logits, atol=1e-5)
    assert torch.allclose(found, merged, atol=1e-4)
    assert not torch.allclose(found, untouched, atol=1e-1)


def test_the_adapter_is_laid_out_as_vllm_wants_it(trained: Path) -> None:
    folder = Path(read_version(trained).path)
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["bias"]) == (8, 16, "none")
    assert not config["modules_to_save"]
    assert set(config["target_modules"]) == {
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    }  # fmt: skip
    weights = load_file(folder / "adapter_model.safetensors")
    assert len(weights) == 2 * 7 * 2
    assert all(name.startswith("base_model.model.model.layers.") for name in weights)
    assert all(name.endswith((".lora_A.weight", ".lora_B.weight")) for name in weights)


def test_full_fine_tuning_saves_a_model_of_its_own(
    dataset: Dataset, base: str, tmp_path: Path
) -> None:
    version = fit(dataset, recipe(lora=None), base, tmp_path)
    assert version.rank == 0
    model = AutoModelForCausalLM.from_pretrained(version.path, dtype=torch.float32)
    original = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    moved = sum(
        not torch.equal(one, other)
        for one, other in zip(model.parameters(), original.parameters(), strict=True)
    )
    assert moved == len(list(model.parameters()))
    assert (Path(version.path) / "tokenizer.json").is_file()


def test_microbatches_change_nothing(dataset: Dataset, base: str, tmp_path: Path) -> None:
    curves = []
    for number, tokens in enumerate((200, 100_000)):
        curve = Curve()
        scaling = Scaling(microbatch_tokens=tokens)
        fit(dataset, recipe(), base, tmp_path / str(number), scaling, curve)
        curves.append(list(curve.losses.values()))
    assert curves[0] == pytest.approx(curves[1], abs=1e-4)


def test_recomputing_activations_changes_nothing(
    dataset: Dataset, base: str, tmp_path: Path
) -> None:
    curves = []
    for saves_memory in (False, True):
        curve = Curve()
        scaling = Scaling(gradient_checkpointing=saves_memory)
        fit(dataset, recipe(), base, tmp_path / str(saves_memory), scaling, curve)
        curves.append(list(curve.losses.values()))
    assert curves[0] == pytest.approx(curves[1], abs=1e-4)


def test_bf16_follows_fp32(dataset: Dataset, base: str, tmp_path: Path) -> None:
    curves = []
    for precision in ("fp32", "bf16"):
        curve = Curve()
        fit(dataset, recipe(precision=precision), base, tmp_path / precision, tracker=curve)
        curves.append(list(curve.losses.values()))
    assert curves[0] == pytest.approx(curves[1], abs=0.05)
    weights = load_file(tmp_path / "bf16" / "adapter" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}  # master weights


def test_an_interrupted_training_goes_on_where_it_stopped(
    dataset: Dataset, base: str, tmp_path: Path
) -> None:
    given = recipe(lora={"rank": 8, "alpha": 16, "dropout": 0.1})
    scaling = Scaling(checkpoint_every=4)
    whole, first, second = Curve(), Curve(dies_after=6), Curve()
    unbroken = fit(dataset, given, base, tmp_path / "whole", scaling, whole)
    with pytest.raises(KeyboardInterrupt):
        fit(dataset, given, base, tmp_path / "broken", scaling, first)
    resumed = fit(dataset, given, base, tmp_path / "broken", scaling, second)
    assert list(second.losses) == list(range(4, 12))
    assert first.losses | second.losses == whole.losses
    assert resumed.weights == unbroken.weights


def test_frozen_weights_are_not_in_checkpoints(dataset: Dataset, base: str, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(dataset, recipe(), base, tmp_path, Scaling(checkpoint_every=4), Curve(dies_after=6))
    checkpoint = newest(tmp_path / "checkpoints")
    assert checkpoint is not None
    state = torch.load(checkpoint / "state-0.pt", weights_only=True)
    assert state["trained"]
    assert all("lora_" in name for name in state["trained"])


def test_forgetting_knows_a_checkpoint_by_the_dataset_and_the_adapter_that_it_began_from(
    trained: Path, dataset: Dataset, base: str, tmp_path: Path
) -> None:
    before, scaling = read_version(trained), Scaling(checkpoint_every=4)
    with pytest.raises(KeyboardInterrupt):
        fit(
            dataset, recipe(), base, tmp_path, scaling, Curve(dies_after=6),
            start=Path(before.path),
        )  # fmt: skip
    for source in (dataset.card.digest, before.weights):
        assert unfinished(tmp_path, {source}) == [tmp_path / "checkpoints"]
    assert not unfinished(tmp_path, {"another"})


def test_a_finished_training_is_not_repeated(trained: Path, dataset: Dataset, base: str) -> None:
    curve = Curve()
    again = fit(dataset, recipe(epochs=8, max_steps=40), base, trained, tracker=curve)
    assert again == read_version(trained)
    assert not curve.losses


def test_another_training_does_not_replace_a_version(
    trained: Path, dataset: Dataset, base: str
) -> None:
    with pytest.raises(UsageError, match="versions are immutable"):
        fit(dataset, recipe(seed=5), base, trained)


def test_another_training_does_not_take_over_a_checkpoint(
    dataset: Dataset, base: str, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(dataset, recipe(), base, tmp_path, Scaling(checkpoint_every=4), Curve(dies_after=6))
    with pytest.raises(UsageError, match="belongs to another training"):
        fit(dataset, recipe(seed=5), base, tmp_path)


def test_training_goes_on_from_an_adapter(
    trained: Path, dataset: Dataset, base: str, tmp_path: Path
) -> None:
    before = read_version(trained)
    after = fit(dataset, recipe(), base, tmp_path, start=Path(before.path))
    assert after.first_loss < before.first_loss - 0.3
    with pytest.raises(UsageError, match=r"lora\.rank is 4, but the adapter in .* has 8"):
        fit(dataset, recipe(lora={"rank": 4}), base, tmp_path / "b", start=Path(before.path))
    with pytest.raises(UsageError, match="holds no adapter"):
        fit(dataset, recipe(), base, tmp_path / "c", start=tmp_path)


def test_too_long_conversations_are_left_out_and_counted(
    dataset: Dataset, base: str, tmp_path: Path
) -> None:
    lengths = np.asarray([len(row.token_ids) for row in dataset.conversations])
    version = fit(dataset, recipe(max_tokens=100, max_steps=1), base, tmp_path)
    assert version.skipped == int((lengths > 100).sum()) > 0
    assert version.conversations + version.skipped == len(lengths)
    with pytest.raises(UsageError, match="every conversation is longer than max_tokens=3"):
        fit(dataset, recipe(max_tokens=3), base, tmp_path / "none")


def test_a_dataset_of_another_models_tokenizer_is_refused(
    dataset: Dataset, base: str, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(base, other)
    build_tokenizer(other, vocab_size=300)
    with pytest.raises(UsageError, match=r"was made with the tokenizer of .* but .* has another"):
        fit(dataset, recipe(), str(other), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_with_too_few_tokens_is_refused(tmp_path: Path, base: str) -> None:
    data = random_dataset(tmp_path / "data", base, conversations=4)
    data.conversations[0].token_ids[0] = 5000
    with pytest.raises(UsageError, match=r"token 5000, but .* has only 640"):
        make_job(data, recipe(), base, Scaling())


def test_a_missing_base_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no base model"):
        fit(dataset, recipe(), str(tmp_path / "nowhere"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_unknown_layer_is_refused(dataset: Dataset, base: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no layer 'q_prj'; did you mean 'q_proj'"):
        fit(dataset, recipe(lora={"targets": ["q_prj"]}), base, tmp_path / "out")


def test_a_rank_beyond_the_engines_is_refused(dataset: Dataset, base: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="accepts adapters up to rank 4"):
        fit(dataset, recipe(), base, tmp_path / "out", engine_max_rank=4)


def test_attention_means_the_attention_layers(dataset: Dataset, base: str, tmp_path: Path) -> None:
    given = recipe(lora={"rank": 4, "targets": "attention"}, max_steps=1)
    version = fit(dataset, given, base, tmp_path)
    config = json.loads((Path(version.path) / "adapter_config.json").read_text())
    assert set(config["target_modules"]) == {"q_proj", "k_proj", "v_proj", "o_proj"}


def test_the_learning_rate_rises_then_falls_as_a_cosine() -> None:
    given = Recipe(learning_rate=1.0, warmup=0.1)
    rates = [learning_rate(step, 100, given) for step in range(100)]
    assert rates[0] == 0.0
    assert rates[5] == 0.5
    assert rates[10] == 1.0 == max(rates)
    assert rates[55] == pytest.approx(0.5)
    assert rates[99] < 0.001
    assert learning_rate(50, 100, Recipe(learning_rate=1.0, schedule="constant")) == 1.0


def test_the_schedule_ends_where_the_training_ends(dataset: Dataset) -> None:
    examples = [row.example() for row in dataset.conversations]
    assert len(Plan.of(examples, recipe(max_steps=None, epochs=3)).steps) == 15
    assert len(Plan.of(examples, recipe(max_steps=7, epochs=3)).steps) == 7


def test_two_bases_of_one_tokenizer_take_the_same_data(dataset: Dataset, tmp_path: Path) -> None:
    other = build_base(tmp_path / "other", seed=3)
    assert fit(dataset, recipe(max_steps=1), other, tmp_path / "out").steps == 1
