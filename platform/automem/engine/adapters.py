"""LoRA adapters beside an untouched base, chosen row by row.

Promise: the base's weights are never changed, and a row without an adapter takes the same path
through the same numbers whether adapters are loaded, or present in the batch, or not.

Not covered: adapters on embeddings or the output head, DoRA, trained biases and fully trained
modules; they are refused with the reason.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from automem.errors import EngineRequestError

_PREFIX = "base_model.model."


@dataclass(slots=True)
class ActiveAdapters:
    """Which rows of the present forward pass use which adapter; set before each pass."""

    rows: list[tuple[str, torch.Tensor | None]] = field(default_factory=list)
    """(name, mask): mask bool [rows, 1, 1], or None where every row uses it."""


class AdaptedLinear(nn.Module):
    """A linear layer that adds each active adapter's product to that adapter's rows."""

    def __init__(self, base: nn.Linear, active: ActiveAdapters) -> None:
        super().__init__()
        self.weight = base.weight
        self.bias = base.bias
        self.in_features, self.out_features = base.in_features, base.out_features
        self._active = active
        self._adapters: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def add(self, name: str, down: torch.Tensor, up: torch.Tensor) -> None:
        """`down` [rank, in], `up` [out, rank], the scale already in `up`."""
        self._adapters[name] = (
            down.to(self.weight.device, self.weight.dtype).contiguous(),
            up.to(self.weight.device, self.weight.dtype).contiguous(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.linear(x, self.weight, self.bias)
        for name, mask in self._active.rows:
            matrices = self._adapters.get(name)
            if matrices is None:
                continue
            adapted = y + functional.linear(functional.linear(x, matrices[0]), matrices[1])
            y = adapted if mask is None else torch.where(mask, adapted, y)
        return y


class AdapterSet:
    """The adapters of one model; layers are wrapped when the first one is loaded."""

    def __init__(self, model: Any) -> None:
        """`model`: a causal language model of transformers; its linear layers get wrapped."""
        self._model = model
        self._layers: dict[str, AdaptedLinear] = {}
        self._paths: dict[str, str] = {}
        self.active = ActiveAdapters()

    def __contains__(self, name: str) -> bool:
        return name in self._paths

    def load(self, name: str, path: str) -> None:
        """Read a PEFT folder. A name stands for one folder for ever."""
        known = self._paths.get(name)
        if known is not None:
            if known != path:
                raise EngineRequestError(
                    f"adapter {name!r} is already loaded from {known}; adapter names are never "
                    "reused: give the new one a new name"
                )
            return
        pairs = _read(Path(path))
        if not self._layers:
            self._wrap()
        unknown = [module for module in pairs if module not in self._layers]
        if unknown:
            raise EngineRequestError(
                f"adapter {name!r} changes {unknown[0]!r}, which is no linear layer of this "
                "model's decoder (embeddings and the output head cannot be adapted)"
            )
        for module, (down, up) in pairs.items():
            layer = self._layers[module]
            if down.shape[1] != layer.in_features or up.shape[0] != layer.out_features:
                raise EngineRequestError(
                    f"adapter {name!r} was trained for another model: {module} is "
                    f"{layer.out_features} x {layer.in_features} here, "
                    f"{up.shape[0]} x {down.shape[1]} in the adapter"
                )
        for module, (down, up) in pairs.items():
            self._layers[module].add(name, down, up)
        self._paths[name] = path

    def _wrap(self) -> None:
        head = self._model.get_output_embeddings()
        for path, module in list(self._model.named_modules()):
            if isinstance(module, nn.Linear) and module is not head:
                parent, _, child = path.rpartition(".")
                self._layers[path] = AdaptedLinear(module, self.active)
                setattr(self._model.get_submodule(parent), child, self._layers[path])


def _read(folder: Path) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Module path -> (down, scaled up) of a PEFT LoRA folder."""
    from peft import LoraConfig, PeftConfig
    from peft.utils import load_peft_weights

    try:
        config = PeftConfig.from_pretrained(str(folder))
        weights = load_peft_weights(str(folder), device="cpu")
    except (OSError, ValueError) as error:
        raise EngineRequestError(
            f"no adapter can be read from {folder}: expected a PEFT folder with "
            f"adapter_config.json and adapter_model.safetensors ({error})"
        ) from error
    if not isinstance(config, LoraConfig):
        raise EngineRequestError(f"{folder} holds a {config.peft_type} adapter, expected LORA")
    refused = [
        option
        for option in ("use_dora", "modules_to_save", "rank_pattern", "alpha_pattern")
        if getattr(config, option, None)
    ]
    if refused or config.bias != "none":
        raise EngineRequestError(
            f"the adapter in {folder} uses {', '.join(refused) or 'trained biases'}, which this "
            "engine does not do: train plain LoRA"
        )
    scale = config.lora_alpha / (config.r**0.5 if config.use_rslora else config.r)
    return _pairs(weights, scale, folder)


def _pairs(
    weights: dict[str, Any], scale: float, folder: Path
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    down = {key: value for key, value in weights.items() if key.endswith(".lora_A.weight")}
    up = {key: value for key, value in weights.items() if key.endswith(".lora_B.weight")}
    if not down or len(down) != len(up) or len(down) + len(up) != len(weights):
        raise EngineRequestError(f"{folder} holds weights other than pairs of lora_A and lora_B")
    return {
        key.removeprefix(_PREFIX).removesuffix(".lora_A.weight"): (
            matrix.float(),
            up[key.replace(".lora_A.", ".lora_B.")].float() * scale,
        )
        for key, matrix in down.items()
    }
