"""The `random` model: an untrained byte-level Qwen2 for plumbing tests.

It says noise in any language and plays nothing; its use is that everything between a prompt and a
completion can be tested with it, without a download. Deterministic: the same weights everywhere.
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

VERSION = 1
"""Part of the folder's name: a change below is a new model."""
SPECIAL = ("<|pad|>", "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build(folder: Path | None = None) -> Path:
    """The model's folder, made if it is not there; by default in the system's temporary folder."""
    name = f"automem-random-{os.getuid()}-v{VERSION}"
    folder = folder or Path(tempfile.gettempdir()) / name
    if (folder / "config.json").is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        _save(making)
        os.replace(making, folder)
    except OSError:
        # Another process may have put it there first: then its folder serves.
        if not (folder / "config.json").is_file():
            raise
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return folder


def _save(folder: Path) -> None:
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer = _tokenizer()
    config = Qwen2Config(
        vocab_size=320,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=128,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        initializer_range=0.08,
        pad_token_id=0,
        eos_token_id=2,
        bos_token_id=None,
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = Qwen2ForCausalLM(config)
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>"],
        clean_up_tokenization_spaces=False,
        model_max_length=8192,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast
