"""The scripted engine."""

import pytest

from automem.engine.protocol import GenerateRequest, Message
from automem.engine.scripted import ScriptedEngine
from automem.errors import EngineRequestError


class Echo:
    def reply(self, request: GenerateRequest) -> str:
        return f"{request.messages[-1].content} {request.seed}"


async def test_a_player_answers_from_the_request_alone():
    engine = ScriptedEngine(Echo())
    request = GenerateRequest(id="e/0/0", messages=(Message("user", "hello"),), seed=7)
    completion = await engine.generate(request)
    assert completion.text == "hello 7"
    assert (completion.prompt_tokens, completion.completion_tokens) == (2, 2)
    assert (await engine.capabilities()).batch_invariant


async def test_it_has_no_adapters_and_no_scores():
    engine = ScriptedEngine(Echo())
    with pytest.raises(EngineRequestError):
        await engine.generate(GenerateRequest(id="e/0/0", messages=(), adapter="a"))
    with pytest.raises(EngineRequestError):
        await engine.score([1, 2])
    with pytest.raises(EngineRequestError):
        await engine.load_adapter("a", "/nowhere")
