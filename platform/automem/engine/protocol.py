"""The engine protocol: one request in, one completion out; batching is the engine's own business.

Cancelling the task that awaits `generate` aborts the call. An engine raises `EngineError` where it
could not answer (the caller may retry) and `EngineRequestError` where it never will.
"""

import math
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from automem.errors import EngineRequestError

GREEDY_BELOW = 1e-5
"""Lower temperatures are taken for 0, as vLLM takes them: logits divided by so little overflow."""


class ToolCall(msgspec.Struct, frozen=True):
    """A native tool call of a chat engine; `arguments` is the JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """One chat message: role `system`, `user`, `assistant` or `tool`."""

    role: str
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""


class Sampling(msgspec.Struct, frozen=True):
    """How to sample. `temperature` 0 is greedy. Defaults are the paper's (FACTS: 1.0, 4096)."""

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 4096
    stop: tuple[str, ...] = ()
    """Texts that end a completion; they stay at its end (the routine parses closing tags)."""

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest token is taken, with certainty."""
        return self.temperature < GREEDY_BELOW

    def check(self) -> None:
        """EngineRequestError where nothing can be sampled like this."""
        if self.max_tokens < 1:
            raise EngineRequestError("sampling.max_tokens must be at least 1")
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise EngineRequestError(
                f"sampling.temperature must be a number from 0 on, not {self.temperature}"
            )
        if not self.top_p > 0:  # no number is not, either
            raise EngineRequestError(f"sampling.top_p must be above 0, not {self.top_p}")


class GenerateRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One model call. Token engines read `prompt_ids`, chat engines `messages`."""

    id: str
    """`episode/step/turn`: unique, and the same when the call is retried or replayed."""
    messages: tuple[Message, ...]
    prompt_ids: tuple[int, ...] | None = None
    sampling: Sampling = Sampling()
    seed: int = 0
    """63 bits, derived from episode, step and turn: same seed, same draw."""
    adapter: str | None = None
    """Name of an adapter version; None is the untouched base."""
    cache_salt: str = ""
    """Prefixes are shared in the cache among requests of equal salt only."""
    deadline_s: float = 120.0
    """From arrival to completion, retries inside the engine included."""
    tools: tuple[dict[str, Any], ...] = ()
    """JSON schemas of tools, for chat engines under the `tools` dialect."""
    grammar: str = ""
    """EBNF that the completion has to follow (`automem.memory.dialects.grammar`); engines that are
    not `guided` pass it by."""


class Completion(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the model said."""

    text: str
    token_ids: tuple[int, ...] | None = None
    """Generated tokens, the closing end-of-turn token included where one was sampled."""
    logprobs: tuple[float, ...] | None = None
    """Natural log-probabilities of `token_ids` under the sampling distribution."""
    finish_reason: str = "stop"
    """`stop` (end token or stop text), `length` (max_tokens) or `tool_calls`."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Prompt tokens whose keys and values came from a cache."""
    completion_tokens: int = 0
    tool_calls: tuple[ToolCall, ...] = ()


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine can give; learners and modes ask before they start."""

    model: str
    """Name of the base model, for policy versions."""
    token_ids: bool = False
    logprobs: bool = False
    scoring: bool = False
    adapters: bool = False
    batch_invariant: bool = False
    """Same request, same completion, whatever else is in the batch and however often."""
    tool_calls: bool = False
    guided: bool = False
    """Keeps completions to a request's `grammar`."""
    tokenizer: str = ""
    """Path or hub name from which sessions render token prompts; needed with `token_ids`."""
    context_tokens: int = 0
    """Length of the context window; 0 where unknown."""


class Engine(Protocol):
    """Turns prompts into completions."""

    async def capabilities(self) -> Capabilities:
        """What this engine can give; also the readiness check: returns once it can serve."""
        ...

    async def generate(self, request: GenerateRequest) -> Completion:
        """One completion, or EngineError."""
        ...

    async def score(self, token_ids: Sequence[int], adapter: str | None = None) -> list[float]:
        """Log-probability (natural, temperature 1) of each token given those before it; the first
        is 0.0. Length as `token_ids`. EngineRequestError where the engine cannot score."""
        ...

    async def load_adapter(self, name: str, path: str) -> None:
        """Make the adapter version `name` (a PEFT folder) available; names are never reused."""
        ...

    async def close(self) -> None:
        """Finish what runs, then free everything."""
        ...
