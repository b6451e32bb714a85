"""A request's id: in the answer, in the log, and in the words of what nobody foresaw."""

import json
import logging
from pathlib import Path

import pytest
from support.served_policy import make_served_spec, serving

from automem.engine.protocol import Completion, GenerateRequest
from automem.engine.scripted import ScriptedEngine
from automem.errors import EngineError
from automem_envs.concentration.players import PerfectMemoryPlayer

CHAT = {"model": "scripted", "messages": [{"role": "user", "content": "hello"}]}
MINE = {"x-request-id": "mine-1"}


class Broken(ScriptedEngine):
    """Fails with this."""

    def __init__(self, error: Exception) -> None:
        super().__init__(PerfectMemoryPlayer())
        self.error = error

    async def generate(self, request: GenerateRequest) -> Completion:
        raise self.error


@pytest.mark.parametrize(
    ("error", "status"), [(KeyError("kaputt"), 500), (EngineError("it is away"), 503)]
)
async def test_what_fails_is_found_in_the_log_by_the_id_of_its_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: Exception, status: int
) -> None:
    async with serving(make_served_spec(tmp_path), Broken(error)) as server:
        for headers in (MINE, {}):
            caplog.clear()
            answer = await server.client.post("/v1/chat/completions", json=CHAT, headers=headers)
            request_id = answer.headers["x-request-id"]
            assert answer.status_code == status
            assert request_id == headers.get("x-request-id", request_id) != ""
            said = answer.json()["error"]["message"]
            assert (request_id in said) == (status == 500)
            assert "kaputt" not in said
            lines = [record.getMessage() for record in caplog.records if record.exc_info]
            assert any(request_id in line and "/v1/chat/completions" in line for line in lines)


async def test_a_stream_that_breaks_is_found_by_the_id_of_its_chunks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    async with serving(make_served_spec(tmp_path), Broken(KeyError("kaputt"))) as server:
        answer = await server.client.post("/v1/chat/completions", json=CHAT | {"stream": True})
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line[:6] == "data: "]
    assert events[0]["id"] in events[-1]["error"]["message"]
    assert any(events[0]["id"] in record.getMessage() for record in caplog.records)
