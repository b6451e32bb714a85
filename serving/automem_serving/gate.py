"""What every request passes first: its id, its host, the size and speed of its body, its time.

The id is the caller's own (`x-request-id`) or a new one; the answer has it, and so has every line
that the log has about the request. Pure ASGI. The body is read whole before the application sees
it, so that an oversized or a slow one costs nobody anything but a connection.
"""

import asyncio
import re
import secrets
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from automem_serving.metrics import Metrics
from automem_serving.problems import ApiError
from automem_serving.settings import Limits, is_loopback

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Gate:
    """See the module's docstring."""

    def __init__(self, app: ASGIApp, limits: Limits, metrics: Metrics, loopback_only: bool) -> None:
        """`loopback_only`: refuse requests that name another host. Without authentication a web
        page could otherwise reach the server through a name that it points at loopback."""
        self._app = app
        self._limits = limits
        self._metrics = metrics
        self._loopback_only = loopback_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        began = time.perf_counter()
        status = 500

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        self._metrics.under_way.inc()
        try:
            self._check_host(headers)
            body = await self._read_body(headers, receive)
            await self._app(scope, _replay(body, receive), send_marked)
        except ApiError as error:  # of this gate: those of the application are answered in it
            await error.response()(scope, receive, send_marked)
        finally:
            self._metrics.under_way.dec()
            route = getattr(scope.get("route"), "path", "none")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.count(route, method, status, time.perf_counter() - began)

    def _check_host(self, headers: Headers) -> None:
        host = headers.get("host", "")
        name = host[: host.index("]") + 1] if host.startswith("[") and "]" in host else host
        name = name if name.startswith("[") else name.partition(":")[0]
        if self._loopback_only and not is_loopback(name):
            raise ApiError(
                403, "wrong_host", "this server has no authentication: use it as 127.0.0.1"
            )

    async def _read_body(self, headers: Headers, receive: Receive) -> bytes:
        limit = self._limits.body_bytes
        declared = headers.get("content-length", "")
        if declared.isdigit() and int(declared) > limit:
            raise _too_large(limit)
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.body_s):
                while True:
                    message = await receive()
                    body += message.get("body", b"")
                    if len(body) > limit:
                        raise _too_large(limit)
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            raise ApiError(
                408, "body_too_slow", f"the body did not arrive within {self._limits.body_s:g} s"
            ) from None


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body, then what comes after it."""
    is_given = False

    async def again() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _too_large(limit: int) -> ApiError:
    return ApiError(413, "body_too_large", f"a body may have {limit} bytes at most")
