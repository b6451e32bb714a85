"""The transformers engine as its callers see it: a thread behind an asyncio front."""

import asyncio
import contextlib
import threading

import pytest

from automem.engine.health import Health
from automem.engine.protocol import Capabilities
from automem.engine.transformers import TransformersEngine
from automem.errors import EngineError, EngineRequestError, UsageError


@contextlib.asynccontextmanager
async def running(folder: str, **options):
    engine = TransformersEngine(folder, threads=1, context_tokens=512, **options)
    try:
        yield engine
    finally:
        await engine.close()


async def test_capabilities_are_told_once_it_can_serve(tiny_model):
    async with running(tiny_model) as engine:
        assert await engine.capabilities() == Capabilities(
            model=tiny_model,
            token_ids=True,
            logprobs=True,
            scoring=True,
            adapters=True,
            batch_invariant=False,
            tokenizer=tiny_model,
            context_tokens=512,
        )


async def test_many_callers_are_answered_each_with_their_own(tiny_model, make_request):
    async with running(tiny_model, max_batch=8) as engine:
        requests = [make_request(n, temperature=0.0) for n in range(40)]
        together = await asyncio.gather(*(engine.generate(r) for r in requests))
        for request, completion in list(zip(requests, together, strict=True))[::10]:
            assert (await engine.generate(request)).token_ids == completion.token_ids


async def test_twenty_calls_are_the_same_bits_alone_together_and_backwards(
    tiny_model, make_request
):
    async with running(tiny_model, max_batch=16, batch_invariant=True) as engine:
        requests = [make_request(n, shared=30 * (n % 2)) for n in range(20)]
        alone = [await engine.generate(request) for request in requests]
        together = await asyncio.gather(*(engine.generate(r) for r in requests))
        backwards = (await asyncio.gather(*(engine.generate(r) for r in requests[::-1])))[::-1]
    for runs in (together, backwards):
        assert [(c.token_ids, c.logprobs) for c in runs] == [
            (c.token_ids, c.logprobs) for c in alone
        ]


async def test_a_cancelled_call_makes_room_for_the_next(tiny_model, make_request):
    async with running(tiny_model, max_batch=1) as engine:
        await engine.capabilities()
        long = asyncio.create_task(engine.generate(make_request(1, max_tokens=400)))
        await asyncio.sleep(0)
        long.cancel()
        with pytest.raises(asyncio.CancelledError):
            await long
        assert await engine._call(lambda d, _: all(job.is_cancelled for job in d.jobs()))
        assert (await engine.generate(make_request(2))).text
        assert await engine._call(lambda decoder, _: decoder.is_idle)


async def test_a_bad_request_harms_nobody_else(tiny_model, make_request):
    async with running(tiny_model) as engine:
        good, bad = await asyncio.gather(
            engine.generate(make_request(1)),
            engine.generate(make_request(2, prompt=600)),
            return_exceptions=True,
        )
        assert good.text
        assert isinstance(bad, EngineRequestError)
        with pytest.raises(EngineRequestError):
            await engine.load_adapter("a", "/nowhere")
        assert len(await engine.score(make_request(3, prompt=30).prompt_ids)) == 30


async def test_a_deadline_is_kept(tiny_model, make_request):
    async with running(tiny_model) as engine:
        with pytest.raises(EngineError, match="deadline"):
            await engine.generate(make_request(1, max_tokens=400, deadline_s=0.0))


async def test_the_death_of_its_thread_fails_every_call_at_once(tiny_model, make_request):
    def die() -> None:
        raise RuntimeError("out of memory")

    async with running(tiny_model) as engine:
        await engine._call(lambda decoder, _: setattr(decoder, "tick", die))
        calls = [engine.generate(make_request(n)) for n in range(3)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(answer, EngineError) for answer in answers)
        assert "out of memory" in str(answers[0])
        with pytest.raises(EngineError, match="out of memory"):
            await engine.generate(make_request(4))
        health = await engine.health()
        assert "out of memory" in health.problem
        assert health.needs_new_process


async def test_its_health_tells_how_much_it_has_to_do(tiny_model, make_request):
    async with running(tiny_model, max_batch=2) as engine:
        assert "is being loaded" in (await engine.health()).problem
        await engine.capabilities()
        assert await engine.health() == Health()
        go_on = threading.Event()

        def pause(decoder, _) -> None:
            tick = decoder.tick
            decoder.tick = lambda: (tick(), go_on.wait())

        await engine._call(pause)
        calls = [asyncio.create_task(engine.generate(make_request(n))) for n in range(5)]
        async with asyncio.timeout(30):
            while (await engine.health()).running < 2:  # noqa: ASYNC110  it is the thread's to say
                await asyncio.sleep(0.001)
        assert await engine.health() == Health(waiting=3, running=2)
        go_on.set()
        await asyncio.gather(*calls)
        assert await engine.health() == Health()
    assert "is closed" in (await engine.health()).problem
    assert not (await engine.health()).needs_new_process


async def test_close_finishes_what_runs(tiny_model, make_request):
    async with running(tiny_model) as engine:
        await engine.capabilities()
        call = asyncio.create_task(engine.generate(make_request(1, temperature=0.0)))
        await asyncio.sleep(0)
    assert (await call).text
    with pytest.raises(EngineError, match="closed"):
        await engine.generate(make_request(2))


async def test_a_model_that_cannot_be_loaded_is_explained(tmp_path):
    async with running(str(tmp_path)) as engine:
        with pytest.raises(UsageError, match="no tokenizer can be loaded"):
            await engine.capabilities()
        health = await engine.health()
        assert "no tokenizer can be loaded" in health.problem
        assert not health.needs_new_process  # another one could not load it either


def test_bad_settings_are_refused(tiny_model):
    with pytest.raises(UsageError, match="expected auto, float32"):
        TransformersEngine(tiny_model, dtype="int4")
    with pytest.raises(UsageError, match="float32"):
        TransformersEngine(tiny_model, dtype="bfloat16", batch_invariant=True)
