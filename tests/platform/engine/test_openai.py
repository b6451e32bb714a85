"""The client of OpenAI-compatible servers, against a real local server that misbehaves."""

import asyncio
import email.utils
import json
import shutil
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest

from automem.engine.openai import OpenAIEngine
from automem.engine.protocol import GenerateRequest, Message, Sampling, ToolCall
from automem.errors import EngineError, EngineRequestError, UsageError

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))
import chat_server
from chat_server import ChatServer, drop, hang, say

PLAN = (Message("system", "Remember."), Message("user", "# plan\n# observation\ngrass"))
LOG = (Message("system", "Remember."), Message("user", "# log\n# observation\ngrass"))
GOOD = chat_server.answer_body("fine")


@pytest.fixture
async def server():
    server = ChatServer()
    await server.start()
    yield server
    await server.close()


@pytest.fixture
async def connect(server):
    engines = []

    def make(**options):
        options = {"backoff_s": 0.001, "max_backoff_s": 0.002, "max_attempts": 4} | options
        engines.append(OpenAIEngine(server.url, "some-model", **options))
        return engines[-1]

    yield make
    for engine in engines:
        await engine.close()


def request(messages=PLAN, **fields) -> GenerateRequest:
    return GenerateRequest(**{"id": "e/0/0", "messages": messages, "deadline_s": 20.0, **fields})


async def test_a_completion_with_its_counts(server, connect):
    engine = connect()
    completion = await engine.generate(request(LOG))
    assert completion.text == "<|APPEND|>actions.txt|noted<|END|><|DONE|>"
    assert (completion.prompt_tokens, completion.cached_tokens) == (100, 64)
    assert completion.completion_tokens == 10
    assert (await engine.generate(request(PLAN))).text == "<|ACTION|>Noop<|END|>"


async def test_what_is_asked_is_what_was_wanted(server, connect, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "secret")
    engine = connect(api_key_env="SOME_KEY", extra_body={"min_p": 0.1}, omit=["top_p"])
    tool = {"type": "function", "function": {"name": "view", "parameters": {}}}
    turns = (
        *PLAN,
        Message("assistant", "", tool_calls=(ToolCall("c1", "view", '{"path": "/memories"}'),)),
        Message("tool", "05 K", tool_call_id="c1"),
    )
    sampling = Sampling(temperature=0.5, max_tokens=77, stop=("<|END|>",))
    await engine.generate(
        request(turns, adapter="v3", seed=2**62 + 9, sampling=sampling, tools=(tool,))
    )
    assert json.loads(server.bodies[-1]) == {
        "model": "v3",
        "messages": [
            {"role": "system", "content": "Remember."},
            {"role": "user", "content": "# plan\n# observation\ngrass"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "c1",
                        "type": "function",
                        "function": {"name": "view", "arguments": '{"path": "/memories"}'},
                    }
                ],
            },
            {"role": "tool", "content": "05 K", "tool_call_id": "c1"},
        ],
        "temperature": 0.5,
        "max_tokens": 77,
        "seed": 9,
        "stop": ["<|END|>"],
        "tools": [tool],
        "min_p": 0.1,
    }
    assert b"authorization: bearer secret" in server.heads[-1]


async def test_tool_calls_are_read(server, connect):
    call = {"id": "c", "type": "function", "function": {"name": "view", "arguments": "{}"}}
    server.script.append(say(200, chat_server.answer_body(None, tool_calls=[call])))
    completion = await connect().generate(request())
    assert completion.tool_calls == (ToolCall("c", "view", "{}"),)
    assert (completion.text, completion.finish_reason) == ("", "tool_calls")


async def test_a_stop_text_that_the_server_cuts_off_and_names_is_put_back(server, connect):
    body = json.loads(chat_server.answer_body("<|ACTION|>Noop"))
    body["choices"][0]["stop_reason"] = "<|END|>"
    server.script.append(say(200, json.dumps(body).encode()))
    completion = await connect().generate(request(sampling=Sampling(stop=("<|END|>",))))
    assert completion.text == "<|ACTION|>Noop<|END|>"


