"""Scaffolds that an administrator registers over HTTP, and episodes that name them."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from support.served_policy import Server, Table, make_served_spec, serving

from automem.agent.scaffold_files import read_files
from automem.config import scaffold_path
from automem.engine.scripted import ScriptedEngine
from automem_envs.concentration.players import PerfectMemoryPlayer
from automem_serving.access import Tokens
from automem_serving.context import TOKENS_FILE

PATH = "/v1/admin/scaffolds"


def files(**changes: str) -> dict[str, str]:
    """The embedded scaffold, with other wording: not one that is shipped any more."""
    found = read_files(scaffold_path("embedded"))
    found["plan.system.j2"] += "\nThink first.\n"
    return found | {
        name.replace("_j2", ".j2").replace("_py", ".py"): text for name, text in changes.items()
    }


async def register(server: Server, name: str = "mine", **changes: str) -> httpx.Response:
    return await server.client.post(PATH, json={"name": name, "files": files(**changes)})


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[tuple[Server, dict[str, dict[str, str]]]]:
    """A replica that asks for tokens, and a header with a token per scope."""
    spec = make_served_spec(tmp_path, auth="tokens")
    tokens = Tokens(tmp_path / "served" / TOKENS_FILE)
    headers = {
        scope: {"Authorization": f"Bearer {tokens.issue('ann', (scope,))[0]}"}
        for scope in ("act", "complete", "admin")
    }
    async with serving(spec, ScriptedEngine(PerfectMemoryPlayer())) as running:
        yield running, headers


async def test_an_episode_plays_by_a_scaffold_that_was_registered(server: Server) -> None:
    made = await register(server)
    assert made.status_code == 201
    assert (await server.client.get("/v1/scaffolds")).json() == {"data": ["embedded", "mine", "v0"]}
    episode = await server.create(world="concentration", scaffold="mine")
    assert episode["scaffold"] == made.json()["scaffold"]
    answer = await server.act(episode["id"], **Table().body())
    assert answer.json()["action"]
    assert answer.json()["source"] == "model"


async def test_a_newer_upload_is_for_new_episodes_and_equal_content_is_no_upload(
    server: Server,
) -> None:
    first = await register(server)
    assert (await register(server)).json() == first.json()
    old = await server.create(world="concentration", scaffold="mine")
    second = await register(server, plan_j2=files()["plan.j2"] + "\nNow.\n")
    new = await server.create(world="concentration", scaffold="mine")
    state = (await server.client.get(f"/v1/episodes/{old['id']}")).json()
    assert state["scaffold"] == first.json()["scaffold"] != second.json()["scaffold"]
    assert new["scaffold"] == second.json()["scaffold"]
    assert (await server.act(old["id"], **Table().body())).status_code == 200


@pytest.mark.parametrize(
    ("name", "changes", "code"),
    [
        ("mine", {"hooks_py": "import os\n"}, "hooks_not_taken"),
        ("mine", {"../escape_j2": "x"}, "not_a_scaffold"),
        ("mine", {"plan_j2": "{{ 1 +"}, "scaffold_failed"),
        ("mine", {"plan_j2": "{{ nothing_of_this_name }}"}, "scaffold_failed"),
        ("mine", {"plan_j2": "{{ ''.__class__.__mro__ }}"}, "scaffold_failed"),
        ("mine", {"plan_j2": "{{ 'x' * 50000000 }}"}, "scaffold_failed"),
        ("mine", {"scaffold.yaml": "name: [1"}, "scaffold_failed"),
        ("mine", {"scaffold.yaml": "nmae: mine"}, "scaffold_failed"),
        ("embedded", {}, "name_taken"),
        ("../mine", {}, "invalid_request"),
    ],
)
async def test_what_is_no_scaffold_is_refused_in_words(
    server: Server, tmp_path: Path, name: str, changes: dict[str, str], code: str
) -> None:
    refused = await register(server, name, **changes)
    assert refused.status_code in (409, 422), refused.text
    assert refused.json()["error"]["code"] == code
    for place in ("/tmp", str(tmp_path), sys.prefix):
        assert place not in refused.json()["error"]["message"]
    assert (await server.client.get("/v1/scaffolds")).json() == {"data": ["embedded", "v0"]}
    unknown = await server.client.post("/v1/episodes", json={"task": "t", "scaffold": "mine"})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (422, "unknown_scaffold")


async def test_only_an_administrator_registers_and_it_is_kept_who_did(
    guarded: tuple[Server, dict[str, dict[str, str]]],
) -> None:
    server, headers = guarded
    body = {"name": "mine", "files": files()}
    for scope, status in (("act", 403), ("complete", 403), ("admin", 201)):
        answer = await server.client.post(PATH, json=body, headers=headers[scope])
        assert answer.status_code == status
    [record] = (await server.client.get(PATH, headers=headers["admin"])).json()["data"]
    assert record["by"].startswith("ann/")
    assert record["time"] > 0
    assert (await server.client.get(PATH, headers=headers["act"])).status_code == 403
    assert (await server.client.get("/v1/scaffolds", headers=headers["act"])).status_code == 200
