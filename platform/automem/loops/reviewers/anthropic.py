"""The `anthropic` reviewer: the Messages API with tools, by the official client.

What `openai.py` says of retries holds here, too, but for Retry-After: this client waits however
long it says, up to the review's budget of seconds. What the model sent (thinking included) goes
back to it as it was; the system prompt is marked for the endpoint's cache.
"""

from collections.abc import Mapping
from typing import Any

from automem.errors import UsageError
from automem.loops.reviewers.interface import Tool
from automem.loops.reviewers.models import ModelReviewer
from automem.loops.reviewers.openai import INSTALL, check_calls, key_of, refused
from automem.loops.reviewers.speaking import EndpointError, Said, Told, ToolUse, Turn


class AnthropicSpeaker:
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
        extra_body: Mapping[str, Any],
    ) -> None:
        try:
            import anthropic
        except ImportError:
            raise UsageError(f"reviewer=anthropic needs its client: {INSTALL}") from None
        key = key_of(api_key_env, base_url)
        self._library = anthropic
        self._make = lambda: anthropic.AsyncAnthropic(
            api_key=key, base_url=base_url, timeout=timeout_s, max_retries=retries
        )
        self._client: anthropic.AsyncAnthropic | None = None
        self._model = model
        self._max_tokens = max_tokens
        self._extra = dict(extra_body) or None

    @property
    def model(self) -> str:
        return self._model

    async def answer(self, system: str, turns: list[Turn], tools: tuple[Tool, ...]) -> Said:
        library = self._library
        self._client = self._client or self._make()
        block: Any = {"type": "text", "text": system, "cache_control": {"type": "ephemeral"}}
        messages: Any = [_message(turn) for turn in turns]
        try:
            answer: Any = await self._client.messages.create(
                model=self._model,
                max_tokens=self._max_tokens,
                system=[block],
                messages=messages,
                tools=_tools(tools),
                extra_body=self._extra,
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


def _tools(tools: tuple[Tool, ...]) -> Any:
    return [
        {"name": tool.name, "description": tool.description, "input_schema": tool.parameters}
        for tool in tools
    ]


def _message(turn: Turn) -> dict[str, Any]:
    if isinstance(turn, Told):
        blocks: list[dict[str, Any]] = [
            {"type": "tool_result", "tool_use_id": result.id, "content": result.text}
            for result in turn.results
        ]
        blocks += [{"type": "text", "text": turn.text}] if turn.text else []
        return {"role": "user", "content": blocks}
    empty = [{"type": "text", "text": "(nothing)"}]  # an empty turn would be refused
    return {"role": "assistant", "content": turn.raw or empty}


def _said(answer: Any) -> Said:
    blocks = getattr(answer, "content", None)
    if not isinstance(blocks, list):
        raise EndpointError("the endpoint's answer holds no content", may_pass=True)
    usage = answer.usage
    cached = (usage.cache_creation_input_tokens or 0) + (usage.cache_read_input_tokens or 0)
    return Said(
        text="".join(block.text for block in blocks if block.type == "text"),
        uses=tuple(
            ToolUse(block.id, block.name, block.input)
            if isinstance(block.input, dict)
            else ToolUse(block.id, block.name, {}, "the arguments must be a JSON object")
            for block in blocks
            if block.type == "tool_use"
        ),
        # In Python's own types: as JSON, half a surrogate pair in a key would be an error here.
        raw=[block.model_dump(exclude_none=True) for block in blocks],
        tokens_in=usage.input_tokens + cached,
        tokens_out=usage.output_tokens,
        stopped=answer.stop_reason or "",
    )


def anthropic_reviewer(
    model: str,
    base_url: str | None = None,
    api_key_env: str = "ANTHROPIC_API_KEY",
    timeout_s: float = 300.0,
    retries: int = 6,
    max_tokens: int = 16_000,
    extra_body: Mapping[str, Any] | None = None,
    budget: Mapping[str, Any] | None = None,
    prices: Mapping[str, Any] | None = None,
    **more: Any,
) -> ModelReviewer:
    """The reviewer of `conf/reviewer/anthropic.yaml`; arguments as of `openai_reviewer`."""
    if not model:
        raise UsageError("reviewer.model is empty: name the model as the endpoint does")
    check_calls(timeout_s, retries, max_tokens)
    speaker = AnthropicSpeaker(
        model,
        base_url,
        api_key_env,
        timeout_s=timeout_s,
        retries=retries,
        max_tokens=max_tokens,
        extra_body=extra_body or {},
    )
    return ModelReviewer("anthropic", speaker, budget=budget or {}, prices=prices or {}, **more)
