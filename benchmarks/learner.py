"""Tokens per second of training: our learner, a plain transformers + peft loop, TRL's SFTTrainer.

The same LoRA (rank 16 on every linear layer, fp32, dropout 0), model (the embedded game's shape,
random weights), conversations (memory turns of Concentration, played by the scripted player),
optimizer steps (16 conversations, or as many tokens) and cores, in one run. What counts are the
tokens of the conversations: padding does not. TRL gets each of the settings below; its best one is
compared. Arms take turns, and each arm's best round counts: on a shared machine noise only adds.

    pip install -e '.[bench]'
    python benchmarks/learner.py [--rounds 3] [--threads 2] [--episodes 8] [--vocabulary 0]
"""

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from rich.console import Console
from rich.table import Table

from automem.commands.plan import spec_from
from automem.config import compose
from automem.memory.dialects.tags import TagsDialect
from automem.rollout.journal import read_events
from automem.rollout.run import run_rollout
from automem_learners.adapters import prepare
from automem_learners.base_model import Base, find_base
from automem_learners.pretrain.model import ModelShape, build_model, save_model
from automem_learners.published import PublishedReader
from automem_learners.recipe import Lora, Recipe
from automem_learners.train.local import LocalStepper
from automem_learners.train.loop import Plan, train
from automem_learners.train.loss import Imitation
from automem_learners.train.packing import Example

PER_STEP = 16
RECIPE = Recipe(
    lora=Lora(rank=16, alpha=32),
    learning_rate=1e-4,
    epochs=1,
    conversations_per_step=PER_STEP,
    precision="fp32",
)
TRL_SETTINGS: dict[str, dict[str, Any]] = {
    "TRL, padded": {"packing": False},
    "TRL, padding-free": {"packing": False, "padding_free": True, "max_length": None},
    "TRL, packing 512": {"packing": True, "max_length": 512},
    "TRL, packing 1024": {"packing": True, "max_length": 1024},
    "TRL, packing 2048": {"packing": True, "max_length": 2048},
}

Arm = Callable[[Base, Sequence[Example]], float]
"""Trains over the examples once; tokens per second, the first step left out."""


def conversations(folder: Path, base: str, episodes: int) -> list[Example]:
    """Memory turns of real games, tokenised by the published rules."""
    words = ["env=concentration", "engine=scripted", "rollout.seeds=train"]
    spec = spec_from(compose("config", [*words, f"rollout.episodes={episodes}"]))
    run_rollout(spec, folder)
    reader = PublishedReader(base, TagsDialect())
    return [
        row.example()
        for episode in sorted((folder / "episodes").iterdir())
        for row in reader.conversations(read_events(episode))
    ]


def ours(base: Base, examples: Sequence[Example]) -> float:
    model = prepare(base, RECIPE, None, torch.float32)
    stepper = LocalStepper(model, RECIPE, torch.device("cpu"))
    plan = Plan.of(examples, RECIPE)
    records = list(train(stepper, plan, RECIPE, 4096, Imitation()))[1:]
    return sum(r.tokens for r in records) / sum(r.seconds for r in records)


