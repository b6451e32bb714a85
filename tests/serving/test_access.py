"""Who may do what: tokens, scopes, tenants that never see one another, limits."""

import asyncio
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.served_policy import Server, Table, make_served_spec, raw_get, serving

from automem.engine.scripted import ScriptedEngine
from automem.errors import UsageError
from automem_envs.concentration.players import PerfectMemoryPlayer
from automem_serving.access import Rates, Tokens
from automem_serving.context import TOKENS_FILE
from automem_serving.problems import ApiError

ACT = {"observation": "x"}


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Server]:
    """A replica that asks for tokens."""
    spec = make_served_spec(tmp_path, auth="tokens")
    async with serving(spec, ScriptedEngine(PerfectMemoryPlayer())) as running:
        yield running


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    return Tokens(tmp_path / "served" / TOKENS_FILE)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_a_token_is_kept_as_a_hash_that_only_its_owner_can_read(
    tokens: Tokens, tmp_path: Path
) -> None:
    token, record = tokens.issue("ann", ("act",))
    path = tmp_path / "served" / TOKENS_FILE
    assert token not in path.read_text()
    assert record.digest in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert tokens.caller(token).tenant == "ann"
    assert tokens.caller(token + "x") is None


@pytest.mark.parametrize(
    ("tenant", "scopes"), [("../ann", ("act",)), ("", ("act",)), ("ann", ("root",)), ("ann", ())]
)
def test_tokens_of_odd_tenants_or_scopes_are_not_made(
    tokens: Tokens, tenant: str, scopes: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError):
        tokens.issue(tenant, scopes)


async def test_without_a_token_nothing_but_health_answers(guarded: Server) -> None:
    client = guarded.client
    for path in ("/v1/models", "/v1/episodes", "/v1/admin/aliases"):
        answer = await client.get(path)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    for headers in (bearer("automem_guess"), {"Authorization": "Basic eDp5"}):
        assert (await client.get("/v1/models", headers=headers)).status_code == 401
    for path in ("/healthz", "/readyz", "/metrics", "/openapi"):
        assert (await client.get(path)).status_code == 200