@pytest.mark.parametrize(
    "failure",
    [
        say(429, b'{"error": {"message": "slow down"}}', "Retry-After: 0"),
        say(500, b"oops"),
        say(503, b""),
        say(408, b""),
        say(200, b'{"choices": [{"message": {"content": "half'),
        say(200, b"<html>proxy error</html>"),
        say(200, b'{"choices": []}'),
        say(200, b'{"choices": [{"message": {"content": null}}]}'),
        say(200, b'{"choices": [{"message": {"content": 5}}]}'),
        say(200, b"\xff\xfe"),
        drop(),
        drop(b"HTTP/1.1 200 OK\r\nContent-Le"),
        drop(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"),
        drop(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"),
        drop(b"SSH-2.0-OpenSSH\r\n\r\n"),
        hang(),
    ],
    ids=[
        *("429", "500", "503", "408", "broken JSON", "no JSON", "no choice", "null content"),
        *("content of another type", "not UTF-8", "dropped at once", "dropped in the head"),
        *("dropped in the body", "dropped in a chunk", "another protocol", "no answer"),
    ],
)
async def test_what_may_pass_is_tried_again(server, connect, failure):
    engine = connect(timeout_s=0.2)
    server.script.extend([failure, failure, say(200, GOOD)])
    assert (await engine.generate(request())).text == "fine"
    assert server.requests >= 3  # on a kept connection a drop is also tried again at once
    server.script.extend([failure] * 10)
    with pytest.raises(EngineError, match="in 4 attempts") as caught:
        await engine.generate(request())
    assert not isinstance(caught.value, EngineRequestError)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 307])
async def test_what_never_passes_is_refused_with_the_servers_words(server, connect, status):
    server.script.append(say(status, b'{"error": {"message": "no such model: some-model"}}'))
    with pytest.raises(EngineRequestError, match=f"{status}: no such model: some-model"):
        await connect().generate(request())
    assert server.requests == 1


async def test_the_server_says_when_to_come_back(server, connect):
    for seconds in (0.05, 2):
        when = email.utils.formatdate(time.time() + seconds, usegmt=True)
        header = f"Retry-After: {seconds if seconds < 1 else when}"
        server.script.append(say(429, b"", header))
        start = time.monotonic()
        await connect().generate(request())
        waited = time.monotonic() - start
        assert waited >= (0.04 if seconds < 1 else 0.5)


async def test_an_unreadable_wish_is_not_one(server, connect):
    server.script.append(say(429, b"", "Retry-After: soon"))
    assert (await connect().generate(request())).text


async def test_a_slow_answer_is_waited_for_up_to_the_deadline(server, connect):
    server.latency_s = 0.05
    assert (await connect().generate(request())).text
    server.script.append(hang())
    with pytest.raises(EngineError, match=r"within 0\.1 s"):
        await connect().generate(request(deadline_s=0.1))


async def test_retries_do_not_outlive_the_deadline(server, connect):
    server.script.extend([say(500, b"oops")] * 1000)
    engine = connect(max_attempts=1000, backoff_s=0.01, max_backoff_s=0.01)
    with pytest.raises(EngineError, match="the last failure: status 500: oops"):
        await engine.generate(request(deadline_s=0.1))
    assert server.requests < 100


async def test_an_answer_of_a_megabyte_is_fine_and_one_of_ten_is_not(server, connect):
    server.script.append(say(200, chat_server.answer_body("x" * 1_000_000)))
    assert len((await connect().generate(request())).text) == 1_000_000
    server.script.extend([say(200, chat_server.answer_body("x" * 10_000_000))] * 4)
    with pytest.raises(EngineError, match="larger than 8000000 bytes"):
        await connect().generate(request())


async def test_chunked_answers_and_answers_without_a_length_are_read(server, connect):
    size = f"{len(GOOD[10:]):x}".encode()
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\n" + GOOD[:10]
    chunked += b"\r\n" + size + b";ext=1\r\n" + GOOD[10:] + b"\r\n0\r\nTrailer: x\r\n\r\n"

    async def in_pieces(connection):
        for i in range(len(chunked) - 1):
            connection.transport.write(chunked[i : i + 1])
            await asyncio.sleep(0)
        connection.write(chunked[-1:])

    interim = b"HTTP/1.1 100 Continue\r\n\r\n" + chat_server.http(200, GOOD)
    server.script.extend(
        [in_pieces, drop(b"HTTP/1.1 200 OK\r\n\r\n" + GOOD), lambda c: c.write(interim)]
    )
    engine = connect(max_attempts=1)
    for _ in range(3):
        assert (await engine.generate(request())).text == "fine"


