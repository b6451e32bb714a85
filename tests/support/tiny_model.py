"""A random Qwen2 of 0.6 M parameters and a byte-level tokenizer, built from scratch, offline."""

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

CHAT_TEMPLATE = (
    "{% for m in messages %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% if m.tool_calls %}{% for c in m.tool_calls %}"
    "<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}{% endif %}"
    "<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TAGS = ("READ", "SEARCH", "TAIL", "COUNT", "APPEND", "WRITE", "ACTION", "DONE", "END")
CORPUS = [
    "# log\n# plan\n# action\nflip 05\n# observation\nYou flipped 05: it shows K. Miss.\n"
    "# changed\nyes\n# files\ncards.txt 12\n# memory cards.txt\n05 K\n17 Q\n# notice\n# results\n"
    "cards.txt|05 K actions.txt|noted Noop Move North tree 3 steps to your north-west"
] * 4


def build_tokenizer(folder: Path, vocab_size: int = 600) -> None:
    """Save a byte-level BPE tokenizer with a ChatML template; each tag is one token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=vocab_size - len(TAGS),
            min_frequency=1,
            special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.add_tokens([f"<|{tag}|>" for tag in TAGS])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,
    ).save_pretrained(folder)


def build_model(
    folder: Path, *, seed: int = 0, vocab_size: int = 640, family: str = "qwen2"
) -> None:
    """Save a random model (and its tokenizer) to `folder`; std 0.08, so that logits differ."""
    import torch
    import transformers

    build_tokenizer(folder)
    torch.manual_seed(seed)
    architecture = {"qwen2": "Qwen2", "llama": "Llama", "qwen3": "Qwen3"}[family]
    config = getattr(transformers, f"{architecture}Config")(
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        vocab_size=vocab_size,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        initializer_range=0.08,
        eos_token_id=2,
        pad_token_id=0,
        bos_token_id=None,
    )
    model = getattr(transformers, f"{architecture}ForCausalLM")(config)
    with torch.no_grad():  # what is zero at the start must not hide mistakes
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0.0, 0.1)
    model.save_pretrained(folder)
