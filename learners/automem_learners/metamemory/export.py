"""From an RLModule to the small file that sessions run: `gate.pt` and `gate.json`."""

import os
import warnings
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import torch

from automem.agent.gating.exported import CARD, WEIGHTS, GateCard
from automem.agent.gating.features import NAMES
from automem.errors import StoreError


class _Logits(torch.nn.Module):
    """The policy half of RLlib's default PPO module, without RLlib around it."""

    def __init__(self, layers: torch.nn.Sequential) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.layers(features)


def policy_layers(module: Any) -> torch.nn.Sequential:
    """Linear layers and activations of the module's policy, copied; shape (n, features) to (n, 6).

    They are found by running through the module's actor encoder and policy head in order, and
    checked against the module itself before they are returned."""
    from ray.rllib.core.columns import Columns

    actor = module.encoder.actor_encoder if hasattr(module.encoder, "actor_encoder") else None
    encoder = actor if actor is not None else module.encoder.encoder
    found: list[torch.nn.Module] = []
    for part in (encoder, module.pi):
        found += [
            leaf
            for leaf in part.modules()
            if not list(leaf.children()) and not isinstance(leaf, torch.nn.Identity)
        ]
    layers = torch.nn.Sequential(*found)
    probe = torch.linspace(-1.0, 1.0, 4 * len(NAMES)).reshape(4, len(NAMES))
    with torch.no_grad():
        theirs = module.forward_inference({Columns.OBS: probe})[Columns.ACTION_DIST_INPUTS]
        if not torch.allclose(layers(probe), theirs, atol=1e-6):
            raise StoreError("the exported gate would not decide as the module does")
    return layers


def export_gate(
    module: Any, folder: Path, is_sampled: bool = False, about: Mapping[str, Any] | None = None
) -> Path:
    """Write the gate to `folder`, whole or not at all; the folder."""
    net = _Logits(policy_layers(module)).eval()
    buffer = BytesIO()
    with torch.no_grad(), warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        torch.jit.save(torch.jit.trace(net, torch.zeros(1, len(NAMES))), buffer)
    card = GateCard(features=NAMES, is_sampled=is_sampled, about=dict(about or {}))
    folder.mkdir(parents=True, exist_ok=True)
    _replace(folder / WEIGHTS, buffer.getvalue())
    _replace(folder / CARD, msgspec.json.format(msgspec.json.encode(card), indent=1) + b"\n")
    return folder


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)
