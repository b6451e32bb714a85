"""A transformers causal language model whose forward pass runs over slots.

Any model that uses transformers' attention interface and rotary-like positions works (Llama, Qwen,
Mistral and kin); what cannot is refused when it is loaded, with the reason.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from automem.engine import slots
from automem.engine.adapters import AdapterSet
from automem.engine.models import LOADING, resolve
from automem.engine.render import load_tokenizer
from automem.engine.slots import FillPlan, Plan, SlotCache, SlotShape, StepPlan
from automem.errors import UsageError


@dataclass(frozen=True, slots=True)
class FillRow:
    """One block of a prompt, to be filled into a slot."""

    slot: int
    block: int
    tokens: tuple[int, ...]
    """At most a block's worth; the rest is padding, masked until it is overwritten."""
    adapter: str | None
    key: bytes | None
    """Names the block in the prefix index; None where it is not to be kept."""


def load_model(name: str, device: torch.device, dtype: torch.dtype) -> Any:
    """The model, ready for inference, attending through slots."""
    with LOADING:
        return _load(name, device, dtype)


def _load(name: str, device: torch.device, dtype: torch.dtype) -> Any:
    from transformers import AutoModelForCausalLM
    from transformers.modeling_utils import AttentionInterface
    from transformers.utils import logging

    logging.disable_progress_bar()  # it would be drawn over the run's own
    AttentionInterface.register(slots.ATTENTION, slots.attention)
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            resolve(name), dtype=dtype, attn_implementation=slots.ATTENTION
        )
    except (OSError, ValueError) as error:
        raise UsageError(
            f"no causal language model can be loaded from {name!r}: expected a folder with "
            f"config.json and weights, or a model name of the hub ({error})"
        ) from error
    kinds = set(getattr(model.config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"}:
        raise UsageError(
            f"{name!r} has layers of kind {', '.join(sorted(kinds))}; this engine does full "
            "attention only: use engine=vllm"
        )
    return model.to(device).eval()


class SlotModel:
    """Model, tokenizer, slots and adapters; one forward pass per call, no policy."""

    def __init__(
        self,
        name: str,
        *,
        device: torch.device,
        dtype: torch.dtype,
        batch: int,
        context_tokens: int,
        block_tokens: int,
        pool_tokens: int,
    ) -> None:
        """`context_tokens` 0: as many as the model was trained for."""
        self.device = device
        self.tokenizer = load_tokenizer(name)
        self._model = load_model(name, device, dtype)
        config = self._model.config.get_text_config()
        heads = config.num_attention_heads
        limit = config.max_position_embeddings
        context = min(context_tokens, limit) if context_tokens else limit
        self.context_tokens = context // block_tokens * block_tokens
        self.vocabulary = int(config.vocab_size)
        key_heads = getattr(config, "num_key_value_heads", None) or heads
        shape = SlotShape(
            slots=batch + 2,
            context=self.context_tokens,
            block=block_tokens,
            pool=pool_tokens // block_tokens,
            layers=config.num_hidden_layers,
            key_heads=key_heads,
            shared=heads // key_heads,
            head_size=getattr(config, "head_dim", None) or config.hidden_size // heads,
        )
        try:
            self.cache = SlotCache(shape, dtype, device)
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise UsageError(
                f"no memory for {batch} slots of {self.context_tokens} tokens: lower "
                f"engine.target.max_batch, context_tokens or prefix_cache_tokens ({error})"
            ) from error
        self.pad_slot, self.side_slot = batch, batch + 1
        """Slots beside those of the batch: for padding rows, and for scoring."""
        self.adapters = AdapterSet(self._model)
        self.end_ids = self._end_ids()

    def fill(self, rows: Sequence[FillRow], stored: dict[int, int]) -> None:
        """Compute and store keys and values of prompt blocks; `rows` are ordered by block.

        `stored`: place in the prefix pool -> row to keep there."""
        tokens, plan = self._fill_inputs(rows, stored)
        self._model.base_model(
            input_ids=tokens, position_ids=plan.positions, use_cache=False, slot_plan=plan
        )

    def score(self, rows: Sequence[FillRow]) -> torch.Tensor:
        """As `fill`; logits [rows, tokens of a block, vocabulary]."""
        tokens, plan = self._fill_inputs(rows, {})
        return self._forward(tokens, plan.positions, plan)

    def step(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        lengths: list[int],
        adapters: list[tuple[str, torch.Tensor | None]],
    ) -> torch.Tensor:
        """One token of each of the first slots; tokens, positions [rows] -> logits [rows, V]."""
        self.adapters.active.rows = adapters
        plan = StepPlan(self.cache, positions, lengths)
        return self._forward(tokens[:, None], positions[:, None], plan)[:, 0]

    def adapter_rows(self, names: Sequence[str | None]) -> list[tuple[str, torch.Tensor | None]]:
        """Which rows use which adapter, as a forward pass needs it."""
        distinct = sorted({name for name in names if name is not None})
        if len(distinct) == 1 and None not in names:
            return [(distinct[0], None)]
        return [
            (name, torch.tensor([n == name for n in names], device=self.device)[:, None, None])
            for name in distinct
        ]

    def _fill_inputs(
        self, rows: Sequence[FillRow], stored: dict[int, int]
    ) -> tuple[torch.Tensor, FillPlan]:
        self.adapters.active.rows = self.adapter_rows([row.adapter for row in rows])
        size = self.cache.shape.block
        padded = [row.tokens + (0,) * (size - len(row.tokens)) for row in rows]
        plan = FillPlan(self.cache, [r.slot for r in rows], [r.block for r in rows], stored)
        return torch.tensor(padded, device=self.device), plan

    def _forward(self, tokens: torch.Tensor, positions: torch.Tensor, plan: Plan) -> torch.Tensor:
        logits: torch.Tensor = self._model(
            input_ids=tokens, position_ids=positions, use_cache=False, slot_plan=plan
        ).logits
        return logits

    def _end_ids(self) -> frozenset[int]:
        known = [self._model.generation_config.eos_token_id, self._model.config.eos_token_id]
        ids = {self.tokenizer.eos_token_id}
        for value in known:
            ids.update(value if isinstance(value, list) else [value])
        return frozenset(token for token in ids if token is not None)
