"""DeepSpeed's backend: ZeRO stages 0 to 3 with offload, one worker of a process group.

DeepSpeed divides gradients by the number of workers (and would divide by accumulation steps); the
loss contract is a sum over the global batch, so the loss is multiplied back. When the optimizer
steps is ours to say: rows differ in number from step to step, so DeepSpeed's own counting of
micro-batches is off. The processes, devices and process group are made before (by Ray Train).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from automem_learners import adapters
from automem_learners.base_model import Base
from automem_learners.recipe import Recipe, Scaling
from automem_learners.train.loop import forward
from automem_learners.train.packing import Row

_TAG = "state"


def engine_config(recipe: Recipe, scaling: Scaling) -> dict[str, Any]:
    """DeepSpeed's configuration; learning rate and accumulation are the training loop's."""
    zero: dict[str, Any] = {
        "stage": scaling.zero_stage,
        "contiguous_gradients": True,
        "overlap_comm": False,  # own accumulation boundaries allow it at stage 2 alone
    }
    if scaling.offload != "none":
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": scaling.gpus_per_worker > 0}
    if scaling.offload == "all":
        zero["offload_param"] = {"device": "cpu", "pin_memory": scaling.gpus_per_worker > 0}
    is_low = recipe.precision == "bf16"
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": recipe.clip,
        # stage 0 keeps no fp32 master weights beside bf16 ones (0.19.8: the loss drifts off)
        "bf16": {"enabled": is_low and scaling.zero_stage > 0},
        "torch_autocast": {"enabled": is_low and scaling.zero_stage == 0, "dtype": "bfloat16"},
        "zero_optimization": zero,
        "zero_force_ds_cpu_optimizer": False,  # torch's AdamW everywhere: nothing to compile
        "steps_per_print": 1 << 30,
    }


class ZeroStepper:
    """A `Stepper` over `deepspeed.initialize`."""

    def __init__(
        self,
        base: Base,
        recipe: Recipe,
        scaling: Scaling,
        start: Path | None,
        device: torch.device,
    ) -> None:
        import deepspeed
        from transformers.integrations import HfDeepSpeedConfig

        # a shared-memory kernel for inference on CPUs, which DeepSpeed would compile first
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        self.worker = int(os.environ["RANK"])
        self.workers = int(os.environ["WORLD_SIZE"])
        self.layout = f"zero-{scaling.zero_stage}"
        self.device = device
        config = engine_config(recipe, scaling)
        # while this object lives, stage 3 loads each weight already split over the workers
        self._loading = HfDeepSpeedConfig(config)
        dtype = torch.bfloat16 if recipe.precision == "bf16" else torch.float32
        model = adapters.prepare(base, recipe, start, dtype)
        if scaling.gradient_checkpointing:
            adapters.recompute_activations(model)
        trained = [p for p in model.parameters() if p.requires_grad]
        if scaling.zero_stage == 0:
            for parameter in trained:
                parameter.data = parameter.data.float()
        optimizer = torch.optim.AdamW(
            trained, lr=0.0, betas=recipe.betas, weight_decay=recipe.weight_decay
        )
        self.model = model
        self._engine, self._optimizer, *_ = deepspeed.initialize(
            model=model, optimizer=optimizer, config=config, dist_init_required=False
        )
        self._engine.train()

    def log_probs(self, row: Row) -> torch.Tensor:
        return forward(self._engine, row, self.device)

    def backward(self, loss: torch.Tensor) -> None:
        self._engine.backward(loss * self.workers)

    def update(self, learning_rate: float) -> float | None:
        for group in self._engine.optimizer.param_groups:
            group["lr"] = learning_rate
        self._engine.step()
        norm = self._engine.get_global_grad_norm()
        return None if norm is None else float(norm)

    def total(self, value: float) -> float:
        tensor = torch.tensor(value, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(tensor)
        return float(tensor)

    @contextmanager
    def scoring(self, of_base: bool) -> Iterator[None]:
        with adapters.scored(self.model, of_base):
            yield

    def gather(self, mine: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
        everyones: list[Any] = [None] * self.workers
        torch.distributed.all_gather_object(everyones, mine)
        return {index: values for part in everyones for index, values in part.items()}

    def save(self, folder: Path) -> None:
        self._engine.save_checkpoint(str(folder), tag=_TAG, exclude_frozen_parameters=True)

    def load(self, folder: Path) -> None:
        path, _ = self._engine.load_checkpoint(str(folder), tag=_TAG, load_module_strict=False)
        if path is None:
            raise FileNotFoundError(f"DeepSpeed found no checkpoint in {folder}")
