"""Packing: bins that hold, order that no number of workers changes, no leaks between neighbours."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

from automem.errors import UsageError
from automem_learners.base_model import find_base, load_model
from automem_learners.dataset import Dataset
from automem_learners.train import attention
from automem_learners.train.loop import forward
from automem_learners.train.packing import (
    Example,
    deal,
    make_row,
    order_steps,
    pack,
    rows_of_step,
)

lengths = st.lists(st.integers(1, 60), min_size=1, max_size=30)


@given(lengths, st.integers(1, 80))
def test_every_conversation_is_packed_once_and_bins_hold(sizes: list[int], capacity: int) -> None:
    bins = pack(sizes, capacity)
    assert sorted(i for bin_ in bins for i in bin_) == list(range(len(sizes)))
    for bin_ in bins:
        assert sum(sizes[i] for i in bin_) <= capacity or len(bin_) == 1


@given(lengths, st.integers(1, 80))
def test_bins_are_few(sizes: list[int], capacity: int) -> None:
    fitting = [size for size in sizes if size <= capacity]
    bins = len(pack(fitting, capacity))
    assert bins <= 2 * -(-sum(fitting) // capacity)


@given(lengths, st.integers(1, 5))
def test_workers_get_about_equal_loads(sizes: list[int], workers: int) -> None:
    hands = deal(sizes, workers)
    loads = [sum(sizes[i] for i in hand) for hand in hands]
    assert sorted(i for hand in hands for i in hand) == list(range(len(sizes)))
    assert max(loads) - min(loads) <= max(sizes)


def test_each_epoch_sees_every_conversation_once_in_its_own_order() -> None:
    steps = order_steps(conversations=10, per_step=4, epochs=2, seed=1)
    assert [len(step) for step in steps] == [4, 4, 2, 4, 4, 2]
    first, second = ([i for step in part for i in step] for part in (steps[:3], steps[3:]))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    assert steps == order_steps(10, 4, 2, seed=1)
    assert steps != order_steps(10, 4, 2, seed=2)


@given(lengths, st.integers(1, 4), st.integers(10, 100))
def test_every_worker_has_the_same_number_of_rows(
    sizes: list[int], workers: int, capacity: int
) -> None:
    examples = [Example(np.ones(n + 1, np.int32), np.r_[0, np.ones(n)]) for n in sizes]
    shares = [example.weights.astype(np.float32) for example in examples]
    rows = [rows_of_step(examples, shares, w, workers, capacity) for w in range(workers)]
    assert len({len(each) for each in rows}) == 1


def test_positions_restart_and_labels_are_the_tokens_after_their_predictors() -> None:
    one = Example(np.asarray([11, 12, 13], np.int32), np.asarray([0, 0, 1], np.float32))
    two = Example(np.asarray([21, 22], np.int32), np.asarray([0, 1], np.float32))
    row = make_row([one, two], [one.weights, two.weights])
    assert row.token_ids.tolist() == [11, 12, 13, 21, 22]
    assert row.positions.tolist() == [0, 1, 2, 0, 1]
    assert row.lengths == (3, 2)
    assert row.predictors.tolist() == [1, 3]
    assert row.labels.tolist() == [13, 22]


def test_packed_and_unpacked_logits_are_equal(base: str, dataset: Dataset) -> None:
    examples = [row.example() for row in dataset.conversations[:6]]
    packed_model = load_model(find_base(base), torch.float32).eval()
    plain_model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    row = make_row(examples, [example.weights for example in examples])
    with torch.no_grad():
        packed = packed_model(
            input_ids=torch.from_numpy(row.token_ids)[None],
            position_ids=torch.from_numpy(row.positions)[None],
            lengths=row.lengths,
        ).logits[0]
        for example, part in zip(examples, packed.split(list(row.lengths)), strict=True):
            alone = plain_model(torch.from_numpy(example.token_ids)[None].long()).logits[0]
            assert torch.allclose(part, alone, atol=1e-5)


def test_gradients_of_packed_rows_are_those_of_the_conversations_alone(
    base: str, dataset: Dataset
) -> None:
    examples = [row.example() for row in dataset.conversations[:5]]
    model = load_model(find_base(base), torch.float32)
    weight = model.get_submodule("model.layers.0.self_attn.k_proj").weight

    def gradient(groups: list[list[Example]]) -> torch.Tensor:
        model.zero_grad()
        for group in groups:
            row = make_row(group, [example.weights for example in group])
            forward(model, row, torch.device("cpu")).sum().backward()
        assert weight.grad is not None
        return weight.grad.clone()

    assert torch.allclose(gradient([examples]), gradient([[e] for e in examples]), atol=1e-4)


def test_a_neighbour_in_the_row_changes_nothing(base: str, dataset: Dataset) -> None:
    first, second, third = (row.example() for row in dataset.conversations[:3])
    model = load_model(find_base(base), torch.float32).eval()
    kept = int((second.weights > 0).sum())
    with torch.no_grad():
        found = [
            forward(
                model,
                make_row([before, second], [before.weights, second.weights]),
                torch.device("cpu"),
            )[-kept:]
            for before in (first, third)
        ]
    assert torch.allclose(found[0], found[1], atol=1e-5)


def test_a_model_with_sliding_windows_is_refused() -> None:
    config = Qwen2Config(num_hidden_layers=4, use_sliding_window=True, max_window_layers=2)
    with pytest.raises(UsageError, match=r"qwen2 has .*sliding_attention"):
        attention.check_supported(config)
    attention.check_supported(LlamaConfig())