async def test_connections_are_used_again(server, connect):
    engine = connect()
    for _ in range(20):
        await engine.generate(request())
    assert (server.requests, server.connections) == (20, 1)
    await asyncio.gather(*(engine.generate(request()) for _ in range(8)))
    assert server.connections <= 9


async def test_a_connection_that_the_server_closed_meanwhile_is_no_failure(server, connect):
    engine = connect(max_attempts=1)

    def answer_and_close(connection):
        connection.write(chat_server.http(200, GOOD))
        connection.transport.close()

    for _ in range(5):
        server.script.append(answer_and_close)
        assert (await engine.generate(request())).text == "fine"


async def test_no_more_calls_are_under_way_than_allowed(server, connect):
    server.latency_s = 0.01
    engine = connect(max_concurrency=3)
    await asyncio.gather(*(engine.generate(request()) for _ in range(20)))
    assert server.most_under_way == 3
    assert server.connections == 3


async def test_cancelling_a_call_closes_its_connection(server, connect):
    arrived, gone = asyncio.Event(), asyncio.Event()

    def hang_and_tell(connection):
        arrived.set()
        lost = connection.connection_lost
        connection.connection_lost = lambda error: (lost(error), gone.set())

    server.script.append(hang_and_tell)
    engine = connect(max_concurrency=1)
    call = asyncio.create_task(engine.generate(request()))
    await arrived.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.wait_for(gone.wait(), 5)
    assert server.aborted == 1
    assert (await engine.generate(request())).text  # its place is free again


async def test_readiness_is_waited_for_and_its_lack_explained(server, connect):
    given = {"tool_calls": True, "context_tokens": 32768}
    capabilities = await connect(capabilities=given).capabilities()
    assert (capabilities.model, capabilities.tool_calls) == ("some-model", True)
    assert not capabilities.token_ids
    await server.close()
    silent = connect(ready_timeout_s=0.01)
    with pytest.raises(EngineError, match="nothing answers at http"):
        await silent.capabilities()


async def test_it_does_not_score_and_loads_adapters_only_where_the_server_does(server, connect):
    with pytest.raises(EngineRequestError, match="cannot score"):
        await connect().score([1, 2])
    with pytest.raises(EngineRequestError, match="without adapters"):
        await connect().load_adapter("v1", "/adapters/v1")
    engine = connect(capabilities={"adapters": True})
    server.script.append(say(200, b"Success"))
    await engine.load_adapter("v1", "/adapters/v1")
    assert json.loads(server.bodies[-1]) == {"lora_name": "v1", "lora_path": "/adapters/v1"}
    server.script.append(say(400, b'{"message": "v1 has already been loaded."}'))
    await engine.load_adapter("v1", "/adapters/v1")
    server.script.append(say(404, b'{"detail": "Not Found"}'))
    with pytest.raises(EngineRequestError, match="Not Found"):
        await engine.load_adapter("v2", "/adapters/v2")


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://host/v1", "http://", ""])
def test_a_base_url_that_is_none_is_explained(url):
    with pytest.raises(UsageError, match="is no base URL"):
        OpenAIEngine(url, "m")


def test_bad_capabilities_are_explained():
    with pytest.raises(UsageError, match="capabilities"):
        OpenAIEngine("http://h", "m", capabilities={"tool_calls": "yes"})


def test_a_key_cannot_smuggle_headers(monkeypatch):
    monkeypatch.setenv("SOME_KEY", "secret\r\nX-Evil: 1")
    with pytest.raises(UsageError, match="characters"):
        OpenAIEngine("http://h", "m", api_key_env="SOME_KEY")


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl to make a certificate")
async def test_https_with_a_certificate_that_is_checked(tmp_path, monkeypatch):
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "cert.pem")
    making = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    making += ["-keyout", key, "-out", certificate, "-subj", "/CN=localhost"]
    making += ["-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(making, check=True, capture_output=True)  # noqa: ASYNC221
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    server = ChatServer()
    url = f"https://localhost:{await server.start(tls=context)}/v1"
    stranger = OpenAIEngine(url, "m", max_attempts=1)
    with pytest.raises(EngineError, match="certificate verify failed"):
        await stranger.generate(request())
    monkeypatch.setenv("SSL_CERT_FILE", certificate)
    engine = OpenAIEngine(url, "m", max_attempts=1)
    assert (await engine.generate(request())).text
    assert (await engine.generate(request())).text
    await engine.close()
    await server.close()
