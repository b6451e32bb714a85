"""Clients that are programs of their own, against a server on a free port of loopback: the official
`openai` client, curl, a loop that uses memory as a tool, and `examples/client.py`."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from support.live_policy import live
from support.served_policy import make_served_spec

from automem.engine.transformers import TransformersEngine

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The shipped model behind a real socket."""
    engine = TransformersEngine("embedded", threads=1, max_batch=8)
    with live(make_served_spec(tmp_path_factory.mktemp("live")), engine) as address:
        yield address


def test_the_official_client_streams_over_a_socket(url: str) -> None:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0)
    body: dict[str, Any] = {
        "model": "current",
        "messages": [{"role": "user", "content": "Where is card 05?"}],
        "max_tokens": 12,
        "temperature": 0,
    }
    whole = client.chat.completions.create(**body)
    with client.chat.completions.create(**body, stream=True) as stream:
        chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert (text, chunks[-1].model) == (whole.choices[0].message.content, whole.model)
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(**body | {"model": "gpt-4"})


@pytest.mark.skipif(shutil.which("curl") is None, reason="apt-get install curl")
def test_curl_completes_streams_and_acts(url: str) -> None:
    def curl(*arguments: str) -> str:
        command = ["curl", "-sS", "-N", "-H", "content-type: application/json", *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=True
        ).stdout

    messages = [{"role": "user", "content": "hello"}]
    body = {"model": "current", "messages": messages, "max_tokens": 4, "stream": True}
    said = curl("-d", json.dumps(body), f"{url}/v1/chat/completions")
    assert said.rstrip().endswith("data: [DONE]")
    made = json.loads(curl("-d", '{"task": "count"}', f"{url}/v1/episodes"))
    episode = f"{url}/v1/episodes/{made['id']}"
    key = ("-H", "Idempotency-Key: one")
    answers = [curl(*key, "-d", '{"observation": "one"}', f"{episode}/act") for _ in range(2)]
    assert answers[0] == answers[1]
    assert json.loads(answers[0])["step"] == 0
    tool = {"command": "view", "path": "/memories"}
    assert not json.loads(curl("-d", json.dumps(tool), f"{episode}/tools/memory"))["is_error"]
    assert curl("-X", "DELETE", "-w", "%{http_code}", episode) == "204"


def test_a_loop_with_tool_use_keeps_its_memory_here(url: str) -> None:
    """As a program that drives another model does: `tool_use` blocks in, `tool_result` out."""
    asked = [
        {"command": "view", "path": "/memories"},
        {"command": "create", "path": "/memories/plan.md", "file_text": "1. look\n2. go\n"},
        {"command": "str_replace", "path": "/memories/plan.md", "old_str": "go", "new_str": "run"},
        {"command": "view", "path": "/memories/plan.md"},
        {"command": "view", "path": "/memories/nowhere.md"},
    ]
    blocks = [
        {"type": "tool_use", "id": f"toolu_{number}", "name": "memory", "input": command}
        for number, command in enumerate(asked)
    ]
    with httpx.Client(base_url=url, timeout=60) as client:
        episode = client.post("/v1/episodes", json={"task": "t"}).json()["id"]
        results = []
        for block in blocks:
            answer = client.post(
                f"/v1/episodes/{episode}/tools/memory",
                json=block["input"],
                headers={"Idempotency-Key": str(block["id"])},
            ).raise_for_status()
            results.append(
                {
                    "type": "tool_result",
                    "tool_use_id": block["id"],
                    **{name: answer.json()[name] for name in ("content", "is_error")},
                }
            )
    assert [result["is_error"] for result in results] == [False] * 4 + [True]
    assert "2. run" in results[3]["content"].replace("\t", " ")


def test_the_example_client_runs(url: str) -> None:
    before = httpx.get(f"{url}/v1/episodes").json()
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "client.py"), "--url", url, "--steps", "4"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "models:    embedded, current, v1" in done.stdout
    assert "pairs found:" in done.stdout
    assert httpx.get(f"{url}/v1/episodes").json() == before  # it deletes what it made
