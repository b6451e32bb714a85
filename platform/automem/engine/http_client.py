"""Requests to one HTTP server over connections that are kept, on aiohttp.

Every failure on the way is a `TransferError`. Cancelling a call closes its connection. Proxies are
taken from the environment (`HTTPS_PROXY`, `NO_PROXY`). A call costs about 0.2 ms of CPU; an agent's
step has three and a budget of 3 ms. Redirects are not followed: a POST would lose its body.
"""

import asyncio
import ssl
from dataclasses import dataclass

import aiohttp
from yarl import URL

from automem.errors import UsageError


class TransferError(Exception):
    """No complete HTTP response was received; the message says what happened instead."""


@dataclass(frozen=True, slots=True)
class Response:
    """A complete response; header names are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class HttpClient:
    """See the module's docstring; the pool of connections belongs to the loop that asks first."""

    def __init__(
        self,
        base_url: str,
        headers: dict[str, str],
        *,
        connect_timeout_s: float,
        max_bytes: int,
    ) -> None:
        """`max_bytes`: a longer response is refused. UsageError for anything but http(s)."""
        try:
            url = URL(base_url)
        except ValueError:
            url = URL()
        if url.scheme not in ("http", "https") or not url.host:
            raise UsageError(
                f"{base_url!r} is no base URL: expected something like http://127.0.0.1:8000/v1"
            )
        for name, value in headers.items():
            if not f"{name}{value}".isprintable():
                raise UsageError(f"the header {name!r} holds characters that headers cannot have")
        self._base = str(url).rstrip("/")
        self._host = f"{url.host}:{url.port}"
        self._headers = {"Accept": "application/json", "User-Agent": "automem", **headers}
        self._connect_timeout_s = connect_timeout_s
        self._max_bytes = max_bytes
        self._tls = ssl.create_default_context() if url.scheme == "https" else True
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def post(self, path: str, body: bytes) -> Response:
        """POST JSON to `path` under the base URL; TransferError where no whole response came."""
        return await self._send("POST", path, body)

    async def get(self, path: str) -> Response:
        """GET `path` under the base URL."""
        return await self._send("GET", path, None)

    async def close(self) -> None:
        """Close every connection."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _send(self, method: str, path: str, body: bytes | None) -> Response:
        try:
            async with self._open().request(
                method,
                self._base + path,
                data=body,
                headers=None if body is None else {"Content-Type": "application/json"},
                allow_redirects=False,
            ) as answer:
                headers = {name.lower(): value for name, value in answer.headers.items()}
                return Response(answer.status, headers, await self._read(answer))
        except aiohttp.ServerTimeoutError as error:  # a TimeoutError, too: it must come first
            raise TransferError(
                f"no connection to {self._host} in {self._connect_timeout_s:g} s"
            ) from error
        except aiohttp.ClientConnectorError as error:
            raise TransferError(f"cannot connect to {self._host}: {error}") from error
        except aiohttp.ClientError as error:
            reason = str(error) or type(error).__name__
            raise TransferError(
                f"the connection to {self._host} broke before the response was complete: {reason}"
            ) from error

    async def _read(self, answer: aiohttp.ClientResponse) -> bytes:
        """The body; nothing is read beyond the limit."""
        pieces, received = [], answer.content_length or 0
        if received <= self._max_bytes:
            received = 0
            async for piece in answer.content.iter_any():
                pieces.append(piece)
                received += len(piece)
                if received > self._max_bytes:
                    break
        if received > self._max_bytes:
            answer.close()
            raise TransferError(f"the response is larger than {self._max_bytes} bytes")
        return b"".join(pieces)

    def _open(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._session is None or self._loop is not loop:
            self._loop = loop
            self._session = aiohttp.ClientSession(
                headers=self._headers,
                connector=aiohttp.TCPConnector(limit=0, ssl=self._tls),  # the engine limits calls
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=self._connect_timeout_s, connect=None
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=True,
            )
        return self._session
