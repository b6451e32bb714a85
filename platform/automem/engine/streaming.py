"""Completions piece by piece, from engines that can: for people who watch text appear.

An addition to the engine protocol: an engine *may* have `stream`. What episodes are played with is
`generate`; nothing about a completion depends on how it was asked for.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any, Protocol, TypeAlias, runtime_checkable

from automem.engine.protocol import Completion, Engine, GenerateRequest
from automem.engine.render import decode

Piece: TypeAlias = tuple[int, ...] | Completion
"""Tokens as they are sampled (no end token among them), and at last the completion."""

_WINDOW = 8
"""Tokens decoded again before new ones: what a tokenizer spells depends on what stands before."""
_HALF = "\ufffd"
"""What the first bytes of a character decode to while the others are missing."""


@runtime_checkable
class StreamingEngine(Protocol):
    """An engine that tells tokens as it samples them."""

    def stream(self, request: GenerateRequest) -> AsyncIterator[Piece]:
        """The tokens in pieces, then the completion; errors and cancelling as in `generate`."""
        ...


async def pieces_of(engine: Engine, request: GenerateRequest) -> AsyncGenerator[Piece, None]:
    """As `stream`; from an engine that cannot, the completion alone."""
    if not isinstance(engine, StreamingEngine):
        yield await engine.generate(request)
        return
    pieces: Any = engine.stream(request)
    async with aclosing(pieces):
        async for piece in pieces:
            yield piece


class TextStream:
    """The text of growing tokens, given out as soon as nothing that follows can change it.

    Promise: the pieces of `add` and then of `finish` are together the completion's text without
    its stop text. Held back: half a character, and what may be the beginning of a stop text."""

    def __init__(self, tokenizer: Any, stops: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._stops = [stop for stop in stops if stop]
        self._tokens: list[int] = []
        self._done = 0
        """Tokens whose text is in `_given` or `_held`."""
        self._given = ""
        self._held = ""

    def add(self, tokens: Sequence[int]) -> str:
        """The text that these tokens make certain; may be empty."""
        self._tokens += tokens
        start = max(0, self._done - _WINDOW)
        before = decode(self._tokenizer, self._tokens[start : self._done])
        now = decode(self._tokenizer, self._tokens[start:])
        if now.endswith(_HALF):
            return ""
        self._held += now[len(before) :]
        self._done = len(self._tokens)
        return self._give(self._certain())

    def finish(self, text: str) -> str:
        """What is left of the completion's `text` (its stop text already taken off)."""
        return text[len(self._given) :]

    def _give(self, count: int) -> str:
        piece, self._held = self._held[:count], self._held[count:]
        self._given += piece
        return piece

    def _certain(self) -> int:
        """How many of the held characters cannot belong to a stop text."""
        found = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            return min(found)
        return len(self._held) - max(
            (
                size
                for stop in self._stops
                for size in range(1, len(stop))
                if self._held.endswith(stop[:size])
            ),
            default=0,
        )
