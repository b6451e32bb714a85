"""A local HTTP server that speaks OpenAI's and Anthropic's protocols and plays a recorded reviewer.

It answers each request with the next step of its recording: a call of a tool, a text, an error
status, a silence. Its own thread and loop, so that clients of any kind and process can use it.
"""

import asyncio
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass(frozen=True)
class Call:
    """The model calls a tool. `arguments` as text is sent as it is, JSON or not."""

    name: str
    arguments: dict[str, Any] | str = field(default_factory=dict)


@dataclass(frozen=True)
class Say:
    """The model answers in words."""

    text: str


@dataclass(frozen=True)
class Status:
    """The endpoint answers with an error."""

    status: int
    retry_after: str = ""
    body: str = '{"error": {"type": "error", "message": "not now"}}'


@dataclass(frozen=True)
class Silence:
    """The endpoint does not answer for so long."""

    seconds: float


Step = Call | Say | Status | Silence | tuple[Call, ...]
"""A tuple: several calls in one answer."""


def submit(files: dict[str, str], reasons: str = "a recorded reason", **more: Any) -> Call:
    """The step that ends a review."""
    return Call("submit_revision", {"files": files, "reasons": reasons, **more})


@dataclass
class ReviewerServer:
    """A server under way."""

    steps: list[Step]
    port: int = 0
    requests: list[dict[str, Any]] = field(default_factory=list)
    """Bodies, in the order in which they came."""
    times: list[float] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    usage: tuple[int, int] = (1_000, 100)
    """Prompt and completion tokens of every answer."""

    @property
    def openai_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def anthropic_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def told(self, text: str) -> bool:
        """Whether a request held this text."""
        return any(text in json.dumps(body, ensure_ascii=False) for body in self.requests)

    async def _next(self, request: web.Request) -> Step:
        self.times.append(time.monotonic())
        self.requests.append(await request.json())
        self.headers.append(dict(request.headers))
        step = self.steps.pop(0) if self.steps else Status(500)
        if isinstance(step, Silence):
            await asyncio.sleep(step.seconds)
        return step

    async def openai(self, request: web.Request) -> web.Response:
        """`POST /v1/chat/completions`."""
        step = await self._next(request)
        if isinstance(step, Status | Silence):
            return _refusal(step)
        calls = _calls(step)
        message: dict[str, Any] = {"role": "assistant", "content": None}
        if isinstance(step, Say):
            message["content"] = step.text
        if calls:
            message["tool_calls"] = [
                {
                    "id": f"call_{len(self.requests)}_{number}",
                    "type": "function",
                    "function": {"name": call.name, "arguments": _spelled(call)},
                }
                for number, call in enumerate(calls)
            ]
        reason = "tool_calls" if calls else "stop"
        prompt, completion = self.usage
        return web.json_response(
            {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "created": 0,
                "model": "recorded",
                "choices": [{"index": 0, "message": message, "finish_reason": reason}],
                "usage": {
                    "prompt_tokens": prompt,
                    "completion_tokens": completion,
                    "total_tokens": prompt + completion,
                },
            }
        )

    async def anthropic(self, request: web.Request) -> web.Response:
        """`POST /v1/messages`."""
        step = await self._next(request)
        if isinstance(step, Status | Silence):
            return _refusal(step)
        calls = _calls(step)
        content: list[dict[str, Any]] = [
            {"type": "thinking", "thinking": "hm", "signature": "signed"}
        ]
        if isinstance(step, Say):
            content.append({"type": "text", "text": step.text})
        content += [
            {
                "type": "tool_use",
                "id": f"toolu_{len(self.requests)}_{number}",
                "name": call.name,
                "input": call.arguments,
            }
            for number, call in enumerate(calls)
        ]
        prompt, completion = self.usage
        return web.json_response(
            {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "model": "recorded",
                "content": content,
                "stop_reason": "tool_use" if calls else "end_turn",
                "stop_sequence": None,
                "usage": {
                    "input_tokens": prompt - 10,
                    "cache_read_input_tokens": 10,
                    "cache_creation_input_tokens": 0,
                    "output_tokens": completion,
                },
            }
        )


def _calls(step: Step) -> Sequence[Call]:
    if isinstance(step, Call):
        return (step,)
    return step if isinstance(step, tuple) else ()


def _spelled(call: Call) -> str:
    return call.arguments if isinstance(call.arguments, str) else json.dumps(call.arguments)


def _refusal(step: Status | Silence) -> web.Response:
    if isinstance(step, Silence):
        return web.Response(status=500, text="too late")
    headers = {"Retry-After": step.retry_after} if step.retry_after else {}
    return web.Response(
        status=step.status, text=step.body, headers=headers, content_type="application/json"
    )


async def _stop(runner: web.AppRunner) -> None:
    silent = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in silent:
        task.cancel()
    await asyncio.gather(*silent, return_exceptions=True)
    await runner.cleanup()


@contextmanager
def serving(
    steps: Sequence[Step], usage: tuple[int, int] = (1_000, 100)
) -> Iterator[ReviewerServer]:
    """A server on a free port of the loopback; it is gone when the context is left."""
    server = ReviewerServer(list(steps), usage=usage)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> web.AppRunner:
        app = web.Application(client_max_size=16_000_000)
        app.router.add_post("/v1/chat/completions", server.openai)
        app.router.add_post("/v1/messages", server.anthropic)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.port = runner.addresses[0][1]
        return runner

    runner = asyncio.run_coroutine_threadsafe(start(), loop).result(30)
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(_stop(runner), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()
