"""Continuous batching, driven by hand against the model's own forward pass."""

import math
import time

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from automem.engine.decode import Decoder, run_all
from automem.engine.slot_model import SlotModel
from automem.errors import EngineError, EngineRequestError, UsageError

BATCH = 8


@pytest.fixture(scope="module", params=["tiny_model", "tiny_llama"])
def folder(request):
    return request.getfixturevalue(request.param)


def slot_model(folder: str, pool_tokens: int = 4096) -> SlotModel:
    return SlotModel(
        folder,
        device=torch.device("cpu"),
        dtype=torch.float32,
        batch=BATCH,
        context_tokens=256,
        block_tokens=16,
        pool_tokens=pool_tokens,
    )


@pytest.fixture(scope="module")
def model(folder):
    return slot_model(folder)


@pytest.fixture(scope="module")
def reference(folder):
    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()


@pytest.fixture(params=[False, True], ids=["plain", "invariant"])
def decoder(model, request):
    return Decoder(model, BATCH, batch_invariant=request.param, prefill_tokens=128)


def logits_of(reference, tokens):
    with torch.inference_mode():
        return reference(torch.tensor([tokens])).logits[0]


def test_greedy_completions_equal_the_models_own_generate(decoder, reference, make_request):
    requests = [make_request(n, temperature=0.0, max_tokens=3 + n % 9) for n in range(30)]
    for request, completion in zip(requests, run_all(decoder, requests), strict=True):
        with torch.inference_mode():
            whole = reference.generate(
                torch.tensor([request.prompt_ids]),
                max_new_tokens=request.sampling.max_tokens,
                do_sample=False,
            )[0].tolist()
        assert list(completion.token_ids) == whole[len(request.prompt_ids) :]
        assert completion.finish_reason == ("stop" if completion.token_ids[-1] == 2 else "length")


@pytest.fixture(scope="module")
def lasting_decoder(tiny_model):
    return Decoder(slot_model(tiny_model), BATCH, batch_invariant=False, prefill_tokens=128)


@given(
    st.floats(min_value=0, allow_infinity=False),
    st.floats(min_value=0, exclude_min=True, allow_nan=False),
)
@example(1e-46, 1.0)
@example(1e-40, 1.0)
@example(1e39, 0.5)
@example(1.0, 1e-46)
@example(1.0, 1e39)
@settings(max_examples=60, deadline=None)
def test_every_temperature_and_top_p_that_is_allowed_is_sampled_from(
    lasting_decoder, make_request, temperature, top_p
):
    odd = make_request(1, temperature=temperature, top_p=top_p, max_tokens=3)
    plain = make_request(2, temperature=0.0, max_tokens=3)
    answer, beside = run_all(lasting_decoder, [odd, plain])
    assert all(logprob <= 0 for logprob in answer.logprobs)
    assert len(beside.token_ids) == len(beside.logprobs)


def test_a_temperature_just_above_zero_is_greedy(decoder, make_request):
    colds = [0.0, 1e-46, 1e-40, 9e-6]
    answers = run_all(decoder, [make_request(1, temperature=cold) for cold in colds])
    assert len({(answer.token_ids, answer.logprobs) for answer in answers}) == 1


@pytest.mark.parametrize(
    "sampling",
    [{"temperature": t} for t in (-1.0, math.nan, math.inf)]
    + [{"top_p": p} for p in (0.0, -1.0, math.nan)]
    + [{"max_tokens": 0}],
)
def test_what_nothing_can_be_sampled_from_is_refused(decoder, make_request, sampling):
    with pytest.raises(EngineRequestError, match=r"sampling\."):
        run_all(decoder, [make_request(1, **sampling)])
    assert decoder.is_idle


def test_a_model_that_gives_no_numbers_gives_no_completion(tiny_model, make_request):
    model = slot_model(tiny_model)
    decoder = Decoder(model, BATCH, batch_invariant=False, prefill_tokens=128)
    step = model.step
    model.step = lambda *arguments: step(*arguments).fill_(math.nan)
    with pytest.raises(EngineError, match="no numbers"):
        run_all(decoder, [make_request(1)])
    model.step = step
    assert run_all(decoder, [make_request(1)])[0].text


