"""A real server: Ray Serve on a free port, two replicas around one shared engine."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import msgspec
import openai
import psutil
import pytest
import ray
from support.drivers import wait_until
from support.ports import free_port
from support.served_load import AWAY, CUT, DONE, PROXY, Load
from support.served_policy import make_served_spec
from support.small_adapter import save_adapter

from automem.cli import main
from automem.config import scaffold_path
from automem.engine.actor import start_engine
from automem.registry import Registry
from automem.rollout.chain import read_events
from automem.rollout.ray_local import connected
from automem.rollout.spec import EngineSpec
from automem.trace.events import Attempt, Committed, Observed
from automem_serving.deployment import APPLICATION, application_of, serving
from automem_serving.settings import ServedSpec

pytestmark = pytest.mark.slow

TOKENS = 12


class Running:
    """The server that all tests of this file share."""

    def __init__(
        self, url: str, folder: Path, adapter: Path, spec: ServedSpec, engine: Any
    ) -> None:
        self.url = url
        self.spec = spec
        self.engine = engine
        self.adapter = adapter
        self.registry = Registry(folder / "registry")
        self.episodes = folder / "served" / "tenants" / "local" / "episodes"

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("server")
    adapter = save_adapter("random", folder / "adapter", 1)
    spec = make_served_spec(folder, port=free_port(), poll_s=0.2, replicas={"count": 2})
    target = {
        "_target_": "automem.engine.transformers.TransformersEngine",
        "model": "random",
        "threads": 1,
        "context_tokens": 4096,
        "max_batch": 8,
    }
    spec = msgspec.structs.replace(
        spec,
        engine=EngineSpec(target=target, placement="actor"),
        sampling={"temperature": 1.0, "max_tokens": TOKENS},
    )
    with connected():
        engine = start_engine(spec.engine)
        with serving(spec, engine) as url:
            yield Running(url, folder, adapter, spec, engine)


def insist(call: Callable[[], httpx.Response], seconds: float = 120) -> httpx.Response:
    """What a patient client does: the same call again while the service is away. A restarted proxy
    knows no routes for a moment; its 404 is plain text."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            answer = call()
            is_routed = answer.headers.get("content-type", "").startswith("application/json")
            is_away = answer.status_code >= 500 or (answer.status_code == 404 and not is_routed)
            if not is_away or time.monotonic() > deadline:
                return answer
        except httpx.TransportError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.1)


def named_actors(prefix: str) -> list[Any]:
    found = ray.util.list_named_actors(all_namespaces=True)
    names = [actor["name"] for actor in found if actor["name"].startswith(prefix)]
    return [ray.get_actor(name, namespace="serve") for name in sorted(names)]


