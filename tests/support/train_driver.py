"""A training on Ray Train workers in a process of its own, to be killed and gone on with elsewhere.

    python -m support.train_driver DATASET BASE FOLDER URL

Prints each step as it is relayed, one number a line."""

import sys
from collections.abc import Mapping
from pathlib import Path

from automem_learners.dataset import load_dataset
from automem_learners.recipe import Scaling, read_recipe
from automem_learners.sft import fit


class Printer:
    """Tells the steps."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        print(step, flush=True)

    def finish(self, summary: Mapping[str, object]) -> None: ...


def main(dataset: str, base: str, folder: str, url: str) -> None:
    """24 steps, a checkpoint every 3."""
    recipe = read_recipe(
        {
            "lora": {"rank": 8, "alpha": 16},
            "conversations_per_step": 8,
            "precision": "fp32",
            "max_steps": 24,
            "epochs": 12,
        }
    )
    scaling = Scaling(
        backend="deepspeed",
        workers=1,
        microbatch_tokens=300,
        checkpoint_every=3,
        storage_url=url,
    )
    fit(load_dataset(Path(dataset)), recipe, base, Path(folder), scaling, Printer())


if __name__ == "__main__":
    main(*sys.argv[1:])
