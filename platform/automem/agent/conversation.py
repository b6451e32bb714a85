"""The messages of one routine, growing turn by turn, in both forms that engines take.

Chat engines get messages. Token engines get ids that are append-only: what the model generated
stays in the prompt exactly as generated, so that training can see the very tokens.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from automem.engine.protocol import Completion, Message, ToolCall


class Renderer(Protocol):
    """Token prompts for one tokenizer; `automem.engine.render` implements it."""

    def start(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]] = ()) -> list[int]:
        """Ids of a fresh conversation, up to where the assistant speaks."""
        ...

    def extend(
        self, ids: Sequence[int], completion_ids: Sequence[int], messages: Sequence[Message]
    ) -> list[int]:
        """`ids` + `completion_ids` + what follows an assistant's turn and renders `messages`."""
        ...

    def cut_ids(self, token_ids: Sequence[int], text: str, kept_chars: int) -> list[int]:
        """The longest prefix of the ids whose text lies within the first `kept_chars`."""
        ...


class Counter(Protocol):
    """Counts tokens: exactly for token engines, approximately for chat engines."""

    def count(self, text: str) -> int: ...


class Conversation:
    """See the module's docstring."""

    def __init__(
        self,
        messages: Sequence[Message],
        renderer: Renderer | None,
        tools: Sequence[dict[str, Any]] = (),
    ) -> None:
        self.messages = list(messages)
        self.tools = tuple(tools)
        self._renderer = renderer
        self._base: list[int] = []
        """Ids before the last completion."""
        self._completion: list[int] | None = None
        self._replies = 0
        """Messages after the last assistant turn."""
        self.ids: list[int] | None = renderer.start(self.messages, self.tools) if renderer else None

    def restarted(self, messages: Sequence[Message]) -> "Conversation":
        """A fresh conversation of the same kind that opens with `messages`."""
        return Conversation(messages, self._renderer, self.tools)

    def take_turn(self, completion: Completion, kept: int, replies: Sequence[Message]) -> None:
        """Add the model's turn, cut after `kept` characters, and the messages that answer it.

        A turn of which nothing is kept leaves no trace: the replies join the message before it."""
        calls = completion.tool_calls
        if kept <= 0 and not calls:
            self.say("\n".join(reply.content for reply in replies))
            return
        self.messages.append(
            Message(role="assistant", content=completion.text[:kept], tool_calls=calls)
        )
        self.messages.extend(replies)
        self._replies = len(replies)
        if self._renderer is not None and self.ids is not None:
            ids = completion.token_ids
            is_whole = kept >= len(completion.text)
            if ids is None:  # a chat engine's turn: there are no tokens to stay true to
                self._completion = None
            elif is_whole:
                self._completion = list(ids)
            else:
                self._completion = self._renderer.cut_ids(ids, completion.text, kept)
            self._base = self.ids
            self._render()

    def say(self, text: str) -> None:
        """Add `text` to the last message that is not the assistant's."""
        if not text:
            return
        last = self.messages[-1]
        if last.role == "user":
            self.messages[-1] = Message(role="user", content=f"{last.content}\n{text}")
        else:
            self.messages.append(Message(role="user", content=text))
            self._replies += 1
        self._render()

    def count(self, counter: Counter) -> int:
        """Tokens of the prompt as it stands; without a tokenizer approximately."""
        if self.ids is not None:
            return len(self.ids)
        return sum(counter.count(message.content) + 4 for message in self.messages)

    def _render(self) -> None:
        if self._renderer is None:
            return
        if self._completion is None:
            self.ids = self._renderer.start(self.messages, self.tools)
        else:
            replies = self.messages[len(self.messages) - self._replies :]
            self.ids = self._renderer.extend(self._base, self._completion, replies)


def without_calls_from(completion: Completion, call_id: str) -> tuple[ToolCall, ...]:
    """The native tool calls of a completion before the one of this id."""
    kept: list[ToolCall] = []
    for call in completion.tool_calls:
        if call.id == call_id:
            break
        kept.append(call)
    return tuple(kept)
