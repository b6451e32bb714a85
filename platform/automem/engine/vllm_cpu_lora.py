"""LoRA in vLLM's build for processors, mended: loaded into its workers, never into ours.

That build (0.29.0) marks rows without an adapter by the index -1 and then indexes with it, so in a
pass that mixes both, rows of the base get the adapter of the last slot. Here such rows get nothing.
It also copies an adapter's matrices once per row; here rows are grouped by adapter and multiplied
together. Kernels for GPUs do both right and are left alone.

Importing this module replaces the three functions below; vLLM is told to import it as the home of
its `worker_extension_cls`. `tests/platform/engine/test_vllm.py` shows whether a later vLLM still
needs it.
"""

from collections.abc import Iterator

import torch
from vllm.lora.ops.torch_ops import lora_ops
from vllm.lora.punica_wrapper import punica_cpu


def _groups(indices: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
    """Slot and rows, for every adapter in use. `indices` int64 [rows], -1: none."""
    for slot in torch.unique(indices).tolist():
        if slot >= 0:
            yield slot, (indices == slot).nonzero(as_tuple=True)[0]


def _product(inputs: torch.Tensor, weights: torch.Tensor, slot: int) -> torch.Tensor:
    """`inputs` [rows, in] by a slot of `weights` [slots, (1,) out, in], in the inputs' dtype."""
    matrix = weights[slot].reshape(weights.shape[-2:])
    return inputs @ matrix.to(inputs.dtype).T


def bgmv_shrink(
    inputs: torch.Tensor,
    lora_b_weights: torch.Tensor,
    output_tensor: torch.Tensor,
    lora_indices_tensor: torch.Tensor,
    scaling: float = 1.0,
) -> None:
    """`output[:, :rank] = scaling * inputs @ A.T`, zero where there is no adapter."""
    rank = lora_b_weights.shape[-2]
    output_tensor[:, :rank] = 0
    inputs = inputs.to(output_tensor.dtype)
    for slot, rows in _groups(lora_indices_tensor[: len(inputs)]):
        output_tensor[rows, :rank] = scaling * _product(inputs[rows], lora_b_weights, slot)


def bgmv_expand_slice(
    inputs: torch.Tensor,
    lora_b_weights: torch.Tensor,
    output_tensor: torch.Tensor,
    lora_indices_tensor: torch.Tensor,
    slice_offset: int,
    slice_size: int,
    add_inputs: bool = True,
) -> None:
    """`output[:, slice] += inputs @ B.T`; rows without an adapter stay as they are."""
    part = output_tensor[:, slice_offset : slice_offset + slice_size]
    if not add_inputs:
        part.zero_()
    inputs = inputs.to(output_tensor.dtype)
    for slot, rows in _groups(lora_indices_tensor[: len(inputs)]):
        part[rows] += _product(inputs[rows], lora_b_weights, slot)


def bgmv_expand(
    inputs: torch.Tensor,
    lora_b_weights: torch.Tensor,
    output_tensor: torch.Tensor,
    lora_indices_tensor: torch.Tensor,
    add_inputs: bool = True,
) -> None:
    """As `bgmv_expand_slice`, over as many columns as both have."""
    width = min(lora_b_weights.shape[-2], output_tensor.shape[1])
    bgmv_expand_slice(
        inputs,
        lora_b_weights[..., :width, :],
        output_tensor,
        lora_indices_tensor,
        0,
        width,
        add_inputs,
    )


for _module in (lora_ops, punica_cpu):  # the second has names of its own for them
    for _function in (bgmv_shrink, bgmv_expand_slice, bgmv_expand):
        setattr(_module, _function.__name__, _function)


class MendedLora:
    """Nothing but a name by which vLLM finds this module."""
