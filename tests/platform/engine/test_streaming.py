"""Completions piece by piece: the pieces are the completion, whatever the tokens are."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automem.engine.protocol import Completion, GenerateRequest, Message, Sampling
from automem.engine.render import ChatRenderer, decode, load_tokenizer
from automem.engine.scripted import ScriptedEngine
from automem.engine.stops import StopWatch
from automem.engine.streaming import TextStream, pieces_of
from automem.engine.transformers import TransformersEngine
from automem.errors import EngineRequestError

MODELS = ("random", "embedded")


@pytest.mark.parametrize("model", MODELS)
@settings(max_examples=40, deadline=None, database=None)
@given(data=st.data())
def test_the_pieces_together_are_the_text_without_its_stop(model: str, data: st.DataObject) -> None:
    tokenizer = load_tokenizer(model)
    token = st.integers(0, len(tokenizer) - 1)
    drawn = data.draw(st.lists(st.lists(token, max_size=4), max_size=8))
    spoken = data.draw(st.sampled_from(["", "tree ü 木 🌲 at 3,4", "<|END|>", "a\n\nb END"]))
    drawn.append(list(tokenizer.encode(spoken, add_special_tokens=False)))
    stops = data.draw(st.lists(st.sampled_from(["<|END|>", "END", "\n\n", "木 "]), max_size=2))
    tokens = [one for part in drawn for one in part]
    text = decode(tokenizer, tokens)
    ends = [text.index(stop) for stop in stops if stop in text]
    said = text[: min(ends)] if ends else text
    stream = TextStream(tokenizer, stops)
    given_out = "".join(stream.add(part) for part in drawn)
    assert said.startswith(given_out)
    assert given_out + stream.finish(said) == said


def test_text_that_may_begin_a_stop_is_held_back() -> None:
    tokenizer = load_tokenizer("random")
    stream = TextStream(tokenizer, ["<|END|>"])
    for char in "tree<|EN":
        stream.add(tokenizer.encode(char, add_special_tokens=False))
    assert stream.finish("tree<|ENcore") == "<|ENcore"
    assert StopWatch(tokenizer, [], ("<|END|>",)).cut("a<|END|>b") == "a<|END|>"


@pytest.fixture
async def engine() -> AsyncIterator[TransformersEngine]:
    running = TransformersEngine("random", threads=1, context_tokens=512, max_batch=4)
    yield running
    await running.close()


def request(**more: object) -> GenerateRequest:
    prompt = ChatRenderer("random").start((Message("user", "hello"),))
    asked = {"id": "r", "messages": (), "prompt_ids": tuple(prompt), "seed": 7, **more}
    return GenerateRequest(**({"sampling": Sampling(max_tokens=24)} | asked))


async def test_tokens_come_before_the_completion_and_are_its_own(
    engine: TransformersEngine,
) -> None:
    whole = await engine.generate(request())
    pieces = [piece async for piece in pieces_of(engine, request())]
    *tokens, completion = pieces
    assert (completion.text, completion.token_ids) == (whole.text, whole.token_ids)
    assert len(tokens) > 4
    told = [token for piece in tokens for token in piece]
    assert told == list(whole.token_ids)[: len(told)]
    assert len(whole.token_ids) - len(told) in (0, 1)  # an end token is not told


async def test_a_listener_that_leaves_ends_the_call(engine: TransformersEngine) -> None:
    async with aclosing(pieces_of(engine, request())) as pieces:
        async for _ in pieces:
            break
    answers = await asyncio.gather(*(engine.generate(request()) for _ in range(5)))
    assert len({answer.text for answer in answers}) == 1


async def test_what_is_refused_is_refused_in_a_stream(engine: TransformersEngine) -> None:
    with pytest.raises(EngineRequestError, match="not loaded"):
        [piece async for piece in pieces_of(engine, request(adapter="none"))]


async def test_an_engine_that_cannot_stream_gives_the_completion_alone() -> None:
    class Player:
        def reply(self, request: GenerateRequest) -> str:
            return "all at once"

    [only] = [piece async for piece in pieces_of(ScriptedEngine(Player()), request())]
    assert isinstance(only, Completion)
    assert only.text == "all at once"
