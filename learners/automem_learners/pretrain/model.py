"""The small model: Qwen2 of 0.7 million parameters, which every engine can load."""

from pathlib import Path
from typing import Any

import msgspec
import torch
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from automem_learners.pretrain.tokenizer import (
    CONTEXT_TOKENS,
    PAD,
    TURN_END,
    VOCABULARY_SIZE,
    card_tokens,
    save_tokenizer,
    vocabulary,
)
from automem_learners.pretrain.wiring import wire_recall


class ModelShape(msgspec.Struct, frozen=True):
    """Sizes; the defaults are those of the trial (EMBEDDED.md)."""

    hidden: int = 128
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    mlp: int = 256
    initial_std: float = 0.08
    """Four times the usual: a model this small learns to copy several times sooner from it."""
    rope_theta: float = 10_000.0
    """Base of the rotary positions: the larger, the more of a small head's dimensions turn so
    slowly that they can tell *what* a line says wherever it stands."""
    embedding_scale: float = 1.0
    """Times `initial_std`: of the embeddings; the last norm makes up for it, so that logits start
    as they would. What a layer adds is as large whatever the embeddings are, and hides small
    ones: heads could not tell which word they look at."""
    mimetic: bool = False
    """Heads of the upper layers begin as those that attend to what is like their own token."""
    wired: bool = False
    """Two heads begin as those that find a line by its rank (`wiring`)."""


def build_model(shape: ModelShape, seed: int) -> Qwen2ForCausalLM:
    """A fresh model in fp32, its weights drawn by `seed`."""
    ids = vocabulary()
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        intermediate_size=shape.mlp,
        initializer_range=shape.initial_std,
        max_position_embeddings=CONTEXT_TOKENS,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
        tie_word_embeddings=True,
        use_sliding_window=False,
        attention_dropout=0.0,
        pad_token_id=ids[PAD],
        eos_token_id=ids[TURN_END],
        bos_token_id=None,
        dtype="float32",
    )
    model: Any = Qwen2ForCausalLM(config)
    if shape.embedding_scale != 1.0:
        with torch.no_grad():
            model.model.embed_tokens.weight.mul_(shape.embedding_scale)
            model.model.norm.weight.div_(shape.embedding_scale)
    if shape.wired:
        wire_recall(model, [ids[card] for card in card_tokens()])
    if shape.mimetic:
        _make_mimetic(model, shape)
    return model


def _make_mimetic(model: Any, shape: ModelShape) -> None:
    """Start the upper layers' heads as training tends to leave them: a query's weights are its
    key's and a head's output undoes its value's, so that a head attends to what is like the token
    it stands at, and copies it ("mimetic" initialisation, arXiv 2305.09828). To find a line by its
    rank among many is otherwise learned several times more slowly. The first layer stays as drawn:
    its heads have to look at neighbours."""
    group, size = shape.heads // shape.kv_heads, shape.hidden // shape.heads
    noise = shape.initial_std / 4
    with torch.no_grad():
        for layer in model.model.layers[1:]:
            own = layer.self_attn
            keys = own.k_proj.weight.view(shape.kv_heads, size, shape.hidden)
            values = own.v_proj.weight.view(shape.kv_heads, size, shape.hidden)
            queries = keys.repeat_interleave(group, 0).reshape_as(own.q_proj.weight)
            outputs = values.repeat_interleave(group, 0).reshape(-1, shape.hidden).T
            own.q_proj.weight.copy_(queries + noise * torch.randn_like(queries))
            own.o_proj.weight.copy_(outputs + noise * torch.randn_like(outputs))


def save_model(
    model: Qwen2ForCausalLM,
    folder: Path,
    dtype: torch.dtype,
    tokenizer: PreTrainedTokenizerFast | None = None,
) -> None:
    """Write weights (as `dtype`), configuration and tokenizer (None: Concentration's) into
    `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = model.dtype
    anything: Any = model
    anything.to(dtype).save_pretrained(str(folder))
    anything.to(kept)
    for file in folder.glob("*.safetensors"):
        file.chmod(0o644)  # it is written for its owner alone, and will be packaged
    save_tokenizer(folder, tokenizer)


def load_model(folder: Path) -> Qwen2ForCausalLM:
    """A saved model, in fp32."""
    model: Any = Qwen2ForCausalLM.from_pretrained(str(folder), dtype=torch.float32)
    return model


def parameter_count(model: Qwen2ForCausalLM) -> int:
    """Distinct parameters; tied embeddings count once."""
    return sum(parameter.numel() for parameter in model.parameters())
