"""A tiny random model for the engines, built once per test session."""

import random
import sys
from pathlib import Path

import pytest

from automem.engine.protocol import GenerateRequest, Sampling

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))

FIRST_WORD = 3
"""Token ids below are special in the tiny model."""


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Test machines share their cores, where a second thread of torch costs more than it gives."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a random Qwen2 (0.6 M parameters) with its tokenizer."""
    import tiny_model as recipe

    folder = tmp_path_factory.mktemp("tiny-qwen2")
    recipe.build_model(folder)
    return str(folder)


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> str:
    """As `tiny_model`, of the Llama family."""
    import tiny_model as recipe

    folder = tmp_path_factory.mktemp("tiny-llama")
    recipe.build_model(folder, family="llama")
    return str(folder)


@pytest.fixture(scope="session")
def make_request():
    """Requests with random prompts: number -> request, the same every time."""

    def make(number: int, *, prompt: int | None = None, shared: int = 0, **fields):
        words = random.Random(number)
        length = prompt or words.randrange(5, 150)
        first = random.Random(-1)
        ids = [first.randrange(FIRST_WORD, 600) for _ in range(shared)]
        ids += [words.randrange(FIRST_WORD, 600) for _ in range(length)]
        sampling = {"max_tokens": fields.pop("max_tokens", 8)}
        for name in ("temperature", "top_p", "stop"):
            if name in fields:
                sampling[name] = fields.pop(name)
        return GenerateRequest(
            id=f"e/{number}/0",
            messages=(),
            prompt_ids=tuple(ids),
            seed=fields.pop("seed", number),
            sampling=Sampling(**sampling),
            **fields,
        )

    return make
