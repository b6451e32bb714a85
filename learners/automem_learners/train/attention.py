"""Attention over packed rows: each conversation sees itself and nothing else.

Conversations lie one behind the other in one row, so linear layers waste nothing on padding; the
attention is computed per conversation, causally, and needs no mask: its cost is the sum of the
squares of the lengths, not the square of the sum. Works on CPU and GPU with torch's own fused
kernels. Not covered: models with sliding windows, soft-capped logits or attention sinks; loading
refuses them.
"""

from typing import Any

import torch
from transformers import AttentionInterface

from automem.errors import UsageError

NAME = "automem_packed"
"""Value of `attn_implementation` of a model that is trained on packed rows."""


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    lengths: tuple[int, ...] | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """query [1, heads, tokens, size], key and value [1, key heads, tokens, size].

    `lengths`: tokens of each conversation, in order; None: the row is one conversation.
    Gives [1, tokens, heads, size]."""
    sizes = list(lengths) if lengths is not None else [query.shape[2]]
    is_grouped = query.shape[1] != key.shape[1]
    parts = [
        torch.nn.functional.scaled_dot_product_attention(
            q, k, v, dropout_p=dropout, scale=scaling, is_causal=True, enable_gqa=is_grouped
        )
        for q, k, v in zip(
            query.split(sizes, dim=2),  # `split`: its backward is one concatenation
            key.split(sizes, dim=2),
            value.split(sizes, dim=2),
            strict=True,
        )
    ]
    return torch.cat(parts, dim=2).transpose(1, 2), None


def check_supported(config: Any) -> None:
    """UsageError where the model's attention is more than causal softmax attention."""
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    has_cap = getattr(config, "attn_logit_softcapping", None) is not None
    if kinds != {"full_attention"} or has_cap:
        what = "soft-capped attention" if has_cap else ", ".join(sorted(kinds))
        raise UsageError(
            f"packed training supports plain causal attention; {config.model_type} has {what}: "
            "choose another base model"
        )


AttentionInterface.register(NAME, packed_attention)
