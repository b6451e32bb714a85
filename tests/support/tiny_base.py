"""What learner tests train: a random Qwen2 (hidden 64, 2 layers) and random conversations."""

from pathlib import Path

import numpy as np
from support.tiny_model import build_tokenizer

from automem.seeds import seeds_from
from automem_learners.dataset import Conversation, DataKind, Dataset, write_dataset

VOCABULARY = 640


def build_base(folder: Path, seed: int = 0) -> str:
    """Save the model and its tokenizer; the folder's name."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    build_tokenizer(folder)
    torch.manual_seed(seed)
    Qwen2ForCausalLM(
        Qwen2Config(
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            vocab_size=VOCABULARY,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            initializer_range=0.08,
            eos_token_id=2,
            pad_token_id=0,
            bos_token_id=None,
        )
    ).save_pretrained(folder)
    return str(folder)


def random_conversation(number: int, generator: np.random.Generator) -> Conversation:
    """30 to 200 tokens, 1 to 20 of them trained, half of the time with unequal weights."""
    length, trained = int(generator.integers(30, 200)), int(generator.integers(1, 20))
    weights = np.zeros(length, np.float32)
    weights[-trained:] = generator.choice([1.0, 0.5], trained) if number % 2 else 1.0
    return Conversation(
        token_ids=generator.integers(5, 600, length).astype(np.int32),
        weights=weights,
        messages=(("user", "what now?"), ("assistant", f"nothing, {number}")),
        kind="log" if number % 3 else "plan",
        episode=f"toy-{number % 10}",
        step=number,
        turn=0,
        seed=seeds_from("train", 10)[number % 10],
    )


def random_dataset(folder: Path, base: str, conversations: int = 40) -> Dataset:
    generator = np.random.default_rng(0)
    rows = [random_conversation(number, generator) for number in range(conversations)]
    return write_dataset(folder, rows, kind=DataKind.EXACT, base_model=base, made_by="random")
