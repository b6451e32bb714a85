"""A served policy in this process: the ASGI application, called without a socket."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import msgspec

from automem.config import scaffold_path
from automem.engine.protocol import Engine
from automem.rollout.spec import EngineSpec
from automem_envs.concentration import ConcentrationWorld
from automem_serving.app import build_app
from automem_serving.context import Context
from automem_serving.settings import ServedSpec, Settings, WorldText

BASE_URL = "http://127.0.0.1"


def make_served_spec(folder: Path, **changes: Any) -> ServedSpec:
    """A server on loopback without authentication, everything of it in `folder`."""
    settings = {
        "name": "test",
        "host": "127.0.0.1",
        "port": 8000,
        "auth": "none",
        "dir": str(folder / "served"),
        "registry": str(folder / "registry"),
        "poll_s": 0.05,
        "takeover_s": 5.0,
        "limits": {"requests_per_s": 10_000, "burst": 10_000},
    } | changes
    world = ConcentrationWorld(cards=8, max_steps=16)
    return ServedSpec(
        settings=msgspec.convert(settings, Settings),
        engine=EngineSpec(target={}),
        sampling={"temperature": 1.0, "max_tokens": 48},
        agent={},
        scaffolds={name: str(scaffold_path(name)) for name in ("embedded", "v0")},
        worlds={
            "concentration": WorldText(world.instruction, world.fallback_action, world.max_steps)
        },
    )


class Server:
    """One replica: its context, and a client of it."""

    def __init__(self, context: Context, app: Any, client: httpx.AsyncClient) -> None:
        self.context = context
        self.app = app
        self.client = client
        self._made = 0

    async def create(self, **body: Any) -> dict[str, Any]:
        """A new episode. Its id, from which every model call's seed comes, is the same in each run
        of a test: the server makes it of the idempotency key."""
        body = body or {"world": "concentration"}
        self._made += 1
        headers = {"Idempotency-Key": f"made-{self._made}"}
        answer = await self.client.post("/v1/episodes", json=body, headers=headers)
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def act(
        self, episode: str, observation: str, key: str = "", **body: Any
    ) -> httpx.Response:
        """One act."""
        headers = {"Idempotency-Key": key} if key else {}
        return await self.client.post(
            f"/v1/episodes/{episode}/act",
            json={"observation": observation, **body},
            headers=headers,
        )


async def raw_get(server: Server, path: str) -> int:
    """The status of a GET whose path no client has tidied up."""
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    await server.app(scope, receive, send)
    return statuses[0]


@asynccontextmanager
async def serving(spec: ServedSpec, engine: Engine) -> AsyncIterator[Server]:
    """A running replica over this engine."""
    context = Context(spec, engine)
    app = build_app(context)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url=BASE_URL, timeout=60) as client,
    ):
        yield Server(context, app, client)


class Table:
    """A game of Concentration on the caller's side: what it would send for the next act."""

    def __init__(self, cards: int = 8, seed: int = 3) -> None:
        self._world = ConcentrationWorld(cards=cards, max_steps=2 * cards)
        self.observation, info = self._world.reset(seed=seed)
        self.outcome: dict[str, Any] = {"progression": info["progression"]}

    @property
    def stop(self) -> str:
        """Why the world ended the game, in the words of an episode."""
        if self.outcome.get("terminated"):
            return "solved" if self.outcome["progression"] == 1.0 else "terminated"
        return "truncated" if self.outcome.get("truncated") else "cap"

    def take(self, action: str) -> None:
        """Carry out the agent's action."""
        self.observation, reward, terminated, truncated, info = self._world.step(action)
        self.outcome = {
            "progression": info["progression"],
            "reward": reward,
            "terminated": terminated,
            "truncated": truncated,
            "invalid_action": info.get("invalid_action", False),
        }

    def body(self) -> dict[str, Any]:
        """The next act's body."""
        return {"observation": self.observation, "outcome": self.outcome}


async def play(server: Server, episode: str, table: Table, on_act: Callable[[dict], None]) -> None:
    """Play the table to its end over HTTP, the terminal act included."""
    while True:
        answer = await server.act(episode, **table.body())
        assert answer.status_code == 200, answer.text
        on_act(answer.json())
        if answer.json()["done"]:
            return
        table.take(answer.json()["action"])
