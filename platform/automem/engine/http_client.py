"""A lean HTTP/1.1 client on asyncio protocols: POST and GET, keep-alive, nothing else.

Why not a general client: with aiohttp in its place the platform's CPU time per step (three calls;
benchmarks/rollout.py) was 5.0 ms instead of 2.4, and 3 is the budget. Every failure on the way is a
`TransferError`. Cancelling a call closes its connection.

Not covered: redirects, proxies, cookies, compression, HTTP/2, requests with a streamed body.
"""

import asyncio
import ssl
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

from automem.errors import UsageError


class TransferError(Exception):
    """No complete HTTP response was received; the message says what happened instead."""


@dataclass(frozen=True, slots=True)
class Response:
    """A complete response; header names are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class _Connection(asyncio.Protocol):
    """One connection; at most one request is under way."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Response] | None = None
        self._buffer = bytearray()
        self._head: tuple[int, dict[str, str]] | None = None
        self._length: int | None = None
        """Bytes of the body; None until the head is read, or where only the end tells."""
        self._chunks: list[bytes] | None = None
        self._received = 0
        self.is_reusable = True
        self.has_answered = False
        """Whether a byte of the present response has come."""

    def ask(self, data: bytes) -> asyncio.Future[Response]:
        """Send a request; the future gets its response or a TransferError."""
        assert self._transport is not None, "the connection is made"
        self._answer = asyncio.get_running_loop().create_future()
        self.has_answered = False
        self._transport.write(data)
        return self._answer

    def abort(self) -> None:
        """Close at once, whatever is under way."""
        self.is_reusable = False
        if self._transport is not None:
            self._transport.abort()

    # Called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports (Ray's actors run on it) are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._answer is None or self._answer.done():
            self.abort()  # nobody asked
            return
        self.has_answered = True
        self._buffer += data
        try:
            self._read()
        except ValueError as error:
            self._fail(f"malformed response ({error})")

    def eof_received(self) -> bool:
        if self._head is not None and self._length is None and self._chunks is None:
            self.is_reusable = False
            self._finish(bytes(self._buffer))
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.is_reusable = False
        reason = f": {error}" if error else ""
        self._fail(f"the server closed the connection before the response was complete{reason}")

    # Reading

    def _read(self) -> None:
        while self._head is None:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                self._check_size(len(self._buffer))
                return
            head = bytes(self._buffer[:end])
            del self._buffer[: end + 4]
            self._read_head(head)
        if self._chunks is not None:
            self._read_chunks()
        elif self._length is None:
            self._check_size(len(self._buffer))
        elif len(self._buffer) >= self._length:
            body = bytes(self._buffer[: self._length])
            del self._buffer[: self._length]
            self._finish(body)

    def _read_head(self, head: bytes) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        protocol, _, rest = first.partition(" ")
        if not protocol.startswith("HTTP/1."):
            raise ValueError(f"not HTTP/1: {first[:80]!r}")
        status = int(rest[:3])
        if 100 <= status < 200:
            return  # an interim response; the real one follows
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        self._head = status, headers
        connection = headers.get("connection", "").lower()
        if "close" in connection or (protocol == "HTTP/1.0" and "keep-alive" not in connection):
            self.is_reusable = False
        if "chunked" in headers.get("transfer-encoding", "").lower():
            self._chunks = []
        elif status in (204, 304):
            self._length = 0
        elif "content-length" in headers:
            self._length = int(headers["content-length"])
            self._check_size(self._length)
        self._received = 0

    def _read_chunks(self) -> None:
        assert self._chunks is not None
        buffer, start = self._buffer, 0
        while True:
            line = buffer.find(b"\r\n", start)
            if line < 0:
                break
            size = int(bytes(buffer[start:line]).split(b";")[0], 16)
            if size == 0:
                end = buffer.find(b"\r\n\r\n", line)  # after the trailers, if there are any
                if end < 0:
                    break
                del buffer[: end + 4]
                self._finish(b"".join(self._chunks))
                return
            self._check_size(self._received + size)
            if len(buffer) < line + 2 + size + 2:
                break
            self._chunks.append(bytes(buffer[line + 2 : line + 2 + size]))
            self._received += size
            start = line + 2 + size + 2
        del buffer[:start]

    def _check_size(self, size: int) -> None:
        if size > self._max_bytes:
            raise ValueError(f"larger than {self._max_bytes} bytes")

    def _finish(self, body: bytes) -> None:
        assert self._head is not None
        status, headers = self._head
        if self._buffer:
            self.is_reusable = False  # more than was asked for
        self._head = self._length = self._chunks = None
        answer, self._answer = self._answer, None
        if not self.is_reusable and self._transport is not None:
            self._transport.close()
        if answer is not None and not answer.done():
            answer.set_result(Response(status, headers, body))

    def _fail(self, reason: str) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(TransferError(reason))
        self.abort()


