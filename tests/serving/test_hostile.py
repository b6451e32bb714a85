"""Whatever is sent: an answer in words, never a 5xx."""

import asyncio
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.served_policy import Server, make_served_spec, serving

from automem.engine.scripted import ScriptedEngine
from automem_envs.concentration.players import PerfectMemoryPlayer

FIELDS = [
    "world", "task", "policy", "scaffold", "fallback_action", "max_steps", "observation", "outcome",
    "step", "model", "messages", "stop", "stream", "max_tokens", "seed", "version", "share", "info",
    "progression", "reward", "terminated", "role", "content", "expected_revision",
    "temperature", "top_p", "response_format", "logit_bias",
]  # fmt: skip
WORDS = ["current", "v1", "concentration", "embedded", "scripted", "user", "system", "", "\x00"]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**70), max_value=2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(WORDS),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=4), inner, max_size=5)
    ),
    max_leaves=12,
)
BODIES = st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=6)
ROUTES = [
    ("POST", "/v1/episodes"),
    ("POST", "/v1/episodes/{episode}/act"),
    ("GET", "/v1/episodes/{episode}/diff"),
    ("GET", "/v1/episodes/{episode}/memory/{word}"),
    ("POST", "/v1/chat/completions"),
    ("GET", "/v1/models/{word}"),
    ("POST", "/v1/admin/aliases/canary"),
    ("POST", "/v1/admin/aliases/{word}/rollback"),
]


@pytest.mark.parametrize(
    "raw",
    [
        '{"observation": "x", "outcome": {"info": {"a": 1180591620717411303424}}}',
        '{"observation": "x", "outcome": {"info": {"a": 1e308, "b": 9223372036854775808}}}',
        '{"observation": "x", "outcome": {"info": {"a": NaN}}}',
        '{"observation": "x", "outcome": {"info": {"a": -Infinity}}}',
        '{"observation": "x", "outcome": {"reward": NaN}}',
        '{"observation": "x", "outcome": {"progression": NaN}}',
        '{"observation": "x", "outcome": {"info": {"\\ud800": "\\udfff"}}}',
        '{"observation": "\\ud800 half a character"}',
        '{"observation": "\\u0000 <|END|> b:0123456789abcdef0123456789abcdef"}',
        '{"observation": "b:0123456789abcdef0123456789abcdef"}',
        '{"observation": ""}',
        '{"observation": "x", "outcome": {"info": {"a": {"deep": 1}}}}',
        "[" * 5000,
        "\xff",
    ],
)
async def test_odd_values_are_taken_or_refused_and_a_retry_is_the_same(
    server: Server, raw: str
) -> None:
    episode = (await server.create(world="concentration"))["id"]
    answers = [
        await server.client.post(
            f"/v1/episodes/{episode}/act",
            content=raw.encode("latin-1"),
            headers={"Idempotency-Key": "k", "Content-Type": "application/json"},
        )
        for _ in range(2)
    ]
    assert answers[0].status_code in (200, 400, 422), answers[0].text
    assert answers[0].content == answers[1].content
    state = await server.client.get(f"/v1/episodes/{episode}")
    assert state.json()["step"] == (1 if answers[0].status_code == 200 else 0)


@pytest.mark.parametrize(
    ("path", "raw"),
    [
        ("/v1/episodes", '{"task": "\\ud800"}'),
        ("/v1/episodes", '{"task": "x", "fallback_action": "\\ud800"}'),
        ("/v1/chat/completions", '{"model": "\\ud800", "messages": [{"role": "user"}]}'),
        (
            "/v1/chat/completions",
            '{"model": "v1", "messages": [{"role": "user", "content": "\\ud800"}]}',
        ),
    ],
)
async def test_half_a_character_is_refused_everywhere(server: Server, path: str, raw: str) -> None:
    headers = {"Content-Type": "application/json"}
    answer = await server.client.post(path, content=raw, headers=headers)
    assert answer.status_code == 422
    assert "half a character" in answer.json()["error"]["message"]


def test_no_body_and_no_name_makes_the_server_fail(tmp_path: Path) -> None:
    loop = asyncio.new_event_loop()
    limits = {"requests_per_s": 1e6, "burst": 10**6, "open_episodes": 10**6}
    spec = make_served_spec(tmp_path, limits=limits)
    replica = serving(spec, ScriptedEngine(PerfectMemoryPlayer()))
    server: Server = loop.run_until_complete(replica.__aenter__())
    episode = loop.run_until_complete(server.create(task="t"))["id"]

    @settings(
        max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    @given(
        route=st.sampled_from(ROUTES),
        body=BODIES | JSON,
        word=st.text(max_size=12),
        key=st.text(alphabet=st.characters(max_codepoint=255), max_size=8),
    )
    def attack(route: tuple[str, str], body: object, word: str, key: str) -> None:
        method, path = route

        async def send() -> None:
            name = quote(word.encode("utf-8", "surrogatepass"), safe="")
            answer = await server.client.request(
                method,
                path.format(episode=episode, word=name),
                content=msgspec.json.encode(body) if method == "POST" else None,
                headers={
                    "Content-Type": "application/json",
                    "Idempotency-Key": key.encode("latin-1"),
                },
                params={"since": word[:3]} if method == "GET" else None,
            )
            assert answer.status_code < 500, (route, body, answer.text)
            if answer.status_code >= 400:
                assert answer.json()["error"]["message"]

        loop.run_until_complete(send())

    try:
        attack()
    finally:
        loop.run_until_complete(replica.__aexit__(None, None, None))
        loop.close()