async def test_the_openapi_schema_says_where_a_token_goes(server: Server) -> None:
    schema = (await server.client.get("/openapi")).json()
    assert schema["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    assert schema["paths"]["/v1/episodes/{episode}/act"]["post"]["security"]
    assert "security" not in schema["paths"]["/healthz"]["get"]


async def test_a_token_opens_what_its_scopes_say(guarded: Server, tokens: Tokens) -> None:
    allowed = {"complete": "/v1/models", "act": "/v1/episodes", "admin": "/v1/admin/aliases"}
    for scope in allowed:
        token, _ = tokens.issue("ann", (scope,))
        for other, path in allowed.items():
            answer = await guarded.client.get(path, headers=bearer(token))
            assert answer.status_code == (200 if scope == other else 403)


async def test_a_revoked_token_is_worthless_at_once(guarded: Server, tokens: Tokens) -> None:
    token, record = tokens.issue("ann", ("act",))
    assert (await guarded.client.get("/v1/episodes", headers=bearer(token))).status_code == 200
    tokens.revoke(record.id)
    assert (await guarded.client.get("/v1/episodes", headers=bearer(token))).status_code == 401
    with pytest.raises(UsageError, match="no token has the id"):
        tokens.revoke("none")


async def test_no_route_shows_or_touches_another_tenants_episode(
    guarded: Server, tokens: Tokens
) -> None:
    client = guarded.client
    ann, eve = (bearer(tokens.issue(name, ("act",))[0]) for name in ("ann", "eve"))
    made = await client.post("/v1/episodes", json={"world": "concentration"}, headers=ann)
    episode = made.json()["id"]
    body = Table().body()
    first = await client.post(f"/v1/episodes/{episode}/act", json=body, headers=ann)
    assert first.status_code == 200
    assert (await client.get("/v1/episodes", headers=eve)).json() == {"data": []}
    unknown = "ep-" + "0" * 24
    for method, rest in (
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/act"),
        ("POST", "/tools/memory"),
        ("GET", "/memory"),
        ("GET", "/memory/cards.txt"),
        ("GET", "/diff"),
    ):
        json = body if method == "POST" else None
        answers = [
            await client.request(method, f"/v1/episodes/{name}{rest}", json=json, headers=eve)
            for name in (episode, unknown)
        ]
        assert answers[0].status_code == 404
        assert answers[0].content == answers[1].content
    state = (await client.get(f"/v1/episodes/{episode}", headers=ann)).json()
    assert state["step"] == 1


async def test_one_tenants_idempotency_key_is_not_anothers(guarded: Server, tokens: Tokens) -> None:
    ids = []
    for name in ("ann", "eve"):
        headers = bearer(tokens.issue(name, ("act",))[0]) | {"Idempotency-Key": "k"}
        made = await guarded.client.post(
            "/v1/episodes", json={"world": "concentration"}, headers=headers
        )
        ids.append(made.json()["id"])
    assert ids[0] != ids[1]


async def test_tenants_share_a_scaffold_and_no_cached_prompt(server: Server) -> None:
    policies = server.context.policies
    version = policies.version("v1")
    ann, eve = [
        await policies.parts(version, version.scaffold_folder, tenant) for tenant in ("ann", "eve")
    ]
    assert ann.scaffold is eve.scaffold
    assert (ann.options.cache_salt, eve.options.cache_salt) == ("ann/v1", "eve/v1")


@pytest.mark.parametrize(
    "name",
    [
        "..",
        "../tokens.jsonl",
        "%2e%2e%2ftokens.jsonl",
        "..%2f..%2fserved.json",
        "ep-000000000000000000000000%2f..",
        "ep-00000000000000000000000g",
        "ep-" + "0" * 24 + "%00",
        "EP-" + "0" * 24,
    ],
)
async def test_names_that_are_paths_lead_nowhere(server: Server, name: str) -> None:
    episode = (await server.create(world="concentration"))["id"]
    for path in (f"/v1/episodes/{name}", f"/v1/episodes/{name}/memory"):
        assert await raw_get(server, path) == 404
    for file in (name, f"{name}/served.json", "..%2fserved.json", "%2fetc%2fpasswd"):
        assert await raw_get(server, f"/v1/episodes/{episode}/memory/{file}") == 404


async def test_an_oversized_body_is_refused_declared_or_not(tmp_path: Path) -> None:
    spec = make_served_spec(tmp_path, limits={"body_bytes": 1000, "burst": 100})
    async with serving(spec, ScriptedEngine(PerfectMemoryPlayer())) as server:

        async def endless() -> AsyncIterator[bytes]:
            for _ in range(100):
                yield b" " * 100

        for content in (b" " * 2000, endless()):
            answer = await server.client.post("/v1/episodes", content=content)
            assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")


async def test_a_body_that_does_not_arrive_is_given_up(tmp_path: Path) -> None:
    spec = make_served_spec(tmp_path, limits={"body_s": 0.05, "burst": 100})
    async with serving(spec, ScriptedEngine(PerfectMemoryPlayer())) as server:

        async def stuck() -> AsyncIterator[bytes]:
            yield b"{"
            await asyncio.Event().wait()

        answer = await server.client.post("/v1/episodes", content=stuck())
        assert (answer.status_code, answer.json()["error"]["code"]) == (408, "body_too_slow")


async def test_a_long_observation_is_refused(tmp_path: Path) -> None:
    spec = make_served_spec(tmp_path, limits={"observation_chars": 100})
    async with serving(spec, ScriptedEngine(PerfectMemoryPlayer())) as server:
        episode = (await server.create(world="concentration"))["id"]
        assert (await server.act(episode, "x" * 101)).status_code == 413


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    rates = Rates(per_s=2.0, burst=3)
    for _ in range(3):
        rates.take("ann", now=0.0)
    with pytest.raises(ApiError) as refused:
        rates.take("ann", now=0.1)
    assert refused.value.status == 429
    rates.take("eve", now=0.1)
    rates.take("ann", now=0.6)


async def test_a_tenant_that_is_too_fast_is_told_to_wait(tmp_path: Path) -> None:
    spec = make_served_spec(tmp_path, limits={"requests_per_s": 0.001, "burst": 2})
    async with serving(spec, ScriptedEngine(PerfectMemoryPlayer())) as server:
        codes = [(await server.client.get("/v1/episodes")).status_code for _ in range(3)]
        assert codes == [200, 200, 429]
        assert (await server.client.get("/healthz")).status_code == 200


async def test_a_tenant_that_stores_too_much_may_end_and_delete_but_not_go_on(
    tmp_path: Path,
) -> None:
    spec = make_served_spec(tmp_path, limits={"stored_bytes": 20_000})
    async with serving(spec, ScriptedEngine(PerfectMemoryPlayer())) as server:
        episode = (await server.create(world="concentration"))["id"]
        body = Table().body()
        assert (await server.act(episode, key="one", **body)).status_code == 200
        path = f"/v1/episodes/{episode}/tools/memory"
        large = {"command": "create", "path": "/memories/large.md", "file_text": "x" * 30_000}
        assert (await server.client.post(path, json=large)).status_code == 200
        server.context.episodes.stored.forget("local")  # as a few seconds later
        over = {"terminated": True, "progression": 0.5}
        for refused in (
            await server.act(episode, **body),
            await server.client.post(path, json=large | {"path": "/memories/more.md"}),
            await server.client.post("/v1/episodes", json={"world": "concentration"}),
        ):
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "storage_full")
        assert (await server.act(episode, key="one", **body)).status_code == 200
        assert (await server.act(episode, "the end", outcome=over)).json()["done"]
        await server.client.delete(f"/v1/episodes/{episode}")
        await server.create(world="concentration")


async def test_only_so_many_episodes_may_be_open(tmp_path: Path) -> None:
    spec = make_served_spec(tmp_path, limits={"open_episodes": 2})
    async with serving(spec, ScriptedEngine(PerfectMemoryPlayer())) as server:
        made = [await server.create(world="concentration") for _ in range(2)]
        refused = await server.client.post("/v1/episodes", json={"world": "concentration"})
        assert refused.json()["error"]["code"] == "too_many_open_episodes"
        await server.client.delete(f"/v1/episodes/{made[0]['id']}")
        await server.create(world="concentration")


async def test_without_tokens_no_other_host_name_is_answered(server: Server) -> None:
    for host, code in (
        ("evil.example", 403),
        ("evil.example:80", 403),
        ("localhost:8700", 200),
        ("[::1]:8700", 200),
    ):
        answer = await server.client.get("/v1/models", headers={"Host": host})
        assert answer.status_code == code, host


def test_without_tokens_only_loopback_is_served(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::", "10.1.2.3", "example.org"):
        with pytest.raises(UsageError, match="let everybody in"):
            make_served_spec(tmp_path, host=host).settings.check()
    for host in ("127.0.0.1", "::1", "localhost"):
        make_served_spec(tmp_path, host=host).settings.check()
    make_served_spec(tmp_path, host="0.0.0.0", auth="tokens").settings.check()
