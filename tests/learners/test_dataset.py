"""Datasets on disk: what loads is whole, trainable and from training seeds."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tiny_base import random_conversation, random_dataset

from automem.errors import UsageError
from automem.seeds import SeedRange, range_of, seed_range, seeds_from
from automem_learners.dataset import (
    CARD,
    TABLE,
    Conversation,
    DataKind,
    Dataset,
    check_seeds,
    load_dataset,
    write_dataset,
)


@pytest.fixture
def one() -> Conversation:
    return random_conversation(1, np.random.default_rng(1))


def write(folder: Path, base: str, *rows: Conversation) -> Dataset:
    return write_dataset(folder, rows, kind=DataKind.EXACT, base_model=base, made_by="a test")


def test_a_dataset_reads_back_as_it_was_written(base: str, tmp_path: Path) -> None:
    written = random_dataset(tmp_path, base, conversations=12)
    read = load_dataset(tmp_path)
    assert read.card == written.card
    assert read.card.conversations == 12
    for one, other in zip(written.conversations, read.conversations, strict=True):
        assert np.array_equal(one.token_ids, other.token_ids)
        assert np.array_equal(one.weights, other.weights)
        assert one.messages == other.messages
        assert (one.episode, one.step, one.seed) == (other.episode, other.step, other.seed)


def test_recorded_log_probabilities_are_kept(base: str, tmp_path: Path, one: Conversation) -> None:
    logprobs = np.linspace(-3, 0, len(one.token_ids)).astype(np.float32)
    write(tmp_path, base, replace(one, logprobs=logprobs))
    [read] = load_dataset(tmp_path).conversations
    assert read.logprobs is not None
    assert np.array_equal(read.logprobs, logprobs)


def test_an_empty_selection_is_refused(base: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the dataset is empty: the selection kept no turn"):
        write(tmp_path, base)


def test_a_conversation_that_trains_nothing_is_refused(
    base: str, tmp_path: Path, one: Conversation
) -> None:
    with pytest.raises(UsageError, match="at least one token must be trained"):
        write(tmp_path, base, replace(one, weights=np.zeros_like(one.weights)))
    with pytest.raises(UsageError, match="never the first"):
        write(tmp_path, base, replace(one, weights=np.ones_like(one.weights)))


def test_weights_that_are_no_weights_are_refused(
    base: str, tmp_path: Path, one: Conversation
) -> None:
    weights = one.weights.copy()
    weights[-1] = np.nan
    with pytest.raises(UsageError, match="finite"):
        write(tmp_path, base, replace(one, weights=weights))
    with pytest.raises(UsageError, match="weights"):
        write(tmp_path, base, replace(one, weights=one.weights[1:]))


@pytest.mark.parametrize("name", [name for name in SeedRange if name is not SeedRange.TRAIN])
def test_a_dataset_of_evaluation_seeds_is_refused(
    base: str, tmp_path: Path, one: Conversation, name: SeedRange
) -> None:
    [seed] = seeds_from(name, 1)
    with pytest.raises(UsageError, match=f"seed {seed} is not one to train on.*range {name}"):
        write(tmp_path, base, replace(one, seed=seed))


@given(st.integers(-(2**40), 2**40) | st.sampled_from(seed_range("train")))
def test_only_training_seeds_pass(seed: int) -> None:
    if range_of(seed) is SeedRange.TRAIN:
        check_seeds([seed])
        assert not any(seed in seed_range(n) for n in SeedRange if n is not SeedRange.TRAIN)
    else:
        with pytest.raises(UsageError):
            check_seeds([seed])


def test_a_folder_without_a_dataset_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no dataset: expected card\.json and"):
        load_dataset(tmp_path)


def test_a_changed_table_is_noticed(base: str, tmp_path: Path, one: Conversation) -> None:
    write(tmp_path / "a", base, one)
    ids = one.token_ids.copy()
    ids[0] += 1
    write(tmp_path / "b", base, replace(one, token_ids=ids))
    (tmp_path / "b" / TABLE).rename(tmp_path / "a" / TABLE)
    with pytest.raises(UsageError, match="do not fit the digest"):
        load_dataset(tmp_path / "a")


def test_a_damaged_card_is_noticed(base: str, tmp_path: Path, one: Conversation) -> None:
    write(tmp_path, base, one)
    (tmp_path / CARD).write_text((tmp_path / CARD).read_text()[:-20])
    with pytest.raises(UsageError, match="damaged"):
        load_dataset(tmp_path)


def test_a_table_of_other_columns_is_noticed(base: str, tmp_path: Path, one: Conversation) -> None:
    write(tmp_path, base, one)
    table = pq.read_table(tmp_path / TABLE)
    pq.write_table(table.drop_columns(["share"]), tmp_path / TABLE)
    with pytest.raises(UsageError, match="has other columns than this version writes"):
        load_dataset(tmp_path)