def test_the_official_client_completes_and_streams(running: Running) -> None:
    client = openai.OpenAI(api_key="unused", base_url=f"{running.url}/v1")
    body: dict[str, Any] = {
        "model": "current",
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 8,
        "temperature": 0,
    }
    assert "random" in [model.id for model in client.models.list()]
    whole = client.chat.completions.create(**body)
    assert whole.model == "v1"
    chunks = list(client.chat.completions.create(**body, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    # Noise is what this model says when it is greedy: halves of characters, held back to the end.
    longer = body | {"temperature": 1, "seed": 3, "max_tokens": 64}
    pieces = [chunk.choices for chunk in client.chat.completions.create(**longer, stream=True)]
    assert len([choices for choices in pieces if choices and choices[0].delta.content]) > 2


def test_curl_plays_an_act(running: Running) -> None:
    def curl(*arguments: str) -> dict[str, Any]:
        command = ["curl", "-sS", "-H", "content-type: application/json", *arguments]
        done = subprocess.run(command, capture_output=True, timeout=60, check=True)
        return dict(msgspec.json.decode(done.stdout))

    episodes = f"{running.url}/v1/episodes"
    made = curl("-d", '{"task": "count", "fallback_action": "wait"}', episodes)
    answer = curl("-d", '{"observation": "one"}', f"{episodes}/{made['id']}/act")
    assert answer["step"] == 0
    assert answer["action"]
    assert curl(f"{episodes}/{made['id']}")["step"] == 1


def kill_replicas() -> None:
    replicas = named_actors("SERVE_REPLICA::automem#")
    assert replicas
    for replica in replicas:
        ray.kill(replica, no_restart=False)


def kill_proxy() -> None:
    [proxy] = named_actors("SERVE_PROXY_ACTOR")
    ray.kill(proxy, no_restart=False)


def kill_engine() -> None:
    family = psutil.Process().children(recursive=True)
    [engine] = [process for process in family if "ray::EngineHost" in " ".join(process.cmdline())]
    engine.kill()


def roll_over(running: Running) -> None:
    """A new version of the application takes the old one's place, replica by replica."""
    from ray import serve

    changed = msgspec.structs.replace(running.spec.settings, poll_s=0.21)
    spec = msgspec.structs.replace(running.spec, settings=changed)
    serve.run(application_of(spec, running.engine), name=APPLICATION, route_prefix="/")


def replicas_of(running: Running) -> set[str]:
    with running.client() as client:
        return {insist(lambda: client.get("/healthz")).json()["replica"] for _ in range(12)}


@pytest.mark.timeout(900)  # of a busy machine; a minute of an idle one
def test_eight_callers_lose_nothing_while_what_serves_them_is_killed_and_replaced(
    running: Running,
) -> None:
    """What the calls under way saw: after a kill an error that asks for a retry, while replicas are
    rolled over nothing; and no act is lost or done twice."""
    before = replicas_of(running)
    with Load(running.url, acting=5, completing=3) as load:
        rolled = load.during("rolling over", lambda: roll_over(running))
        assert set(rolled) == {DONE}
        killed = {
            "replicas": load.during("replicas killed", kill_replicas),
            "proxy": load.during("proxy killed", kill_proxy),
            "engine": load.during("engine killed", kill_engine),
        }
    assert not before & replicas_of(running)
    assert set(load.seen["undisturbed"]) <= {DONE, CUT, AWAY, PROXY}  # echoes of the kills
    for seen in killed.values():
        assert seen[DONE]
        assert seen.total() > seen[DONE]  # some were under way and cut short
        assert set(seen) <= {DONE, CUT, AWAY, PROXY}
    assert killed["proxy"][CUT]
    assert killed["engine"][AWAY]
    assert set(killed["engine"]) <= {DONE, AWAY}  # an engine's death cuts nobody off
    for episode, acts in zip(load.episodes, load.acts, strict=True):
        events = read_events(running.episodes / episode)
        keys = [event.key for event in events if isinstance(event, Observed)]
        assert keys == [f"key-{number}" for number in range(acts)]
        steps = [event.step for event in events if isinstance(event, Committed)]
        assert steps == list(range(acts))


def test_a_replica_that_was_stopped_amid_an_act_and_wakes_up_does_no_harm(
    running: Running,
) -> None:
    with running.client() as client, ThreadPoolExecutor(1) as other:
        made = insist(lambda: client.post("/v1/episodes", json={"task": "t", "max_steps": 60}))
        episode = made.json()["id"]

        def act(number: int) -> int:
            answer = insist(
                lambda: client.post(
                    f"/v1/episodes/{episode}/act",
                    json={"observation": f"observation {number}", "step": number},
                    headers={"Idempotency-Key": f"key-{number}"},
                    timeout=2,
                )
            )
            return int(answer.json()["step"])

        def events(kind: type) -> list[Any]:
            return [one for one in read_events(running.episodes / episode) if isinstance(one, kind)]

        number = 0
        while True:  # until an act is caught before it is done
            answer = other.submit(act, number)
            wait_until(lambda number=number: len(events(Observed)) > number, "an act to begin")
            owner = events(Attempt)[-1].pid
            os.kill(owner, signal.SIGSTOP)
            try:
                is_amid = len(events(Committed)) == number
                if is_amid:
                    assert answer.result() == number
                    assert act(number + 1) == number + 1
                    assert events(Attempt)[-1].pid != owner
            finally:
                os.kill(owner, signal.SIGCONT)
            if is_amid:
                break
            assert answer.result() == number
            number += 1
        assert [act(later) for later in range(number + 2, number + 5)] == [
            *range(number + 2, number + 5)
        ]
    assert [event.step for event in events(Committed)] == list(range(number + 5))
    assert len(events(Observed)) == number + 5


def test_promote_and_rollback_reach_a_running_server(
    running: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = ["--registry", str(running.registry.folder)]
    assert main(["promote", "--adapter", str(running.adapter), "--model", "random", *registry]) == 0
    assert "current → v2" in capsys.readouterr().out
    with running.client() as client:

        def wait_for(version: str) -> None:
            answer = insist(lambda: _as_wanted(client.get("/readyz"), version))
            assert answer.status_code == 200, answer.text

        for _ in range(8):  # both replicas
            wait_for("v2")
        made = client.post("/v1/episodes", json={"task": "t"}).json()
        assert made["policy"] == "v2"
        assert main(["rollback", *registry]) == 0
        for _ in range(8):
            wait_for("v1")
        assert client.post("/v1/episodes", json={"task": "t"}).json()["policy"] == "v1"
        answer = client.post(f"/v1/episodes/{made['id']}/act", json={"observation": "one"})
        assert answer.json()["policy"] == "v2"
    assert (
        running.registry.versions()["v1"].scaffold
        == running.registry.keep_scaffold(scaffold_path("embedded"))[0]
    )


def _as_wanted(answer: httpx.Response, version: str) -> httpx.Response:
    if answer.status_code == 200 and answer.json()["aliases"]["current"] != version:
        return httpx.Response(503)
    return answer


def test_automem_ask_is_a_client(running: Running, capsys: pytest.CaptureFixture[str]) -> None:
    url = ["--url", running.url]
    assert main(["ask", *url, "--max-tokens", "4", "hello"]) == 0
    assert main(["ask", *url, "--new", "count to three"]) == 0
    episode = capsys.readouterr().out.split()[-1]
    assert main(["ask", *url, "--episode", episode, "one"]) == 0
    assert capsys.readouterr().out.strip()
    assert main(["ask", *url, "--episode", episode, "--memory"]) == 0
    assert "+++ cards.txt" in capsys.readouterr().out
    assert main(["ask", *url, "--model", "gpt-4", "hello"]) == 1
    assert "no such policy" in capsys.readouterr().err


def test_a_second_server_on_the_same_port_is_refused(running: Running) -> None:
    port = running.url.rpartition(":")[2]
    done = subprocess.run(
        [sys.executable, "-m", "automem.cli", "serve", f"serving.port={port}", "worlds=[]"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "choose another" in done.stderr