class HttpClient:
    """Requests to one server over connections that are kept and used again."""

    def __init__(
        self,
        base_url: str,
        headers: dict[str, str],
        *,
        connect_timeout_s: float,
        max_bytes: int,
    ) -> None:
        """`max_bytes`: a longer response is refused. UsageError for anything but http(s)."""
        wrong = f"{base_url!r} is no base URL: expected something like http://127.0.0.1:8000/v1"
        try:
            parts = urlsplit(base_url)
            port = parts.port
        except ValueError as error:
            raise UsageError(f"{wrong} ({error})") from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(wrong)
        self._host = parts.hostname
        self._port = port or (443 if parts.scheme == "https" else 80)
        self._path = parts.path.rstrip("/")
        self._ssl = ssl.create_default_context() if parts.scheme == "https" else None
        lines = {
            "Host": parts.netloc.rpartition("@")[2],
            "Accept": "application/json",
            "User-Agent": "automem",
            **headers,
        }
        for name, value in lines.items():
            if not f"{name}{value}".isprintable():
                raise UsageError(f"the header {name!r} holds characters that headers cannot have")
        self._head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._connect_timeout_s = connect_timeout_s
        self._max_bytes = max_bytes
        self._idle: list[_Connection] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    async def post(self, path: str, body: bytes) -> Response:
        """POST JSON to `path` under the base URL; TransferError where no whole response came."""
        return await self._send(
            f"POST {self._path}{path} HTTP/1.1\r\n{self._head}Content-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode("latin-1")
            + body
        )

    async def get(self, path: str) -> Response:
        """GET `path` under the base URL."""
        return await self._send(
            f"GET {self._path}{path} HTTP/1.1\r\n{self._head}\r\n".encode("latin-1")
        )

    def close(self) -> None:
        """Close the connections that are idle; those in use are closed when they come back."""
        idle, self._idle, self._loop = self._idle, [], None
        for connection in idle:
            connection.abort()

    async def _send(self, data: bytes) -> Response:
        while True:
            connection = self._take_idle()
            is_kept = connection is not None
            if connection is None:
                connection = await self._connect()
            try:
                response = await connection.ask(data)
            except TransferError:
                # A server may close an idle connection just as it is used: not the call's fault.
                if is_kept and not connection.has_answered:
                    continue
                raise
            except BaseException:
                connection.abort()
                raise
            if connection.is_reusable and self._loop is not None:
                self._idle.append(connection)
            else:
                connection.abort()
            return response

    def _take_idle(self) -> _Connection | None:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # connections belong to the loop that made them
            self._idle, self._loop = [], loop
        while self._idle:
            connection = self._idle.pop()
            if connection.is_reusable:
                return connection
        return None

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                _, connection = await loop.create_connection(
                    lambda: _Connection(self._max_bytes), self._host, self._port, ssl=self._ssl
                )
        except TimeoutError:
            raise TransferError(
                f"no connection to {self._host}:{self._port} in {self._connect_timeout_s:g} s"
            ) from None
        except OSError as error:  # refused, unknown host, TLS
            raise TransferError(f"cannot connect to {self._host}:{self._port}: {error}") from error
        return connection