def test_the_load_is_what_waits_and_what_has_a_slot(decoder, make_request):
    for number in range(BATCH + 3):
        decoder.admit(make_request(number, max_tokens=20), time.monotonic() + 60, lambda _: None)
    assert decoder.load == (BATCH + 3, 0)
    decoder.tick()
    assert decoder.load == (3, BATCH)
    while not decoder.is_idle:
        decoder.tick()
    assert decoder.load == (0, 0)


def test_logprobs_are_those_of_the_sampling_distribution(decoder, reference, make_request):
    requests = [make_request(n, temperature=0.7) for n in range(4)]
    for request, completion in zip(requests, run_all(decoder, requests), strict=True):
        tokens = [*request.prompt_ids, *completion.token_ids]
        logits = logits_of(reference, tokens)[len(request.prompt_ids) - 1 : -1]
        expected = torch.log_softmax(logits / 0.7, -1)
        expected = expected.gather(1, torch.tensor(completion.token_ids)[:, None])[:, 0]
        assert torch.allclose(torch.tensor(completion.logprobs), expected, atol=1e-4)


def test_scores_are_the_models_own(decoder, reference, make_request):
    tokens = make_request(1, prompt=100).prompt_ids
    table = torch.log_softmax(logits_of(reference, tokens), -1)
    expected = [0.0, *(table[i - 1, tokens[i]].item() for i in range(1, len(tokens)))]
    assert decoder.score(tokens, None) == pytest.approx(expected, abs=1e-4)
    assert decoder.score(tokens[:1], None) == [0.0]


def test_scores_equal_the_logprobs_of_generation(decoder, make_request):
    request = make_request(5)
    completion = run_all(decoder, [request])[0]
    scores = decoder.score([*request.prompt_ids, *completion.token_ids], None)
    assert scores[len(request.prompt_ids) :] == pytest.approx(completion.logprobs, abs=1e-4)


def test_prompts_that_share_a_prefix_share_its_keys_and_values(folder, reference, make_request):
    decoder = Decoder(slot_model(folder), BATCH, batch_invariant=False, prefill_tokens=128)
    requests = [make_request(n, prompt=20, shared=40, temperature=0.0) for n in range(3)]
    first = run_all(decoder, requests[:1])[0]
    later = run_all(decoder, requests)
    assert first.cached_tokens == 0
    assert [c.cached_tokens for c in later] == [48, 32, 32]
    assert later[0].token_ids == first.token_ids
    fresh = Decoder(slot_model(folder, pool_tokens=0), BATCH, False, 128)
    assert [c.token_ids for c in run_all(fresh, requests)] == [c.token_ids for c in later]


def test_prefixes_are_not_shared_across_salts(decoder, make_request):
    mine, yours = (make_request(1, prompt=60, cache_salt=salt) for salt in ("me", "you"))
    run_all(decoder, [mine])
    assert run_all(decoder, [yours])[0].cached_tokens == 0
    assert run_all(decoder, [mine])[0].cached_tokens == 48


def test_a_prefix_pool_smaller_than_one_prompt_does_no_harm(folder, make_request):
    small = Decoder(slot_model(folder, pool_tokens=32), BATCH, False, 128)
    none = Decoder(slot_model(folder, pool_tokens=0), BATCH, False, 128)
    requests = [make_request(n % 3, shared=70, temperature=0.0) for n in range(20)]
    said = [[c.token_ids for c in run_all(decoder, requests)] for decoder in (small, none)]
    assert said[0] == said[1]


def test_the_same_seed_draws_the_same_and_another_does_not(decoder, make_request):
    said = [run_all(decoder, [make_request(1, seed=s)])[0].token_ids for s in (5, 5, 6)]
    assert said[0] == said[1] != said[2]


def test_a_stop_text_ends_a_completion_and_stays_at_its_end(decoder, make_request):
    free = run_all(decoder, [make_request(3, max_tokens=40)])[0]
    stop = free.text[5:9]  # spans tokens
    stopped = run_all(decoder, [make_request(3, max_tokens=40, stop=("never", stop))])[0]
    assert stopped.text == free.text[: free.text.index(stop) + len(stop)]
    assert stopped.token_ids == free.token_ids[: len(stopped.token_ids)]
    assert stopped.finish_reason == "stop"


