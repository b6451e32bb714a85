"""Keys and values of many conversations in slots, and the attention over them.

A slot is a row of a fixed buffer. A prompt is filled in as *blocks* (rows of a fixed number of
tokens, any mix of prompts in one pass); decoding takes one token of each slot per pass. Both run
through the model's own forward pass: the attention function registered here stores the new keys and
values by the pass's plan and attends within each row's own slot.

Promise: what a row reads is a shape that its own length determines, so it does not depend on what
the other rows hold. Not covered: sliding windows, soft-capped scores, cross-attention, paging
(memory is slots x context; large models on small cards belong in vLLM).
"""

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch.nn import functional

ATTENTION = "automem_slots"
"""Name under which the attention function is registered with transformers."""


@dataclass(frozen=True, slots=True)
class SlotShape:
    """Sizes of a cache."""

    slots: int
    context: int
    """Tokens a slot can hold: a multiple of `block`."""
    block: int
    """Tokens a block."""
    pool: int
    """Blocks kept for prompts to come that share a prefix."""
    layers: int
    key_heads: int
    shared: int
    """Query heads that share a key head."""
    head_size: int


def _zeros(sizes: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """A tensor of zeros whose pages, on a CPU, take no memory until they are written.

    Zeros, not `empty`: masked positions are multiplied by 0, and 0 x NaN is NaN."""
    if device.type != "cpu":
        return torch.zeros(sizes, dtype=dtype, device=device)
    size = math.prod(sizes) * dtype.itemsize
    # numpy's zeros come from calloc, torch's are written; 64 is a cache line.
    memory = np.zeros(size + 64, dtype=np.uint8)
    start = -memory.ctypes.data % 64
    return torch.from_numpy(memory)[start : start + size].view(dtype).view(sizes)


class SlotCache:
    """The buffers; one block beyond the context takes the writes of rows that are idle."""

    def __init__(self, shape: SlotShape, dtype: torch.dtype, device: torch.device) -> None:
        self.shape = shape
        blocks = shape.context // shape.block + 1
        heads, size = shape.key_heads, shape.head_size

        def zeros(*sizes: int) -> list[torch.Tensor]:
            return [_zeros(sizes, dtype, device) for _ in range(2 * shape.layers)]

        # [key or value of layer][slot, head, block, token in block, size]
        self.blocks = zeros(shape.slots, heads, blocks, shape.block, size)
        self.slots = [buffer.flatten(2, 3) for buffer in self.blocks]
        self.pool = zeros(shape.pool, heads, shape.block, size)
        steps = torch.arange(shape.block, device=device)
        tail = torch.zeros(shape.block, shape.block, device=device, dtype=dtype)
        tail.masked_fill_(steps[None, :] > steps[:, None], float("-inf"))
        # Its last columns are a causal block; a view that ends there masks any block index.
        self.causal = functional.pad(tail, (shape.context, 0)).repeat(shape.shared, 1)

    def recall(self, slots: list[int], blocks: list[int], places: list[int]) -> None:
        """Copy stored blocks from `places` of the pool into blocks of slots."""
        device = self.causal.device
        slot, block, place = (torch.tensor(x, device=device) for x in (slots, blocks, places))
        for buffer, pool in zip(self.blocks, self.pool, strict=True):
            buffer[slot, :, block] = pool[place]

    def move(self, source: int, target: int, tokens: int) -> None:
        """Copy the first `tokens` of one slot to another."""
        for buffer in self.slots:
            buffer[target, :, :tokens] = buffer[source, :, :tokens]


class Plan(Protocol):
    """Where one forward pass stores and reads."""

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """query [rows, heads, tokens, size] -> [rows, tokens, heads, size]."""
        ...


class FillPlan:
    """A pass over blocks of prompts."""

    def __init__(
        self,
        cache: SlotCache,
        slots: list[int],
        blocks: list[int],
        stored: dict[int, int],
    ) -> None:
        """Row i is block `blocks[i]` of slot `slots[i]`, rows ordered by block.

        `stored`: place in the pool -> row to keep there."""
        self._cache = cache
        device = cache.causal.device
        self._slots = torch.tensor(slots, device=device)
        self._blocks = torch.tensor(blocks, device=device)
        self._places = torch.tensor(list(stored), device=device) if stored else None
        self._stored = torch.tensor(list(stored.values()), device=device)
        starts = [i for i, block in enumerate(blocks) if i == 0 or blocks[i - 1] != block]
        self._groups = [
            (blocks[start], start, end)
            for start, end in zip(starts, [*starts[1:], len(blocks)], strict=True)
        ]
        size = cache.shape.block
        self.positions = self._blocks[:, None] * size + torch.arange(size, device=device)

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> torch.Tensor:
        cache, size = self._cache, self._cache.shape.block
        for new, index in ((key, 2 * layer), (value, 2 * layer + 1)):
            cache.blocks[index][self._slots, :, self._blocks] = new
            if self._places is not None:
                cache.pool[index][self._places] = new[self._stored]
        keys, values = cache.slots[2 * layer], cache.slots[2 * layer + 1]
        rows, heads, _, width = query.shape
        # Query heads that share keys lie side by side: one product serves them all.
        query = query.reshape(rows, key.shape[1], -1, width)
        parts = []
        for block, start, end in self._groups:
            length = (block + 1) * size
            slots = self._slots[start:end]
            parts.append(
                functional.scaled_dot_product_attention(
                    query[start:end],
                    keys[:, :, :length].index_select(0, slots),
                    values[:, :, :length].index_select(0, slots),
                    attn_mask=cache.causal[:, -length:],
                    scale=scale,
                )
            )
        out = torch.cat(parts).view(rows, heads, size, width)
        return out.transpose(1, 2)


class StepPlan:
    """A pass over one token of each of the first `rows` slots."""

    def __init__(self, cache: SlotCache, positions: torch.Tensor, lengths: list[int]) -> None:
        """`positions` [rows]: where each row's token goes. `lengths`: how many positions rows may
        read, ascending; each row reads within the smallest that holds it."""
        self._cache = cache
        self._rows = torch.arange(len(positions), device=positions.device)
        self.positions = positions
        self._groups: list[tuple[int, torch.Tensor, torch.Tensor | None]] = []
        dtype = cache.causal.dtype
        for i, length in enumerate(lengths):
            columns = torch.arange(length, device=positions.device)
            mask = torch.zeros((), dtype=dtype, device=positions.device).where(
                columns <= positions[:, None], float("-inf")
            )
            select = (positions >= lengths[i - 1])[:, None, None, None] if i else None
            self._groups.append((length, mask[:, None, None, :], select))

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> torch.Tensor:
        keys, values = self._cache.slots[2 * layer], self._cache.slots[2 * layer + 1]
        keys[self._rows, :, self.positions] = key[:, :, 0]
        values[self._rows, :, self.positions] = value[:, :, 0]
        rows, heads, _, width = query.shape
        query = query.reshape(rows, key.shape[1], -1, width) * scale
        out: torch.Tensor | None = None
        for length, mask, select in self._groups:
            scores = torch.matmul(query, keys[:rows, :, :length].transpose(2, 3)).add_(mask)
            weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
            read = torch.matmul(weights, values[:rows, :, :length])
            out = read if out is None or select is None else torch.where(select, read, out)
        assert out is not None, "a step reads at least one length"
        return out.view(rows, 1, heads, width)


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    *,
    slot_plan: Plan,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **ignored: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers calls in each layer; `slot_plan` travels as a keyword of the forward."""
    if sliding_window is not None or softcap is not None:
        raise ValueError("models with sliding windows or soft-capped attention are not supported")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    layer: Any = module.layer_idx
    return slot_plan.attend(layer, query, key, value, scale), None
