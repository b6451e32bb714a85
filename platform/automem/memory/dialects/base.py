"""What a dialect is: how operations are spelled in a model's turn, and how results are answered.

A dialect parses a turn into items *in text order*; what it cannot parse becomes a `Malformed` item
with a message that the model will read. It never raises on a model's text.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeAlias

import msgspec

from automem.memory.ops import AnyOp, OpResult


class ToolCallLike(Protocol):
    """A native tool call of a chat engine."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def arguments(self) -> str: ...


class Commit(msgspec.Struct, frozen=True):
    """The turn commits this game action."""

    action: str


class Done(msgspec.Struct, frozen=True):
    """The turn says that the routine is finished."""


class Malformed(msgspec.Struct, frozen=True):
    """Something that looks like an operation and is none."""

    message: str
    """What was expected, in words for the model."""


Value: TypeAlias = AnyOp | Commit | Done | Malformed


class Item(msgspec.Struct, frozen=True):
    """One parsed piece of a turn and where it stands (`text[start:end]`)."""

    value: Value
    start: int
    end: int
    call_id: str = ""
    """Id of the native tool call it came from."""


class Reply(msgspec.Struct, frozen=True):
    """A message that answers a turn: role `user` or `tool`."""

    role: str
    content: str
    tool_call_id: str = ""


class Dialect(Protocol):
    """See the module's docstring."""

    name: str

    def parse(self, text: str, tool_calls: Sequence[ToolCallLike] = ()) -> list[Item]:
        """The turn's items in text order."""
        ...

    def print(self, value: AnyOp | Commit | Done) -> str:
        """The canonical spelling; `parse` of it gives `value` back."""
        ...

    def answer(self, done: Iterable[tuple[Item, OpResult]]) -> list[Reply]:
        """The messages that show a turn's results (also of `Malformed` items) to the model."""
        ...

    def tool_schemas(self, vocabulary: Sequence[str], commits: bool) -> tuple[dict[str, Any], ...]:
        """Tool definitions for chat engines; empty where ops are plain text."""
        ...
