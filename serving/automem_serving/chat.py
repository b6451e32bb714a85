"""Chat completions as OpenAI spells them, over the engine protocol.

A model's name is the base model, an alias, a policy version or an adapter; the answer's `model` is
what it came to. Streams are server-sent events: text as it is sampled where the engine can tell
(`automem.engine.streaming`), else in one piece at the end; comments keep the connection open.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import msgspec

from automem.engine.protocol import Completion, GenerateRequest, Message, Sampling
from automem.engine.render import ChatRenderer, load_tokenizer
from automem.engine.streaming import Piece, TextStream, pieces_of
from automem.errors import EngineError
from automem_serving.policies import Policies, Target
from automem_serving.problems import ApiError, as_api_error, error_body
from automem_serving.schemas import ChatMessage, ChatRequest
from automem_serving.settings import Limits

_KEEP_ALIVE_S = 10.0
_log = logging.getLogger("automem.serving")
_ROLES = ("system", "developer", "user", "assistant", "tool")


class Chat:
    """See the module's docstring."""

    def __init__(self, policies: Policies, limits: Limits, call_s: float) -> None:
        self._policies = policies
        self._limits = limits
        self._call_s = call_s
        self._renderer: ChatRenderer | None = None
        self._tokenizer: Any = None

    async def start(self) -> None:
        """Load what prompts are rendered with."""
        capabilities = await self._policies.engine.capabilities()
        if capabilities.token_ids:
            self._renderer = await asyncio.to_thread(ChatRenderer, capabilities.tokenizer)
            self._tokenizer = load_tokenizer(capabilities.tokenizer)

    async def prepare(self, body: ChatRequest, tenant: str) -> tuple[Target, GenerateRequest]:
        """What is asked, of whom. 400, 404 or 422 where it cannot be answered."""
        number = secrets.token_hex(12)
        target = await self._policies.target(body.model, number)
        _check_supported(body)
        messages = tuple(_message(message) for message in body.messages)
        sampling = _sampling(body, self._limits.completion_tokens)
        return target, GenerateRequest(
            id=f"chatcmpl-{number}",
            messages=messages,
            prompt_ids=self._prompt_ids(messages),
            sampling=sampling,
            seed=secrets.randbits(63) if body.seed is None else body.seed & (2**63 - 1),
            adapter=target.adapter,
            cache_salt=f"{tenant}/{target.version}",
            deadline_s=self._call_s,
        )

    def _prompt_ids(self, messages: tuple[Message, ...]) -> tuple[int, ...] | None:
        """What a token engine reads; EngineRequestError where the model's template takes no such
        conversation."""
        if self._renderer is None:
            return None
        return tuple(self._renderer.start(messages))

    async def complete(self, target: Target, request: GenerateRequest) -> dict[str, Any]:
        """The whole answer."""
        completion = await self._policies.engine.generate(request)
        choice = {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": _said(completion, request),
                "refusal": None,
            },
            "logprobs": None,
            "finish_reason": completion.finish_reason,
        }
        return _answer(target, request, "chat.completion", [choice]) | {"usage": _usage(completion)}

    async def stream(
        self, target: Target, request: GenerateRequest, with_usage: bool
    ) -> AsyncIterator[tuple[str, Completion | None]]:
        """Server-sent events; the last one comes with the completion, for the metrics."""
        kind = "chat.completion.chunk"

        def chunk(delta: dict[str, Any], finish: str | None = None) -> str:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
            return _event(_answer(target, request, kind, [choice]))

        text = TextStream(self._tokenizer, request.sampling.stop)
        completion: Completion | None = None
        yield chunk({"role": "assistant", "content": ""}), None
        try:
            async with aclosing(_with_signs(pieces_of(self._policies.engine, request))) as pieces:
                async for piece in pieces:
                    if piece is None:
                        yield ": still working\n\n", None
                    elif isinstance(piece, Completion):
                        completion = piece
                    elif said := text.add(piece):
                        yield chunk({"content": said}), None
            if completion is None:
                raise EngineError("the stream ended without a completion")
        except Exception as error:  # noqa: BLE001  the status is sent: it has to be said in words
            yield _event(_failure(error, request.id)), None
            return
        if rest := text.finish(_said(completion, request)):
            yield chunk({"content": rest}), None
        yield chunk({}, completion.finish_reason), None
        if with_usage:
            usage = {"usage": _usage(completion)}
            yield _event(_answer(target, request, kind, []) | usage), None
        yield "data: [DONE]\n\n", completion