def plain(base: Base, examples: Sequence[Example]) -> float:
    """What one writes first: padded batches in random order, the model's own loss."""
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base.location, dtype=torch.float32)
    model = get_peft_model(model, _lora_config()).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    order = np.random.default_rng(0).permutation(len(examples))
    tokens, started = 0, 0.0
    for at in range(0, len(order), PER_STEP):
        batch = [examples[i] for i in order[at : at + PER_STEP]]
        ids, labels, mask = _padded(batch)
        model(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if at == 0:
            started = time.perf_counter()
        else:
            tokens += int(mask.sum())
    return tokens / (time.perf_counter() - started)


def trl(settings: dict[str, Any], folder: Path) -> Arm:
    def arm(base: Base, examples: Sequence[Example]) -> float:
        from datasets import Dataset, disable_progress_bars
        from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
        from trl import SFTConfig, SFTTrainer

        class Clock(TrainerCallback):
            """When the first step ended, and when the last one did."""

            first = last = 0.0

            def on_step_end(self, *args: Any, **kwargs: Any) -> None:
                self.last = time.perf_counter()
                self.first = self.first or self.last

        disable_progress_bars()
        mean = sum(len(e.token_ids) for e in examples) / len(examples)
        rows = settings.get("max_length")  # packed rows are as many as hold 16 conversations
        size = PER_STEP if rows is None else max(1, round(PER_STEP * mean / rows))
        config = SFTConfig(
            output_dir=str(folder), per_device_train_batch_size=size, num_train_epochs=1,
            learning_rate=1e-4, report_to=[], save_strategy="no", logging_strategy="no",
            gradient_checkpointing=False, use_cpu=True, bf16=False, disable_tqdm=True,
            dataloader_pin_memory=False, max_grad_norm=1.0, **settings,
        )  # fmt: skip
        clock = Clock()
        trainer = SFTTrainer(
            model=AutoModelForCausalLM.from_pretrained(base.location, dtype=torch.float32),
            args=config,
            train_dataset=Dataset.from_list([_labelled(example) for example in examples]),
            processing_class=AutoTokenizer.from_pretrained(base.location),
            peft_config=_lora_config(),
            callbacks=[clock],
        )
        steps = len(trainer.get_train_dataloader())
        trainer.train()
        tokens = sum(len(example.token_ids) for example in examples) * (steps - 1) / steps
        return tokens / (clock.last - clock.first)

    return arm


def _lora_config() -> Any:
    from peft import LoraConfig

    return LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")


def _labels(example: Example) -> np.ndarray:
    return np.where(example.weights > 0, example.token_ids, -100).astype(np.int64)


def _labelled(example: Example) -> dict[str, list[int]]:
    return {"input_ids": example.token_ids.tolist(), "labels": _labels(example).tolist()}


def _padded(batch: Sequence[Example]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    longest = max(len(example.token_ids) for example in batch)
    ids = np.zeros((len(batch), longest), np.int64)
    labels, mask = np.full_like(ids, -100), np.zeros_like(ids)
    for row, example in enumerate(batch):
        length = len(example.token_ids)
        ids[row, :length], labels[row, :length] = example.token_ids, _labels(example)
        mask[row, :length] = 1
    return torch.from_numpy(ids), torch.from_numpy(labels), torch.from_numpy(mask)


def measure(base: Base, examples: Sequence[Example], rounds: int) -> Iterator[tuple[str, float]]:
    """(arm, tokens per second), all arms in every round."""
    with tempfile.TemporaryDirectory() as scratch:
        arms: dict[str, Arm] = {"ours": ours, "transformers + peft, plain loop": plain}
        arms |= {name: trl(settings, Path(scratch)) for name, settings in TRL_SETTINGS.items()}
        for _ in range(rounds):
            for name, arm in arms.items():
                yield name, arm(base, examples)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--episodes", type=int, default=8)
    parser.add_argument("--vocabulary", type=int, default=0, help="rows of the embedding; 0: own")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    warnings.simplefilter("ignore")
    transformers.utils.logging.disable_progress_bar()
    console = Console()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = build_model(ModelShape(), seed=0)
        if given.vocabulary:
            model.resize_token_embeddings(given.vocabulary)
        save_model(model, folder / "base", torch.float32)
        base = find_base(str(folder / "base"))
        examples = conversations(folder / "run", base.name, given.episodes)
        lengths = [len(example.token_ids) for example in examples]
        console.print(
            f"{len(examples)} conversations of {min(lengths)} to {max(lengths)} tokens (mean "
            f"{np.mean(lengths):.0f}), vocabulary {base.vocabulary}, {given.threads} thread(s)"
        )
        best: dict[str, float] = {}
        for name, rate in measure(base, examples, given.rounds):
            best[name] = max(rate, best.get(name, 0.0))
    table = Table("learner", "tokens/s", "ours is")
    for name, rate in best.items():
        table.add_row(name, f"{rate:,.0f}", f"{best['ours'] / rate:.2f}x")
    console.print(table)
    rival = max(rate for name, rate in best.items() if name.startswith("TRL"))
    console.print(f"ours against TRL at its best: {best['ours'] / rival:.2f}x (at least 1.0x)")


if __name__ == "__main__":
    main()
