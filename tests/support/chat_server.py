"""A chat-completions server for tests and benchmarks: very fast, or misbehaving on demand.

    python tests/support/chat_server.py --port 0 [--latency-ms 50]

prints its port and answers every request with a valid reply chosen by the prompt: a write for LOG
prompts, an action for PLAN and commit prompts. In tests, `ChatServer` runs in the test's own event
loop, and `script` holds behaviours for the requests to come, in order.
"""

import argparse
import asyncio
import json
import ssl
from collections import deque
from collections.abc import Awaitable, Callable

LOG_REPLY = "<|APPEND|>actions.txt|noted<|END|><|DONE|>"
PLAN_REPLY = "<|ACTION|>Noop<|END|>"

Behaviour = Callable[["Connection"], Awaitable[None] | None]
"""What to do with a request instead of answering it."""


def answer_body(text: str | None, **message: object) -> bytes:
    """A complete chat completion that says `text`."""
    return json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 0,
            "model": "test",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text, **message},
                    "finish_reason": "stop",
                }
            ],
            "usage": {
                "prompt_tokens": 100,
                "completion_tokens": 10,
                "total_tokens": 110,
                "prompt_tokens_details": {"cached_tokens": 64},
            },
        }
    ).encode()


def http(status: int, body: bytes, *headers: str) -> bytes:
    """A whole HTTP response."""
    lines = [f"HTTP/1.1 {status} -", "Content-Type: application/json", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


# The last of these to appear in a prompt tells which routine it is; `\\n` is JSON's newline.
_LOG_MARKS = (b'"# log', b"\\n# log")
_PLAN_MARKS = (b'"# plan', b"\\n# plan", b"# commit")


class Connection(asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(self, server: "ChatServer") -> None:
        self.server = server
        self.request = b""
        """Body of the request under way."""
        self._buffer = b""
        self._work: asyncio.Task[None] | asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.server.connections += 1

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 : at + 35].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._buffer) < end + 4 + length:
                return
            self.request = self._buffer[end + 4 : end + 4 + length]
            self._buffer = self._buffer[end + 4 + length :]
            self.server.respond(self, head)

    def connection_lost(self, error: Exception | None) -> None:
        if self._work is not None:
            self._work.cancel()
            self._work = None
            self.server.finished(self)
            self.server.aborted += 1

    def begin(self, work: "asyncio.Task[None] | asyncio.TimerHandle") -> None:
        """Note that a request is being worked on."""
        self._work = work
        self.server.started(self)

    def write(self, data: bytes) -> None:
        """Answer; ends the work on the request."""
        if self._work is not None:
            self._work = None
            self.server.finished(self)
        self.transport.write(data)


class ChatServer:
    """Answers chat completions; counts what it sees."""

    def __init__(self, latency_s: float = 0.0) -> None:
        self.latency_s = latency_s
        self.script: deque[Behaviour] = deque()
        """Behaviours for the next requests; when it is empty, requests are answered."""
        self.replies = {"log": LOG_REPLY, "plan": PLAN_REPLY}
        self.requests = 0
        self.connections = 0
        self.under_way = 0
        self.most_under_way = 0
        self.aborted = 0
        """Requests whose client went away before the answer."""
        self.bodies: deque[bytes] = deque(maxlen=100)
        self.heads: deque[bytes] = deque(maxlen=100)
        self._server: asyncio.Server | None = None
        self._answers: dict[str, bytes] = {}
        self._open: set[Connection] = set()

    async def start(self, port: int = 0, tls: ssl.SSLContext | None = None) -> int:
        """Listen on the loopback; returns the port."""
        self._answers = {kind: http(200, answer_body(t)) for kind, t in self.replies.items()}
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self), "127.0.0.1", port, ssl=tls
        )
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self.port

    @property
    def url(self) -> str:
        """Base URL for clients."""
        return f"http://127.0.0.1:{self.port}/v1"

    async def close(self) -> None:
        """Stop listening and drop what is under way."""
        assert self._server is not None
        self._server.close()
        for connection in list(self._open):
            connection.transport.abort()

    def started(self, connection: Connection) -> None:
        """A request came."""
        self._open.add(connection)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)

    def finished(self, connection: Connection) -> None:
        """A request was answered or given up."""
        self._open.discard(connection)
        self.under_way -= 1

    def respond(self, connection: Connection, head: bytes) -> None:
        """Answer one request, now or after the latency."""
        if head.startswith(b"get"):
            connection.write(http(200, b'{"object": "list", "data": []}'))
            return
        self.requests += 1
        self.bodies.append(connection.request)
        self.heads.append(head)
        loop = asyncio.get_running_loop()
        if self.script:
            behaviour = self.script.popleft()

            async def act() -> None:
                result = behaviour(connection)
                if result is not None:
                    await result

            connection.begin(loop.create_task(act()))
        elif self.latency_s:
            answer = self.answer_to(connection.request)
            connection.begin(loop.call_later(self.latency_s, connection.write, answer))
        else:
            connection.transport.write(self.answer_to(connection.request))

    def answer_to(self, body: bytes) -> bytes:
        """The response that a request with this body deserves."""
        is_log = max(map(body.rfind, _LOG_MARKS)) > max(map(body.rfind, _PLAN_MARKS))
        return self._answers["log" if is_log else "plan"]


def say(status: int, body: bytes, *headers: str) -> Behaviour:
    """Answer with this."""
    return lambda connection: connection.write(http(status, body, *headers))


def drop(sent: bytes = b"") -> Behaviour:
    """Close the connection after `sent`."""

    def behaviour(connection: Connection) -> None:
        connection.write(sent)
        connection.transport.close()

    return behaviour


def hang() -> Behaviour:
    """Never answer; the request stays under way until the client goes."""
    return lambda connection: None


async def _serve(port: int, latency_s: float) -> None:
    server = ChatServer(latency_s)
    print(await server.start(port), flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--latency-ms", type=float, default=0.0)
    options = parser.parse_args()
    asyncio.run(_serve(options.port, options.latency_ms / 1e3))


if __name__ == "__main__":
    main()