async def _with_signs(pieces: AsyncGenerator[Piece, None]) -> AsyncGenerator[Piece | None, None]:
    """`pieces`, and None whenever nothing has come for a while."""
    waiting: asyncio.Future[Piece] | None = None
    try:
        while True:
            waiting = asyncio.ensure_future(anext(pieces))
            while not (await asyncio.wait({waiting}, timeout=_KEEP_ALIVE_S))[0]:
                yield None
            try:
                yield waiting.result()
            except StopAsyncIteration:
                return
    finally:
        if waiting is not None and not waiting.done():
            waiting.cancel()
            await asyncio.wait({waiting})
        await pieces.aclose()


def _check_supported(body: ChatRequest) -> None:
    asked = {
        "n": body.n not in (None, 1),
        "logprobs": bool(body.logprobs),
        "tools": bool(body.tools),
        "functions": bool(body.functions),
        "response_format": (body.response_format or {}).get("type", "text") != "text",
        "frequency_penalty": bool(body.frequency_penalty),
        "presence_penalty": bool(body.presence_penalty),
        "logit_bias": bool(body.logit_bias),
    }
    for name, is_asked in asked.items():
        if is_asked:
            raise ApiError(
                400, "not_supported", f"{name} is not supported here: leave it out", name
            )


def _message(message: ChatMessage) -> Message:
    if message.role not in _ROLES:
        raise ApiError(
            400, "unknown_role", f"a message's role is one of {', '.join(_ROLES)}", "messages"
        )
    content = message.content or ""
    if not isinstance(content, str):
        if any(part.get("type") != "text" for part in content):
            raise ApiError(400, "not_supported", "messages are text only here", "messages")
        content = "".join(str(part.get("text", "")) for part in content)
    role = "system" if message.role == "developer" else message.role
    return Message(role=role, content=content, tool_call_id=message.tool_call_id)


def _sampling(body: ChatRequest, most: int) -> Sampling:
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    if len(stop) > 16 or any(not 0 < len(text) <= 200 for text in stop):
        raise ApiError(400, "bad_stop", "at most 16 stop texts of 1 to 200 characters", "stop")
    return Sampling(
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        max_tokens=min(body.max_completion_tokens or body.max_tokens or most, most),
        stop=stop,
    )


def _said(completion: Completion, request: GenerateRequest) -> str:
    """The text without the stop text, which our engines leave in."""
    text = completion.text
    for stop in request.sampling.stop:
        if completion.finish_reason == "stop" and text.endswith(stop):
            return text.removesuffix(stop)
    return text


def _answer(
    target: Target, request: GenerateRequest, kind: str, choices: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "id": request.id,
        "object": kind,
        "created": int(time.time()),
        "model": target.version,
        "system_fingerprint": target.version,
        "choices": choices,
    }


def _usage(completion: Completion) -> dict[str, Any]:
    return {
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.completion_tokens,
        "total_tokens": completion.prompt_tokens + completion.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": completion.cached_tokens},
    }


def _event(data: dict[str, Any]) -> str:
    return f"data: {msgspec.json.encode(data).decode()}\n\n"


def _failure(error: Exception, request_id: str) -> dict[str, Any]:
    problem = as_api_error(error, request_id)
    if problem.status >= 500:
        _log.error("stream %s: %r", request_id, error, exc_info=error)
    return error_body(problem.status, problem.code, str(problem))
