"""Whether vLLM can use a PEFT folder: asked before it is shown one.

vLLM takes adapters of other shapes and options that it does not know (a rank per module, say)
without a word, and asks a hub for a folder that is not there. Here they are refused with the
reason. Only headers are read; no weights are loaded.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from automem.engine.models import LOADING, resolve
from automem.errors import EngineRequestError

_PREFIX = "base_model.model."
_DOWN, _UP = ".lora_A.weight", ".lora_B.weight"
_REFUSED = ("use_dora", "modules_to_save", "rank_pattern", "alpha_pattern", "fan_in_fan_out")


def linear_shapes(model: str) -> dict[str, tuple[int, int]]:
    """Module path -> (out, in) of every linear layer but the head; no weights are loaded."""
    import torch
    from torch import nn

    with LOADING, torch.device("meta"):
        from transformers import AutoConfig, AutoModelForCausalLM

        shell: Any = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(resolve(model)))
    head = shell.get_output_embeddings()
    return {
        path: (module.out_features, module.in_features)
        for path, module in shell.named_modules()
        if isinstance(module, nn.Linear) and module is not head
    }


def check_adapter(
    name: str, path: str, max_rank: int, shapes: Mapping[str, tuple[int, int]]
) -> None:
    """EngineRequestError where vLLM cannot use it, or would use it wrongly."""
    if not max_rank:
        raise EngineRequestError(
            "this engine was started without adapters: set engine.target.max_lora_rank"
        )
    try:
        config = json.loads((Path(path) / "adapter_config.json").read_bytes())
        rank = int(config["r"])
        found = _shapes_in(Path(path) / "adapter_model.safetensors")
    except (OSError, ValueError, KeyError) as error:
        raise EngineRequestError(
            f"no adapter can be read from {path}: expected a PEFT folder with "
            f"adapter_config.json and adapter_model.safetensors ({error})"
        ) from error
    refused = [option for option in _REFUSED if config.get(option)]
    if refused or config.get("bias", "none") != "none":
        raise EngineRequestError(
            f"the adapter in {path} uses {', '.join(refused) or 'trained biases'}, which vLLM "
            "does not do: train plain LoRA"
        )
    if rank > max_rank:
        raise EngineRequestError(
            f"adapter {name!r} has rank {rank}, this engine takes up to {max_rank}: raise "
            "engine.target.max_lora_rank"
        )
    _compare(name, found, rank, shapes)


def _shapes_in(file: Path) -> dict[str, tuple[int, ...]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(file), framework="numpy") as weights:
            return {key: tuple(weights.get_slice(key).get_shape()) for key in weights.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _compare(
    name: str,
    found: Mapping[str, tuple[int, ...]],
    rank: int,
    shapes: Mapping[str, tuple[int, int]],
) -> None:
    for key, shape in found.items():
        module = key.removeprefix(_PREFIX).removesuffix(_DOWN).removesuffix(_UP)
        if module not in shapes:
            raise EngineRequestError(
                f"adapter {name!r} changes {module!r}, which is no linear layer of this model's "
                "decoder (embeddings and the output head cannot be adapted)"
            )
        out, into = shapes[module]
        expected = (rank, into) if key.endswith(_DOWN) else (out, rank)
        if shape != expected:
            raise EngineRequestError(
                f"adapter {name!r} was trained for another model: {key} is {shape}, "
                f"expected {expected}"
            )