def test_the_end_token_is_kept_as_a_token_and_left_out_of_the_text(decoder, make_request):
    for number in range(200):
        completion = run_all(decoder, [make_request(number, temperature=1.5, max_tokens=100)])[0]
        if completion.finish_reason == "stop":
            break
    assert completion.token_ids[-1] == 2
    assert "<|im_end|>" not in completion.text
    assert len(completion.logprobs) == len(completion.token_ids) == completion.completion_tokens


def test_max_tokens_are_cut_to_the_room_that_is_left(decoder, make_request):
    completion = run_all(decoder, [make_request(1, prompt=250, temperature=0.0, max_tokens=50)])[0]
    assert completion.finish_reason == "stop" or completion.completion_tokens == 6


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": 256}, "leaves no room in a context of 256"),
        ({"adapter": "unheard-of"}, "'unheard-of' is not loaded"),
        ({"max_tokens": 0}, "max_tokens must be at least 1"),
    ],
)
def test_requests_that_can_never_be_answered_are_refused(decoder, make_request, fields, message):
    with pytest.raises(EngineRequestError, match=message):
        run_all(decoder, [make_request(1, **fields)])


@pytest.mark.parametrize("ids", [None, (), (5, 10**6), (-1,)])
def test_prompts_that_are_no_tokens_are_refused(decoder, make_request, ids):
    import msgspec

    with pytest.raises(EngineRequestError):
        run_all(decoder, [msgspec.structs.replace(make_request(1), prompt_ids=ids)])


def test_a_cancelled_call_frees_its_slot_at_once_wherever_it_is(decoder, make_request):
    answers: list[object] = []
    later = time.monotonic() + 60
    jobs = [
        decoder.admit(make_request(n, prompt=100, max_tokens=150), later, answers.append)
        for n in range(BATCH + 1)
    ]
    decoder.tick()
    for job in jobs:
        job.is_cancelled = True
    decoder.tick()
    assert decoder.is_idle
    assert answers == []
    assert len(run_all(decoder, [make_request(n) for n in range(BATCH)])) == BATCH


def test_a_call_past_its_deadline_fails_and_the_others_go_on(decoder, make_request):
    answers: list[object] = []
    now = time.monotonic()
    decoder.admit(make_request(1, max_tokens=150), now - 1, answers.append)
    assert len(run_all(decoder, [make_request(2)])) == 1
    assert isinstance(answers[0], EngineError)
    assert "deadline" in str(answers[0])


def test_gaps_between_running_slots_are_closed(model, reference, make_request):
    decoder = Decoder(model, BATCH, batch_invariant=False, prefill_tokens=128)
    lengths = [1] * (BATCH - 1) + [40]  # the last slot outlives the rest
    requests = [
        make_request(n, temperature=0.0, max_tokens=length) for n, length in enumerate(lengths)
    ]
    completion = run_all(decoder, requests)[-1]
    alone = run_all(Decoder(model, BATCH, False, 128), requests[-1:])[0]
    assert completion.token_ids == alone.token_ids
    assert decoder._rows == 1


def test_bits_do_not_depend_on_company_order_or_cache(model, make_request):
    def fresh() -> Decoder:
        return Decoder(model, BATCH, batch_invariant=True, prefill_tokens=128)

    requests = [make_request(n, shared=40 * (n % 2), max_tokens=3 + n) for n in range(20)]
    alone = [run_all(fresh(), [request])[0] for request in requests]
    one_by_one_decoder = fresh()
    one_by_one = [run_all(one_by_one_decoder, [request])[0] for request in requests]
    together = run_all(fresh(), requests)
    backwards = run_all(fresh(), requests[::-1])[::-1]
    assert any(c.cached_tokens for c in one_by_one)
    for runs in (one_by_one, together, backwards):
        assert [c.token_ids for c in runs] == [c.token_ids for c in alone]
        assert [c.logprobs for c in runs] == [c.logprobs for c in alone]
    assert all(math.isfinite(value) for c in alone for value in c.logprobs)


def test_models_with_sliding_windows_are_refused(tmp_path):
    import tiny_model
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tiny_model.build_tokenizer(tmp_path)
    Qwen2ForCausalLM(
        Qwen2Config(
            hidden_size=32,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            vocab_size=600,
            use_sliding_window=True,
            sliding_window=8,
            max_window_layers=1,
        )
    ).save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="sliding_attention"):
        slot_model(str(tmp_path))
