"""Any server that speaks OpenAI's chat completions: vLLM, SGLang, llama.cpp, hosted ones.

Promise: what may pass (429, 5xx, dropped connections, broken JSON, answers without a choice or
content, time-outs) is tried again with growing, jittered pauses, or when the server says; what
cannot is an EngineRequestError with the server's own message. No failure becomes a completion, and
no call outlives its deadline. `seed` goes along, but what it promises is the server's affair.

Not covered: streaming, log-probabilities, scoring; the learner needs an engine with tokens.
"""

import asyncio
import os
import random
import time
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from automem.engine.http_client import HttpClient, Response, TransferError
from automem.engine.protocol import Capabilities, Completion, GenerateRequest, Message, ToolCall
from automem.errors import EngineError, EngineRequestError, UsageError

_RETRIED = frozenset({408, 409, 425, 429})
"""Statuses below 500 that may pass by themselves."""


class _Function(msgspec.Struct):
    name: str
    arguments: str = ""


class _Call(msgspec.Struct):
    function: _Function
    id: str = ""


class _Said(msgspec.Struct):
    content: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(msgspec.Struct):
    message: _Said
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    """vLLM and SGLang: the stop text that was met, which `content` leaves out."""


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None


class _Answer(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None


_answer_decoder = msgspec.json.Decoder(_Answer)


class _Passing(Exception):
    """An attempt failed in a way that may pass; `wait_s` is the server's wish, if it had one."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class OpenAIEngine:
    """The engine protocol over `POST {base_url}/chat/completions`."""

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key_env: str = "OPENAI_API_KEY",
        max_concurrency: int = 64,
        timeout_s: float = 120.0,
        connect_timeout_s: float = 10.0,
        max_attempts: int = 8,
        backoff_s: float = 0.5,
        max_backoff_s: float = 20.0,
        max_response_bytes: int = 8_000_000,
        ready_timeout_s: float = 60.0,
        max_tokens_field: str = "max_tokens",
        omit: Sequence[str] = (),
        extra_body: Mapping[str, Any] | None = None,
        capabilities: Mapping[str, Any] | None = None,
    ) -> None:
        """`api_key_env`: environment variable that holds the key; unset or empty sends none.
        `timeout_s`: of one attempt; the request's own deadline bounds all of them together.
        `omit`: request fields that the server refuses, such as `seed`. `extra_body`: fields sent
        with every request. `capabilities`: fields of `Capabilities` that hold for this server."""
        if not model:
            raise UsageError("engine.model is empty: name the model as the server does")
        self._model = model
        key = os.environ.get(api_key_env, "") if api_key_env else ""
        self._http = HttpClient(
            base_url,
            {"Authorization": f"Bearer {key}"} if key else {},
            connect_timeout_s=connect_timeout_s,
            max_bytes=max_response_bytes,
        )
        self._base_url = base_url
        self._room = asyncio.Semaphore(max_concurrency)
        self._timeout_s = timeout_s
        self._max_attempts = max_attempts
        self._backoff_s = backoff_s
        self._max_backoff_s = max_backoff_s
        self._ready_timeout_s = ready_timeout_s
        self._max_tokens_field = max_tokens_field
        self._omit = tuple(omit)
        self._extra = dict(extra_body or {})
        try:
            self._capabilities = msgspec.convert(
                {"model": model, **(capabilities or {})}, Capabilities
            )
        except msgspec.ValidationError as error:
            raise UsageError(f"engine capabilities: {error}") from error
        self._is_ready = False

    async def capabilities(self) -> Capabilities:
        """As configured; waits until something answers at the URL."""
        started = time.monotonic()
        while not self._is_ready:
            try:
                async with asyncio.timeout(self._ready_timeout_s):
                    await self._http.get("/models")  # any answer will do: not all servers list
                self._is_ready = True
            except (TransferError, TimeoutError) as error:
                if time.monotonic() - started + self._backoff_s > self._ready_timeout_s:
                    raise EngineError(
                        f"nothing answers at {self._base_url} ({error}): start the server, or "
                        "set engine.base_url"
                    ) from error
                await asyncio.sleep(self._backoff_s)
        return self._capabilities

    async def generate(self, request: GenerateRequest) -> Completion:
        """One completion of `request.messages`."""
        body = msgspec.json.encode(self._body(request))
        reason = "no attempt was made"
        try:
            async with asyncio.timeout(request.deadline_s):
                for attempt in range(self._max_attempts):
                    try:
                        return await self._attempt(body, request)
                    except _Passing as failure:
                        reason = str(failure)
                        if attempt + 1 < self._max_attempts:
                            await asyncio.sleep(self._pause(attempt, failure.wait_s))
        except TimeoutError:
            raise EngineError(
                f"no completion from {self._base_url} within {request.deadline_s:g} s; "
                f"the last failure: {reason}"
            ) from None
        raise EngineError(
            f"no completion from {self._base_url} in {self._max_attempts} attempts: {reason}"
        )

    async def score(self, token_ids: Sequence[int], adapter: str | None = None) -> list[float]:
        """Never: the chat API returns no log-probabilities of a given text."""
        raise EngineRequestError(
            "an OpenAI-compatible endpoint cannot score tokens: use engine=transformers or vLLM"
        )

    async def load_adapter(self, name: str, path: str) -> None:
        """Ask the server to load it, as vLLM does where it runs with
        VLLM_ALLOW_RUNTIME_LORA_UPDATING=1; fine where it is loaded already."""
        if not self._capabilities.adapters:
            raise EngineRequestError(
                "this endpoint is configured without adapters: set engine capabilities.adapters"
            )
        body = msgspec.json.encode({"lora_name": name, "lora_path": path})
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await self._http.post("/load_lora_adapter", body)
        except (TransferError, TimeoutError) as error:
            raise EngineError(f"adapter {name!r} was not loaded: {error}") from error
        message = _server_message(response)
        if response.status != 200 and "already" not in message:
            raise EngineRequestError(f"adapter {name!r} was not loaded: {message}")

    async def close(self) -> None:
        """Drop the idle connections."""
        self._http.close()

    def _body(self, request: GenerateRequest) -> dict[str, Any]:
        sampling = request.sampling
        body: dict[str, Any] = {
            "model": request.adapter or self._model,
            "messages": [_as_sent(message) for message in request.messages],
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            self._max_tokens_field: sampling.max_tokens,
            "seed": request.seed & 0x7FFFFFFF,  # some servers read 32 bits
        }
        if sampling.stop:
            body["stop"] = sampling.stop
        if request.tools:
            body["tools"] = request.tools
        if self._extra:
            body.update(self._extra)
        for field in self._omit:
            body.pop(field, None)
        return body

    async def _attempt(self, body: bytes, request: GenerateRequest) -> Completion:
        try:
            async with self._room, asyncio.timeout(self._timeout_s):
                response = await self._http.post("/chat/completions", body)
        except TransferError as error:
            raise _Passing(str(error)) from error
        except TimeoutError:
            raise _Passing(f"no answer within {self._timeout_s:g} s") from None
        if response.status == 200:
            return _completion(response.body, request)
        message = f"status {response.status}: {_server_message(response)}"
        if response.status >= 500 or response.status in _RETRIED:
            raise _Passing(message, _retry_after(response.headers.get("retry-after")))
        raise EngineRequestError(f"{self._base_url} refuses the request: {message}")

    def _pause(self, attempt: int, wished_s: float | None) -> float:
        """Seconds before the next attempt: doubling, with jitter so that callers spread out."""
        pause = min(self._backoff_s * 2.0**attempt, self._max_backoff_s)
        return max(pause * random.uniform(0.5, 1.0), wished_s or 0.0)


def _as_sent(message: Message) -> Message | dict[str, Any]:
    if not message.tool_calls:
        return message
    return {
        "role": message.role,
        "content": message.content or None,
        "tool_calls": [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ],
    }


def _completion(body: bytes, request: GenerateRequest) -> Completion:
    try:
        answer = _answer_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _Passing(f"the answer is not a chat completion: {error}") from error
    if not answer.choices:
        raise _Passing("the answer has no choices")
    choice = answer.choices[0]
    calls = tuple(
        ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments)
        for call in choice.message.tool_calls or ()
    )
    text = choice.message.content
    if text is None and not calls:
        raise _Passing("the answer's message has no content")
    text = text or ""
    stop = choice.stop_reason
    if isinstance(stop, str) and stop in request.sampling.stop and not text.endswith(stop):
        text += stop
    usage = answer.usage or _Usage()
    details = usage.prompt_tokens_details or _PromptDetails()
    return Completion(
        text=text,
        finish_reason="tool_calls" if calls else choice.finish_reason or "stop",
        prompt_tokens=usage.prompt_tokens or 0,
        cached_tokens=details.cached_tokens or 0,
        completion_tokens=usage.completion_tokens or 0,
        tool_calls=calls,
    )


def _server_message(response: Response) -> str:
    """What the server says went wrong, in its own words."""
    text = response.body[:2000].decode("utf-8", "replace").strip()
    try:
        found: Any = msgspec.json.decode(response.body)
    except msgspec.DecodeError:
        return text[:500] or "(no message)"
    for key in ("error", "message", "detail"):
        if isinstance(found, dict) and key in found:
            found = found[key]
    return found if isinstance(found, str) else text[:500]


def _retry_after(value: str | None) -> float | None:
    """Seconds, from either form of the header: a number or a date."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
