"""LoRA adapters by name, beside an untouched base."""

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from automem.engine.decode import Decoder, run_all
from automem.engine.slot_model import SlotModel
from automem.errors import EngineRequestError


def save_adapter(base: str, folder, seed: int, **options) -> str:
    torch.manual_seed(seed)
    fields = {"r": 4, "lora_alpha": 12, "target_modules": "all-linear"} | options
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(**fields))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(0.0, 0.1)
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def adapters(tiny_model, tmp_path_factory):
    root = tmp_path_factory.mktemp("adapters")
    return {
        "all": save_adapter(tiny_model, root / "all", 1),
        "attention": save_adapter(
            tiny_model, root / "attention", 2, target_modules=["q_proj", "v_proj"], use_rslora=True
        ),
    }


def make_decoder(tiny_model: str, batch_invariant: bool) -> tuple[Decoder, SlotModel]:
    model = SlotModel(
        tiny_model,
        device=torch.device("cpu"),
        dtype=torch.float32,
        batch=8,
        context_tokens=256,
        block_tokens=16,
        pool_tokens=4096,
    )
    return Decoder(model, 8, batch_invariant, 128), model


@pytest.mark.parametrize("name", ["all", "attention"])
def test_an_adapter_scores_as_it_does_in_peft(tiny_model, adapters, make_request, name):
    decoder, model = make_decoder(tiny_model, False)
    model.adapters.load(name, adapters[name])
    tokens = make_request(1, prompt=60).prompt_ids
    peft = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tiny_model), adapters[name]
    ).eval()
    with torch.inference_mode():
        table = torch.log_softmax(peft(torch.tensor([tokens])).logits[0], -1)
    expected = [0.0, *(table[i - 1, tokens[i]].item() for i in range(1, len(tokens)))]
    assert decoder.score(tokens, name) == pytest.approx(expected, abs=1e-3)
    assert decoder.score(tokens, None) != pytest.approx(expected, abs=1e-3)


def test_base_calls_are_the_same_bits_before_and_after_an_adapter_is_loaded(
    tiny_model, adapters, make_request
):
    decoder, model = make_decoder(tiny_model, False)
    requests = [make_request(n) for n in range(8)]
    scores = decoder.score(requests[0].prompt_ids, None)
    before = run_all(decoder, requests)
    model.adapters.load("all", adapters["all"])
    again, _ = make_decoder(tiny_model, False)
    assert [c.logprobs for c in run_all(again, requests)] == [c.logprobs for c in before]
    fresh = Decoder(model, 8, False, 128)  # the same model, no prefixes stored
    after = run_all(fresh, requests)
    assert [(c.token_ids, c.logprobs) for c in after] == [(c.token_ids, c.logprobs) for c in before]
    assert fresh.score(requests[0].prompt_ids, None) == scores


def test_base_and_adapters_share_a_batch_without_touching_one_another(
    tiny_model, adapters, make_request
):
    decoder, model = make_decoder(tiny_model, True)
    plain = run_all(decoder, [make_request(n, prompt=70) for n in range(9)])
    for name, path in adapters.items():
        model.adapters.load(name, path)
    names = [None, "all", "attention"]
    requests = [make_request(n, prompt=70, adapter=names[n % 3]) for n in range(9)]
    alone = [run_all(Decoder(model, 8, True, 128), [r])[0] for r in requests]
    mixed = run_all(Decoder(model, 8, True, 128), requests)
    assert [(c.token_ids, c.logprobs) for c in mixed] == [(c.token_ids, c.logprobs) for c in alone]
    for number, completion in enumerate(mixed):
        assert (completion.logprobs == plain[number].logprobs) == (names[number % 3] is None)


def test_a_prefix_computed_with_an_adapter_is_not_the_bases(tiny_model, adapters, make_request):
    decoder, model = make_decoder(tiny_model, False)
    model.adapters.load("all", adapters["all"])
    run_all(decoder, [make_request(1, prompt=70, adapter="all")])
    assert run_all(decoder, [make_request(1, prompt=70)])[0].cached_tokens == 0
    assert run_all(decoder, [make_request(1, prompt=70, adapter="all")])[0].cached_tokens == 64


def test_a_name_is_never_reused(tiny_model, adapters):
    _, model = make_decoder(tiny_model, False)
    model.adapters.load("v1", adapters["all"])
    model.adapters.load("v1", adapters["all"])
    with pytest.raises(EngineRequestError, match="never"):
        model.adapters.load("v1", adapters["attention"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"rank_pattern": {"q_proj": 2}}, "rank_pattern"),
        ({"target_modules": ["q_proj", "lm_head"]}, "weights other than pairs"),
        ({"target_modules": ["q_proj"], "modules_to_save": ["norm"]}, "modules_to_save"),
    ],
)
def test_what_is_not_plain_lora_is_refused_with_the_reason(tiny_model, tmp_path, options, message):
    path = save_adapter(tiny_model, tmp_path, 3, **options)
    _, model = make_decoder(tiny_model, False)
    with pytest.raises(EngineRequestError, match=message):
        model.adapters.load("odd", path)
    assert "odd" not in model.adapters


def test_a_missing_folder_is_explained(tiny_model, tmp_path):
    _, model = make_decoder(tiny_model, False)
    with pytest.raises(EngineRequestError, match="expected a PEFT folder"):
        model.adapters.load("nothing", str(tmp_path / "nothing"))
