"""Two threads that load models at once do not set each other's dtype or device."""

from concurrent.futures import ThreadPoolExecutor

import torch

from automem.engine.slot_model import load_model
from automem.engine.vllm_adapters import linear_shapes


def test_a_model_loads_while_another_threads_shapes_are_asked_for() -> None:
    with ThreadPoolExecutor(2) as pool:
        for _ in range(6):
            shapes = pool.submit(linear_shapes, "embedded")
            loaded = pool.submit(load_model, "embedded", torch.device("cpu"), torch.float32)
            parameters = list(loaded.result().parameters())
            assert {one.dtype for one in parameters} == {torch.float32}
            assert {one.device.type for one in parameters} == {"cpu"}
            assert shapes.result()
