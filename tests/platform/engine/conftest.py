"""A tiny random model for the engines, built once per test session."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a random Qwen2 (0.6 M parameters) with its tokenizer."""
    import tiny_model as recipe

    folder = tmp_path_factory.mktemp("tiny-qwen2")
    recipe.build_model(folder)
    return str(folder)
