"""The small model's tokenizer: whole words for what its game can say, bytes for all the rest.

Promise: `decode(encode(text)) == text` for any text; no token is unknown; ids never change
meaning (`words.txt` is only ever appended to, and unused ids wait at the end). A word has one token
wherever it stands, at a line's start or after a space, so that the model sees a card as the same
card everywhere: a space is put before each word that opens a text, a line or a tag's argument, and
taken out again when decoding.
"""

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from automem.memory.ops import OPS

PAD, SYSTEM, USER, ASSISTANT, TURN_END = (
    "<|pad|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|turn_end|>",
)
SPECIAL = (PAD, SYSTEM, USER, ASSISTANT, TURN_END)
_HEADERS_TEXT = "log plan action observation changed files memory notice results commit instruction"
HEADERS = tuple(_HEADERS_TEXT.split())
VOCABULARY_SIZE = 896
"""Room for words to come; a multiple of 64."""
CONTEXT_TOKENS = 2048

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message.role == 'tool' %}<|user|>{% else %}<|{{ message.role }}|>{% endif %}"
    "{{ message.content }}<|turn_end|>"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

# Texts are first spelled in the 256 visible characters of byte-level encodings, in which U+0120 is
# a space and U+010A a newline.
_SPACE, _NEWLINE = "\u0120", "\u010a"
_OPENS = rf"(?:^|(?<=[{_NEWLINE}>])|(?<=\|)(?<!<\|))"
"""Where a word gets a space: after a text's start, a newline, a tag, or a bar that is no tag's."""
_PIECES = (
    r"<\|[A-Za-z]{1,16}\|>",
    rf"#{_SPACE}[a-z]{{1,16}}",
    rf"{_SPACE}?[A-Za-z]{{1,24}}",
    rf"{_SPACE}?[0-9]{{1,8}}",
    r"\.[a-z]{1,8}",
    r"\.\.\.",
    r".",
)


def words() -> list[str]:
    """The words of `words.txt`, in its order."""
    return resources.files(__package__).joinpath("words.txt").read_text(encoding="utf-8").split()


def card_tokens() -> list[str]:
    """The tokens that name a card of a deck of up to 99."""
    return [f"{_SPACE}{number:02d}" for number in range(1, 100)]


def vocabulary(own_tokens: Sequence[str] | None = None) -> dict[str, int]:
    """Token to id. `own_tokens`, which may hold spaces, make the vocabulary of another game: they
    stand in the place of this game's numbers and words."""
    tokens = [*SPECIAL, *_byte_alphabet()]
    tokens += [f"<|{name}|>" for name in (*OPS, "ACTION", "DONE", "END")]
    tokens += [f"{_SPACE}{name}" for name in OPS]
    tokens += [f"#{_SPACE}{header}" for header in HEADERS]
    if own_tokens is None:
        tokens += [f"{_SPACE}{number:02d}" for number in range(100)]
        tokens += [f"{_SPACE}{number}" for number in range(10)]
        tokens += [".txt", ".md", "..."]
        tokens += [f"{_SPACE}{word}" for word in words()]
    else:
        tokens += [token.replace(" ", _SPACE).replace("\n", _NEWLINE) for token in own_tokens]
    unique = list(dict.fromkeys(tokens))
    spare = VOCABULARY_SIZE - len(unique)
    if spare < 0:
        raise ValueError(f"{len(unique)} tokens do not fit into {VOCABULARY_SIZE}")
    unique += [f"<|spare_{index}|>" for index in range(spare)]
    return {token: index for index, token in enumerate(unique)}


def build_tokenizer(
    own_tokens: Sequence[str] | None = None, own_pieces: Sequence[str] = ()
) -> PreTrainedTokenizerFast:
    """The tokenizer with its chat template; `save_pretrained` makes it loadable anywhere.

    For another game: `own_tokens` as in `vocabulary`, and `own_pieces`, expressions of text (with
    plain spaces and newlines) that stay in one piece."""
    pieces = [piece.replace(" ", _SPACE).replace("\n", _NEWLINE) for piece in own_pieces]
    model = models.WordPiece(
        vocabulary(own_tokens),
        unk_token=PAD,
        continuing_subword_prefix="",
        max_input_chars_per_word=1_000_000,
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.ByteLevel(),
            normalizers.Replace(Regex(rf"{_OPENS}(?=[0-9A-Za-z{_SPACE}])"), _SPACE),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("|".join([*pieces, *_PIECES])), "isolated")
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Fuse(),
            decoders.Replace(Regex(rf"{_OPENS}{_SPACE}"), ""),
            decoders.ByteLevel(),
        ]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=TURN_END,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT],
        clean_up_tokenization_spaces=False,
        model_max_length=CONTEXT_TOKENS,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def save_tokenizer(folder: Path, own: PreTrainedTokenizerFast | None = None) -> None:
    """Write the tokenizer's files into `folder`; `own` in its place, where given."""
    tokenizer: Any = build_tokenizer() if own is None else own
    tokenizer.save_pretrained(str(folder))
    # transformers 5 takes every tokenizer beside a Qwen2 model for Qwen's own, whatever its files
    # say, and would cut words into bytes. An empty `auto_map` makes it believe `tokenizer_class`.
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings["auto_map"] = {"AutoTokenizer": [None, None]}
    path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _byte_alphabet() -> list[str]:
    """The visible character that stands for each byte, in the order of bytes (GPT-2's mapping)."""
    visible = {*range(33, 127), *range(161, 173), *range(174, 256)}
    characters, spare = [], 256
    for byte in range(256):
        if byte in visible:
            characters.append(chr(byte))
        else:
            characters.append(chr(spare))
            spare += 1
    return characters
