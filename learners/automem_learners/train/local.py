"""One process, one device, plain torch: the laptop's backend, without a start-up of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from automem_learners.adapters import scored
from automem_learners.recipe import Recipe
from automem_learners.train.loop import forward
from automem_learners.train.packing import Row

_FILE = "state-0.pt"


class LocalStepper:
    """A `Stepper` of one worker. Under bf16 the frozen weights are bf16; what is trained is kept
    in fp32 and computed with in bf16 (autocast)."""

    worker = 0
    workers = 1
    layout = "local"

    def __init__(self, model: torch.nn.Module, recipe: Recipe, device: torch.device) -> None:
        self.device = device
        self.model = model.to(device).train()
        self._recipe = recipe
        self._trained = [p for p in model.parameters() if p.requires_grad]
        for parameter in self._trained:
            parameter.data = parameter.data.float()
        self._optimizer = torch.optim.AdamW(
            self._trained, betas=recipe.betas, weight_decay=recipe.weight_decay, foreach=True
        )

    def log_probs(self, row: Row) -> torch.Tensor:
        is_low = self._recipe.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=is_low):
            return forward(self.model, row, self.device)

    def backward(self, loss: torch.Tensor) -> None:
        loss.backward()

    def update(self, learning_rate: float) -> float | None:
        limit = self._recipe.clip or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(self._trained, limit)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return float(norm)

    def total(self, value: float) -> float:
        return value

    @contextmanager
    def scoring(self, of_base: bool) -> Iterator[None]:
        with scored(self.model, of_base):
            yield

    def gather(self, mine: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
        return mine

    def save(self, folder: Path) -> None:
        names = {n: p.detach() for n, p in self.model.named_parameters() if p.requires_grad}
        state = {"trained": names, "optimizer": self._optimizer.state_dict()}
        torch.save(state, folder / _FILE)

    def load(self, folder: Path) -> None:
        state = torch.load(folder / _FILE, map_location=self.device, weights_only=True)
        named = dict(self.model.named_parameters())
        with torch.no_grad():
            for name, value in state["trained"].items():
                named[name].copy_(value)
        self._optimizer.load_state_dict(state["optimizer"])
