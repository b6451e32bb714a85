"""Token prompts, rendered append-only, and token counts.

Promise: `extend` returns the earlier ids and the generated ids verbatim, then what closes the
assistant's turn and opens the next one. Nothing is ever tokenised twice, so a model (and training)
sees exactly the tokens that were sampled, and a cache of prefixes always hits.

Not covered: chat templates that rewrite earlier turns when a new one arrives; the rewriting is what
this module exists to avoid.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jinja2
import msgspec

from automem.engine.models import LOADING, resolve
from automem.engine.protocol import Message
from automem.errors import EngineRequestError, UsageError

_SENTINEL = "\x02automem-completion\x03"
"""Stands for a generated turn while its surroundings are rendered; no template or text holds it."""


@functools.lru_cache(maxsize=8)
def load_tokenizer(path_or_name: str) -> Any:
    """The tokenizer of a folder or hub name; one per process."""
    try:
        with LOADING:
            from transformers import AutoTokenizer

            return AutoTokenizer.from_pretrained(resolve(path_or_name))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"no tokenizer can be loaded from {path_or_name!r}: expected a folder with "
            f"tokenizer.json or a model name of the hub ({error})"
        ) from error


def decode(tokenizer: Any, token_ids: Sequence[int]) -> str:
    """The text of `token_ids`, special tokens spelled out and no spaces cleaned up."""
    return str(
        tokenizer.decode(
            list(token_ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
    )


class ApproximateCounter:
    """Token counts where no tokenizer is at hand: four characters a token, rounded up."""

    def count(self, text: str) -> int:
        """About how many tokens `text` has."""
        return (len(text) + 3) // 4


class ChatRenderer:
    """Renders chats to token ids with a model's own chat template."""

    def __init__(self, tokenizer: str) -> None:
        """`tokenizer`: a local folder, a hub name, or a model name that `models.resolve` knows."""
        self._tokenizer = load_tokenizer(tokenizer)
        if not self._tokenizer.chat_template:
            raise UsageError(
                f"the tokenizer {tokenizer!r} has no chat template: use an instruction-tuned "
                "model, or save the tokenizer with a `chat_template`"
            )
        self._turn_end = self._find_turn_end()

    @property
    def turn_end(self) -> int | None:
        """The token that closes an assistant turn; None where the template closes it with text."""
        return self._turn_end

    def start(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]] = ()) -> list[int]:
        """The ids of a chat's first prompt, the opening of the assistant's turn included."""
        return self._encode(self._template(messages, tools))

    def extend(
        self,
        ids: Sequence[int],
        completion_ids: Sequence[int],
        messages: Sequence[Message],
    ) -> list[int]:
        """`ids` and `completion_ids` as they are, then `messages` and a new assistant opening.

        The closing token is added where the completion lacks it (cut off, or stopped by a text).
        """
        suffix = self._encode(self._after_completion(messages))
        closed = completion_ids and self._turn_end is not None
        if closed and completion_ids[-1] == self._turn_end == suffix[0]:
            suffix = suffix[1:]
        return [*ids, *completion_ids, *suffix]

    def count(self, text: str) -> int:
        """How many tokens `text` has, on its own."""
        return len(self._encode(text))

    def cut_ids(self, token_ids: Sequence[int], text: str, kept_chars: int) -> list[int]:
        """The longest prefix of `token_ids` that says no more than `text[:kept_chars]`.

        `text` is what `token_ids` say, the closing token left out. A token that straddles the cut
        goes, so the prefix may say a little less.
        """
        kept = text[: max(kept_chars, 0)]
        low, high = 0, len(token_ids)
        while low < high:  # the decoded length grows with the number of tokens
            middle = (low + high + 1) // 2
            if len(decode(self._tokenizer, token_ids[:middle])) <= len(kept):
                low = middle
            else:
                high = middle - 1
        while low and not kept.startswith(decode(self._tokenizer, token_ids[:low])):
            low -= 1  # half a character at the end decodes to a replacement mark
        return list(token_ids[:low])

    def _encode(self, text: str) -> list[int]:
        ids = self._tokenizer.encode(text, add_special_tokens=False)
        return list(ids)

    def _template(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]] = ()) -> str:
        try:
            text = self._tokenizer.apply_chat_template(
                [_as_dict(message) for message in messages],
                tools=list(tools) or None,
                tokenize=False,
                add_generation_prompt=True,
            )
        except jinja2.TemplateError as error:  # many take no system role, or roles out of turn
            raise EngineRequestError(
                f"the model's chat template refuses these messages: {error}"
            ) from error
        return str(text)

    def _after_completion(self, messages: Sequence[Message]) -> str:
        turns = (Message("user", "-"), Message("assistant", _SENTINEL), *messages)
        text = self._template(turns)
        _, found, after = text.rpartition(_SENTINEL)
        if not found:
            raise UsageError("the chat template drops or rewrites the assistant's earlier turns")
        return after

    def _find_turn_end(self) -> int | None:
        after = self._encode(self._after_completion((Message("user", "-"),)))
        special = set(self._tokenizer.all_special_ids) | set(self._tokenizer.added_tokens_decoder)
        return after[0] if after and after[0] in special else None


def _as_dict(message: Message) -> dict[str, Any]:
    """A message as chat templates expect it: tool arguments are objects, not JSON text."""
    fields: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        fields["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": _arguments(call.arguments)},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        fields["tool_call_id"] = message.tool_call_id
    return fields


def _arguments(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
