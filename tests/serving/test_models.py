"""Completions and promotion, over a real (random, tiny) model with real adapters."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from support.served_policy import BASE_URL, Server, Table, make_served_spec, serving
from support.small_adapter import save_adapter

from automem.config import scaffold_path
from automem.engine.render import load_tokenizer
from automem.engine.transformers import TransformersEngine
from automem.errors import UsageError
from automem.registry import Registry
from automem_serving.deployment import check_policy


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("adapters")
    return [save_adapter("random", root / str(seed), seed) for seed in (1, 2)]


@pytest.fixture
async def small(tmp_path: Path, adapters: list[Path]) -> AsyncIterator[Server]:
    """A replica over the `random` model; v1 is the base, v2 and v3 have adapters."""
    spec = make_served_spec(tmp_path)
    registry = Registry(Path(spec.settings.registry))
    for adapter in (None, *adapters):
        registry.publish("random", scaffold_path("embedded"), adapter)
    registry.promote("v1")
    engine = TransformersEngine("random", threads=1, context_tokens=2048, max_batch=8)
    async with serving(spec, engine) as running:
        yield running


def official(server: Server) -> openai.AsyncOpenAI:
    """The official client, with our application as its network."""
    return openai.AsyncOpenAI(
        api_key="unused", base_url=f"{BASE_URL}/v1", http_client=server.client, max_retries=0
    )


def hello(**more: Any) -> dict[str, Any]:
    return {
        "model": "random",
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 8,
        "seed": 5,
        **more,
    }


async def test_models_are_listed_by_every_name_they_answer_to(small: Server) -> None:
    names = [model.id async for model in official(small).models.list()]
    assert names[:2] == ["random", "current"]
    assert names[2:5] == ["v1", "v2", "v3"]
    assert all(name.startswith("adapter-") for name in names[5:])
    assert len(names) == 7
    assert (await official(small).models.retrieve("v2")).id == "v2"


async def test_the_official_client_gets_a_completion(small: Server) -> None:
    answer = await official(small).chat.completions.create(**hello())
    assert answer.choices[0].message.content
    assert answer.model == "random"
    assert answer.usage.completion_tokens <= 8
    again = await official(small).chat.completions.create(**hello())
    assert again.choices[0].message.content == answer.choices[0].message.content


async def test_the_official_client_reads_a_stream(small: Server) -> None:
    whole = await official(small).chat.completions.create(**hello())
    stream = await official(small).chat.completions.create(
        **hello(), stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert len([c for c in chunks if c.choices and c.choices[0].delta.content]) > 2
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] is not None


async def test_an_adapter_answers_otherwise_than_its_base(small: Server) -> None:
    said = {}
    for name in ("random", "v1", "v2", "v3"):
        answer = await official(small).chat.completions.create(**hello(model=name, temperature=0))
        said[name] = answer.choices[0].message.content
    assert said["random"] == said["v1"]
    assert len({said["v1"], said["v2"], said["v3"]}) == 3


async def test_the_stop_text_is_left_out(small: Server) -> None:
    whole = (await official(small).chat.completions.create(**hello())).choices[0].message.content
    stop = whole[2:4]
    cut = await official(small).chat.completions.create(**hello(stop=[stop]))
    assert cut.choices[0].message.content == whole[: whole.index(stop)]
    assert cut.choices[0].finish_reason == "stop"


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"model": "gpt-4"}, openai.NotFoundError),
        ({"model": ""}, openai.NotFoundError),
        ({"n": 2}, openai.BadRequestError),
        ({"tools": [{"type": "function"}]}, openai.BadRequestError),
        ({"response_format": {"type": "json_object"}}, openai.BadRequestError),
        ({"frequency_penalty": 0.5}, openai.BadRequestError),
        ({"presence_penalty": -0.5}, openai.BadRequestError),
        ({"logit_bias": {"7": 100}}, openai.BadRequestError),
        ({"messages": [{"role": "wizard", "content": "x"}]}, openai.BadRequestError),
        ({"messages": [{"role": "user", "content": "x" * 9000}]}, openai.BadRequestError),
        ({"messages": []}, openai.UnprocessableEntityError),
        ({"temperature": -1}, openai.UnprocessableEntityError),
    ],
)
async def test_what_cannot_be_answered_is_refused_in_words(
    small: Server, change: dict, kind: type[openai.APIStatusError]
) -> None:
    with pytest.raises(kind) as refused:
        await official(small).chat.completions.create(**hello(**change))
    assert refused.value.body["message"]


async def test_what_clients_send_without_meaning_anything_is_taken(small: Server) -> None:
    empty = {"response_format": {"type": "text"}, "frequency_penalty": 0, "logit_bias": {}}
    answer = await official(small).chat.completions.create(**hello(**empty))
    assert answer.choices[0].message.content


@pytest.mark.parametrize(
    "odd", [{"temperature": 1e-46}, {"temperature": 1e-40}, {"top_p": 1e-46}, {"top_p": 1e-8}]
)
async def test_no_value_that_is_allowed_ends_the_engine_for_the_others(
    small: Server, odd: dict[str, float]
) -> None:
    said = await official(small).chat.completions.create(**hello(**odd))
    greedy = await official(small).chat.completions.create(**hello(temperature=0))
    assert said.choices[0].message.content == greedy.choices[0].message.content


@pytest.mark.parametrize("name", ["temperature", "top_p"])
@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
async def test_what_is_no_number_is_refused(small: Server, name: str, value: str) -> None:
    raw = json.dumps(hello(**{name: 0.5})).replace("0.5", value)
    headers = {"Content-Type": "application/json"}
    answer = await small.client.post("/v1/chat/completions", content=raw, headers=headers)
    assert answer.status_code == 422
    assert name in answer.json()["error"]["message"]


async def test_a_conversation_that_the_template_refuses_is_the_callers_mistake(
    small: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing = (
        "{% if messages[0].role != 'user' %}{{ raise_exception('the user comes first') }}"
        "{% endif %}"
        "{{ messages[0].content }}"
    )
    monkeypatch.setattr(load_tokenizer("random"), "chat_template", refusing)
    body = hello(messages=[{"role": "assistant", "content": "hello"}])
    for more in ({}, {"stream": True}):
        answer = await small.client.post("/v1/chat/completions", json=body | more)
        assert answer.status_code == 400
        assert "the user comes first" in answer.json()["error"]["message"]
    assert (await small.client.post("/v1/chat/completions", json=hello())).status_code == 200


async def test_a_stream_that_fails_says_so_in_the_stream(small: Server) -> None:
    body = hello(messages=[{"role": "user", "content": "x" * 9000}], stream=True)
    answer = await small.client.post("/v1/chat/completions", json=body)
    events = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    assert json.loads(events[-1])["error"]["code"] == "engine_refused"


async def test_a_promotion_switches_new_work_and_leaves_old_episodes(small: Server) -> None:
    old = await small.create(task="count", policy="current")
    await promote(small, "v2")
    new = await small.create(task="count", policy="current")
    assert (old["policy"], new["policy"]) == ("v1", "v2")
    answer = await small.act(old["id"], "one", key="a")
    assert answer.json()["policy"] == "v1"
    assert (await small.act(new["id"], "one", key="a")).json()["policy"] == "v2"
    await small.client.post("/v1/admin/aliases/current/rollback", json={})
    assert (await small.create(task="count"))["policy"] == "v1"


async def promote(server: Server, version: str, **body: Any) -> None:
    path = "/v1/admin/aliases/current"
    answer = await server.client.post(path, json={"version": version, **body})
    assert answer.status_code == 200, answer.text


async def test_promotions_under_load_fail_no_request_and_mix_no_versions(small: Server) -> None:
    """8 clients, two promotions and a rollback: each answer is of the version that it names."""
    client, texts = official(small), {}
    for name in ("v1", "v2", "v3"):
        answer = await client.chat.completions.create(**hello(model=name, temperature=0))
        texts[name] = answer.choices[0].message.content
    seen: list[tuple[str, str]] = []
    news: asyncio.Queue[None] = asyncio.Queue()
    is_over = asyncio.Event()

    async def load() -> None:
        while not is_over.is_set():
            answer = await client.chat.completions.create(**hello(model="current", temperature=0))
            seen.append((answer.model, answer.choices[0].message.content))
            news.put_nowait(None)

    async def more(count: int) -> None:
        for _ in range(count):
            await news.get()

    clients = [asyncio.create_task(load()) for _ in range(8)]
    for move in ("v2", "v3", None):
        await more(16)
        if move:
            Registry(small.context.registry.folder).promote(move)  # as another process does
        else:
            Registry(small.context.registry.folder).rollback()
        await more(16)
    await more(16)
    is_over.set()
    await asyncio.gather(*clients)
    assert {version for version, _ in seen} == {"v1", "v2", "v3"}
    assert all(texts[version] == text for version, text in seen)


async def test_a_canary_gets_its_share_of_new_episodes(small: Server) -> None:
    path = "/v1/admin/aliases/canary"
    body = {"version": "v3", "share": 0.5}
    assert (await small.client.post(path, json=body)).status_code == 200
    policies = [(await small.create(task="x"))["policy"] for _ in range(40)]
    assert 8 <= policies.count("v3") <= 32
    assert set(policies) == {"v1", "v3"}
    ended = await small.client.post(f"{path}/rollback", json={})
    assert ended.json()["version"] == ""
    assert {(await small.create(task="x"))["policy"] for _ in range(8)} == {"v1"}


async def test_an_alias_moves_over_http_by_compare_and_swap(small: Server) -> None:
    path = "/v1/admin/aliases/current"
    stale = await small.client.post(path, json={"version": "v2", "expected_revision": 0})
    assert (stale.status_code, stale.json()["error"]["code"]) == (409, "alias_moved")
    await promote(small, "v2", expected_revision=1)
    log = (await small.client.get("/v1/admin/aliases")).json()
    assert [move["version"] for move in log["moves"]] == ["v1", "v2"]
    assert log["replica"]["current"]["revision"] == 2
    for _ in range(2):
        last = await small.client.post(f"{path}/rollback", json={})
    assert (last.status_code, last.json()["error"]["code"]) == (409, "nothing_to_undo")


async def test_a_version_that_cannot_be_served_leaves_the_alias_where_it_was(
    small: Server, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "adapter_config.json").write_text("{}")
    registry = small.context.registry
    registry.publish("random", scaffold_path("embedded"), broken, name="broken")
    registry.publish("another", scaffold_path("embedded"), name="another")
    for name in ("broken", "another"):
        refused = await small.client.post("/v1/admin/aliases/current", json={"version": name})
        assert refused.status_code in (400, 422)
        assert str(tmp_path) not in refused.text
        registry.promote(name)  # somebody does it all the same, elsewhere
        await small.context.policies.refresh()
        ready = (await small.client.get("/readyz")).json()
        assert (ready["aliases"]["current"], ready["behind"]) == ("v1", ["current"])
        answer = await official(small).chat.completions.create(**hello(model="current"))
        assert answer.model == "v1"


async def test_a_canary_that_never_flew_leaves_no_problem_behind(small: Server) -> None:
    registry, policies = small.context.registry, small.context.policies
    registry.publish("another", scaffold_path("embedded"), name="another")
    registry.promote("another", "canary", 0.5)
    await policies.refresh()
    assert (await small.client.get("/readyz")).json()["behind"] == ["canary"]
    registry.rollback("canary")
    await policies.refresh()
    assert (await small.client.get("/readyz")).json()["behind"] == []
    assert "automem_alias_problems 0.0" in (await small.client.get("/metrics")).text


async def test_a_server_whose_current_policy_cannot_be_served_does_not_start(
    tmp_path: Path,
) -> None:
    spec = make_served_spec(tmp_path)
    registry = Registry(Path(spec.settings.registry))
    registry.publish("another", scaffold_path("embedded"))
    registry.promote("v1")
    with pytest.raises(UsageError, match="base model 'another'"):
        async with serving(spec, TransformersEngine("random", threads=1, context_tokens=512)):
            pass


async def test_a_model_that_cannot_be_loaded_is_told_before_anything_is_served(
    tmp_path: Path,
) -> None:
    with pytest.raises(UsageError, match="/nowhere"):
        await check_policy(make_served_spec(tmp_path), TransformersEngine("/nowhere", threads=1))


async def test_the_shipped_model_plays_over_http(tmp_path: Path) -> None:
    spec = make_served_spec(tmp_path)
    async with serving(spec, TransformersEngine("embedded", threads=1)) as server:
        episode = await server.create(world="concentration")
        table = Table()
        for step in range(6):
            answer = (await server.act(episode["id"], **table.body())).json()
            assert answer["step"] == step
            assert answer["usage"]["completion_tokens"] > 0
            table.take(answer["action"])
        page = (await server.client.get("/metrics")).text
        assert 'automem_acts_total{kind="new",policy="v1"} 6.0' in page
        assert 'automem_alias_revision{alias="current",version="v1"} 1.0' in page
        assert "automem_episodes_loaded 1.0" in page
        assert episode["id"] not in page
