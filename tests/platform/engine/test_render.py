"""Append-only token prompts."""

import pytest

from automem.engine.protocol import Message, ToolCall
from automem.engine.render import ApproximateCounter, ChatRenderer, decode, load_tokenizer
from automem.errors import UsageError

CHAT = (Message("system", "You remember."), Message("user", "# log\n# observation\ncard K"))
RESULTS = (Message("user", "# results\nSEARCH cards.txt|K\n05 K"),)


@pytest.fixture(scope="module")
def renderer(tiny_model: str) -> ChatRenderer:
    return ChatRenderer(tiny_model)


@pytest.fixture(scope="module")
def say(tiny_model: str):
    return lambda ids: decode(load_tokenizer(tiny_model), ids)


def encode(tiny_model: str, text: str) -> list[int]:
    return load_tokenizer(tiny_model).encode(text, add_special_tokens=False)


def test_the_first_prompt_ends_where_the_assistant_begins(renderer, say):
    assert say(renderer.start(CHAT)).endswith("card K<|im_end|>\n<|im_start|>assistant\n")


def test_extending_keeps_prompt_and_completion_verbatim(renderer, say, tiny_model):
    ids = renderer.start(CHAT)
    odd = [token for char in "SEARCH" for token in encode(tiny_model, char)]  # not as BPE would
    longer = renderer.extend(ids, odd, RESULTS)
    assert longer[: len(ids) + len(odd)] == ids + odd
    assert say(longer[len(ids) + len(odd) :]) == (
        "<|im_end|>\n<|im_start|>user\n# results\nSEARCH cards.txt|K\n05 K<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_a_sampled_end_of_turn_is_not_doubled(renderer, say):
    ids = renderer.start(CHAT)
    whole = renderer.extend(ids, [*ids[:3], renderer.turn_end], RESULTS)
    cut = renderer.extend(ids, ids[:3], RESULTS)
    assert whole == cut


def test_extending_equals_rendering_at_once_when_tokens_are_canonical(renderer, tiny_model):
    answer = "<|APPEND|>cards.txt|05 K<|END|>"
    whole = renderer.start((*CHAT, Message("assistant", answer), *RESULTS))
    assert renderer.extend(renderer.start(CHAT), encode(tiny_model, answer), RESULTS) == whole


def test_tool_calls_reach_the_template_as_objects(renderer, say):
    call = ToolCall(id="1", name="view", arguments='{"path": "/memories"}')
    text = say(renderer.start((*CHAT, Message("assistant", "", tool_calls=(call,)))))
    assert '{"arguments": {"path": "/memories"}, "name": "view"}' in text or (
        '"path": "/memories"' in text and '\\"path' not in text
    )


def test_a_cut_keeps_the_longest_prefix_within_the_kept_text(renderer, say, tiny_model):
    text = "<|SEARCH|>cards.txt|K<|END|> then <|ACTION|>flip 05<|END|>"
    ids = encode(tiny_model, text)
    for kept in range(len(text) + 1):
        cut = renderer.cut_ids(ids, text, kept)
        assert cut == ids[: len(cut)]
        assert text[:kept].startswith(say(cut))
        assert len(cut) == len(ids) or len(say(ids[: len(cut) + 1])) > kept
    assert say(renderer.cut_ids(ids, text, 28)) == "<|SEARCH|>cards.txt|K<|END|>"


def test_a_cut_at_the_end_drops_the_end_of_turn(renderer, tiny_model):
    ids = encode(tiny_model, "05 K")
    assert renderer.cut_ids([*ids, renderer.turn_end], "05 K", 4) == ids


def test_a_cut_never_ends_in_half_a_character(renderer, say, tiny_model):
    text = "K\u00e9\u4e2d\U0001f600!"
    ids = encode(tiny_model, text)
    for kept in range(len(text) + 1):
        assert say(renderer.cut_ids(ids, text, kept)) == text[:kept]


def test_counts(renderer, tiny_model):
    assert renderer.count("05 K") == len(encode(tiny_model, "05 K"))
    counter = ApproximateCounter()
    assert [counter.count(text) for text in ("", "a", "abcd", "abcde")] == [0, 1, 1, 2]


def test_a_missing_tokenizer_is_explained(tmp_path):
    with pytest.raises(UsageError, match="no tokenizer can be loaded"):
        ChatRenderer(str(tmp_path))
