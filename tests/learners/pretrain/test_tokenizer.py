"""The small model's tokenizer."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from automem.agent.scaffold import load_scaffold
from automem.config import scaffold_path
from automem.engine.protocol import Message
from automem.engine.render import ChatRenderer, decode
from automem.memory.ops import OPS
from automem_envs.concentration.ranks import ANIMALS, COLOURS
from automem_learners.pretrain.corpus import Encoder
from automem_learners.pretrain.model import ModelShape, build_model, save_model
from automem_learners.pretrain.tokenizer import (
    SPECIAL,
    TURN_END,
    build_tokenizer,
    vocabulary,
)

TOKENIZER = build_tokenizer()


def ids_of(text: str) -> list[int]:
    return list(TOKENIZER.encode(text, add_special_tokens=False))


def words_of(text: str) -> list[str]:
    return [decode(TOKENIZER, [token]) for token in ids_of(text)]


@settings(max_examples=400, deadline=None)
@given(
    st.text(
        st.one_of(
            st.sampled_from("|<> \n#\u0120\u010aaflip0519.END?"), st.characters(codec="utf-8")
        ),
        max_size=60,
    )
)
def test_any_text_comes_back(text: str) -> None:
    assert decode(TOKENIZER, ids_of(text)) == text


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["flip", " 05", "\n", "|", "<|SEARCH|>", "<|END|>", " ", "cards.txt", *SPECIAL]
        ),
        max_size=12,
    )
)
def test_text_made_of_its_own_tokens_comes_back(parts: list[str]) -> None:
    assert decode(TOKENIZER, ids_of("".join(parts))) == "".join(parts)


def test_a_word_is_the_same_token_wherever_it_stands() -> None:
    card = ids_of("05")
    assert len(card) == 1
    for text in ("flip 05", "05 owl", "x\n05", "<|APPEND|>cards.txt|05 owl<|END|>"):
        assert card[0] in ids_of(text)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("<|APPEND|>cards.txt|17 owl<|END|><|DONE|>", 8),
        ("<|SEARCH|>notes.txt|panda<|END|>", 6),
        ("<|ACTION|>flip 17<|END|>", 4),
        ("# results\nSEARCH cards.txt|owl\nno match", 10),
        ("17 shows owl first\npending 17", 7),
    ],
)
def test_what_the_game_says_is_one_token_a_word(text: str, count: int) -> None:
    assert len(ids_of(text)) == count


def test_every_rank_card_number_and_operation_is_one_token() -> None:
    for word in [*ANIMALS, *COLOURS, *OPS, *(f"{card:02d}" for card in range(100))]:
        assert len(ids_of(word)) == 1, word


def test_shipped_prompts_need_no_byte_tokens() -> None:
    scaffold = load_scaffold(Path(scaffold_path("embedded")))
    operations = [f"<|{name}|>file|keyword<|END|>" for name in OPS]
    values = {"files": scaffold.schema.files, "instruction": "find pairs of cards"}
    for name in ("log.system", "plan.system"):
        text = scaffold.render(name, values | {"operations": operations})
        assert all(len(word.strip()) > 1 or word in "|\n" for word in words_of(text)), text


@pytest.mark.parametrize(
    "message",
    [
        "error: no file cards.txt",
        "no match",
        "... 12 more lines not shown",
        "the observation has not changed for 3 steps",
        "the same action was taken 2 times in a row",
        "the last 4 actions go back and forth",
    ],
)
def test_messages_of_the_platform_need_no_byte_tokens(message: str) -> None:
    assert all(
        len(word.strip()) > 1 or word in ("a", ":", ";") or word.isdigit()
        for word in words_of(message)
    ), words_of(message)


def test_ids_are_stable() -> None:
    """A checkpoint is bound to its ids: new words may only go to the end of words.txt."""
    ids = vocabulary()
    assert len(ids) == 896
    assert [
        ids[token] for token in ("<|pad|>", TURN_END, "<|SEARCH|>", "\u012005", "\u0120owl")
    ] == [
        0,
        4,
        262,
        302,
        433,
    ]


def saved_renderer(folder: Path) -> ChatRenderer:
    save_model(build_model(ModelShape(hidden=8, layers=1), seed=0), folder, torch.float32)
    return ChatRenderer(str(folder))


def test_it_loads_from_a_models_folder_with_its_chat_template(tmp_path: Path) -> None:
    """Beside a Qwen2 configuration: transformers would put Qwen's own tokenizer in its place."""
    renderer = saved_renderer(tmp_path)
    messages = [Message("system", "find pairs"), Message("user", "# plan\n05 owl")]
    assert renderer.start(messages) == Encoder().prompt(messages)
    assert renderer.turn_end == TOKENIZER.eos_token_id


def test_growing_a_conversation_gives_the_ids_of_rendering_it_whole(tmp_path: Path) -> None:
    renderer = saved_renderer(tmp_path)
    opening = [Message("system", "find pairs"), Message("user", "# plan")]
    answer, reply = "<|SEARCH|>cards.txt|owl<|END|>", Message("user", "# results\n05 owl")
    grown = renderer.extend(renderer.start(opening), Encoder().answer(answer), [reply])
    assert grown == Encoder().prompt([*opening, Message("assistant", answer), reply])


def test_a_long_run_of_letters_is_encoded_in_no_time() -> None:
    text = "x" * 50_000
    assert decode(TOKENIZER, ids_of(text)) == text
