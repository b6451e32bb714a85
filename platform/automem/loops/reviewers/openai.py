"""The `openai` reviewer: any endpoint of chat completions with tools, by the official client.

The client retries what may pass (429, 5xx, dropped connections, time-outs) and waits as long as
Retry-After says; where that is more than 120 s it does not retry. What is left is an EndpointError.
Needs `pip install 'automem[reviewers]'`.
"""

import json
import os
from collections.abc import Mapping
from typing import Any

from automem.errors import UsageError
from automem.loops.reviewers.interface import Tool
from automem.loops.reviewers.models import ModelReviewer
from automem.loops.reviewers.ranges import check_least
from automem.loops.reviewers.speaking import EndpointError, Said, Told, ToolUse, Turn

INSTALL = "pip install 'automem[reviewers]'"
_ASKED_WRONGLY = (401, 403, 404)


class OpenAISpeaker:
    """See `Speaker`."""

    def __init__(
        self,
        model: str,
        base_url: str | None,
        api_key_env: str,
        *,
        timeout_s: float,
        retries: int,
        max_tokens: int,
        max_tokens_field: str,
        extra_body: Mapping[str, Any],
    ) -> None:
        try:
            import openai
        except ImportError:
            raise UsageError(f"reviewer=openai needs the openai client: {INSTALL}") from None
        key = key_of(api_key_env, base_url)
        self._library = openai
        self._make = lambda: openai.AsyncOpenAI(
            api_key=key, base_url=base_url, timeout=timeout_s, max_retries=retries
        )
        self._client: openai.AsyncOpenAI | None = None
        self._model = model
        self._more: dict[str, Any] = {max_tokens_field: max_tokens}
        self._more["extra_body"] = dict(extra_body) or None

    @property
    def model(self) -> str:
        return self._model

    async def answer(self, system: str, turns: list[Turn], tools: tuple[Tool, ...]) -> Said:
        library = self._library
        self._client = self._client or self._make()
        messages: list[Any] = [{"role": "system", "content": system}]
        for turn in turns:
            messages += _messages(turn)
        try:
            answer: Any = await self._client.chat.completions.create(
                model=self._model, messages=messages, tools=_tools(tools), **self._more
            )
        except library.APIStatusError as error:
            raise refused(error.status_code, str(error), self._model) from error
        except library.APIConnectionError as error:  # time-outs are among them
            raise EndpointError(f"no answer from the endpoint ({error})", may_pass=True) from error
        except library.APIError as error:
            raise EndpointError(f"a nonsensical answer ({error})", may_pass=True) from error
        return _said(answer)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None


def check_calls(timeout_s: float, retries: int, max_tokens: int) -> None:
    """UsageError where a client could not work with these."""
    check_least("timeout_s", timeout_s, 0.1)
    check_least("retries", retries, 0)
    check_least("max_tokens", max_tokens, 1)


def key_of(variable: str, base_url: str | None) -> str:
    """The key from the environment; a server of one's own may do without one."""
    key = os.environ.get(variable, "") if variable else ""
    if not key and not base_url:
        raise UsageError(
            f"the environment variable {variable} is not set: set it to your key, or set "
            "reviewer.base_url to a server of your own"
        )
    return key or "none"


def refused(status: int, message: str, model: str) -> Exception:
    """What a status that is left after all retries means."""
    if status in _ASKED_WRONGLY:
        return UsageError(
            f"the reviewer's endpoint refuses ({status}): {message[:400]}\nCheck the key, "
            f"reviewer.base_url and reviewer.model ({model})"
        )
    may_pass = status in (408, 409, 425, 429) or status >= 500
    return EndpointError(f"the endpoint answered {status}: {message[:400]}", may_pass=may_pass)


def _tools(tools: tuple[Tool, ...]) -> Any:
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters,
            },
        }
        for tool in tools
    ]


def _messages(turn: Turn) -> list[dict[str, Any]]:
    if isinstance(turn, Told):
        results = [{"role": "tool", "tool_call_id": r.id, "content": r.text} for r in turn.results]
        return [*results, *([{"role": "user", "content": turn.text}] if turn.text else [])]
    if turn.raw:
        return [{"role": "assistant", "content": turn.text or None, "tool_calls": turn.raw}]
    return [{"role": "assistant", "content": turn.text}]  # null goes with tool calls alone


def _said(answer: Any) -> Said:
    choices = getattr(answer, "choices", None)
    if not choices or choices[0].message is None:
        raise EndpointError("the endpoint's answer holds no message", may_pass=True)
    message, usage = choices[0].message, answer.usage
    calls = [call for call in message.tool_calls or [] if call.type == "function"]
    return Said(
        text=message.content or "",
        uses=tuple(_use(call.id, call.function.name, call.function.arguments) for call in calls),
        raw=[
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.function.name, "arguments": call.function.arguments},
            }
            for call in calls
        ],
        tokens_in=usage.prompt_tokens if usage else 0,
        tokens_out=usage.completion_tokens if usage else 0,
        stopped=choices[0].finish_reason or "",
    )


def _use(call: str, name: str, arguments: str) -> ToolUse:
    try:
        found = json.loads(arguments or "{}")
    except (ValueError, RecursionError) as error:
        return ToolUse(call, name, {}, f"the arguments are no JSON ({error})")
    if not isinstance(found, dict):
        return ToolUse(call, name, {}, "the arguments must be a JSON object")
    return ToolUse(call, name, found)


def openai_reviewer(
    model: str,
    base_url: str | None = None,
    api_key_env: str = "OPENAI_API_KEY",
    timeout_s: float = 300.0,
    retries: int = 6,
    max_tokens: int = 16_000,
    max_tokens_field: str = "max_completion_tokens",
    extra_body: Mapping[str, Any] | None = None,
    budget: Mapping[str, Any] | None = None,
    prices: Mapping[str, Any] | None = None,
    **more: Any,
) -> ModelReviewer:
    """The reviewer of `conf/reviewer/openai.yaml`. `timeout_s`: of one try of one call; `retries`:
    further ones. `more`: see `ModelReviewer`."""
    if not model:
        raise UsageError("reviewer.model is empty: name the model as the endpoint does")
    check_calls(timeout_s, retries, max_tokens)
    speaker = OpenAISpeaker(
        model,
        base_url,
        api_key_env,
        timeout_s=timeout_s,
        retries=retries,
        max_tokens=max_tokens,
        max_tokens_field=max_tokens_field,
        extra_body=extra_body or {},
    )
    return ModelReviewer("openai", speaker, budget=budget or {}, prices=prices or {}, **more)
