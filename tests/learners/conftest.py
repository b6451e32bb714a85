"""A tiny base model and random data, built once per test session."""

import pytest
from support.tiny_base import build_base, random_dataset

from automem_learners.dataset import Dataset


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Test machines share their cores, where a second thread of torch costs more than it gives."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a random Qwen2 of hidden size 64 and 2 layers, with its tokenizer."""
    return build_base(tmp_path_factory.mktemp("tiny-base"))


@pytest.fixture(scope="session")
def dataset(base: str, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """40 random conversations for that base."""
    return random_dataset(tmp_path_factory.mktemp("random-data"), base)
