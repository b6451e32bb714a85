"""A conversation with a model that uses tools, whatever protocol it speaks.

`Speaker` is what an endpoint's client has to do: one answer to a conversation so far. Promise of
the types: an assistant's turn keeps what the endpoint sent, so that it can be sent back unchanged.
"""

from typing import Any, Protocol, TypeAlias

import msgspec

from automem.errors import InfrastructureError
from automem.loops.reviewers.interface import Tool


class ToolUse(msgspec.Struct, frozen=True):
    """A model's call of a tool."""

    id: str
    name: str
    arguments: dict[str, Any]
    problem: str = ""
    """What is wrong with the call's spelling; its arguments are then empty."""


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """An assistant's turn."""

    text: str
    uses: tuple[ToolUse, ...] = ()
    raw: Any = None
    """As the endpoint gave it."""
    tokens_in: int = 0
    tokens_out: int = 0
    stopped: str = ""
    """Why it ended, in the endpoint's own word."""


class Result(msgspec.Struct, frozen=True):
    """The answer to a `ToolUse`."""

    id: str
    text: str


class Told(msgspec.Struct, frozen=True):
    """A user's turn: the answers to the tools that were called, then words."""

    results: tuple[Result, ...] = ()
    text: str = ""


Turn: TypeAlias = Said | Told


class EndpointError(InfrastructureError):
    """No answer from the endpoint. `may_pass`: asking again later may help."""

    boundary = "reviewer"

    def __init__(self, text: str, *, may_pass: bool) -> None:
        super().__init__(text)
        self.may_pass = may_pass


class Speaker(Protocol):
    """See the module's docstring."""

    @property
    def model(self) -> str:
        """As the endpoint names it."""
        ...

    async def answer(self, system: str, turns: list[Turn], tools: tuple[Tool, ...]) -> Said:
        """The next turn; EndpointError where there is none, UsageError where the endpoint says
        that it is asked wrongly (key, model, address)."""
        ...

    async def close(self) -> None:
        """Close its connections."""
        ...
