"""When a completion ends: end tokens and stop texts.

Decoding text at every token would cost as much as a small model's own step, so a stop text is
looked for only after a token that holds its last character.
"""

import functools
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from automem.engine.render import decode

_WATCHES = 32
"""Sets of stop texts that are prepared for at a time: an agent has a few, callers from outside as
many as they like, and each costs megabytes with a large vocabulary."""


class StopWatch:
    """Looks for some stop texts at the end of growing token lists."""

    def __init__(self, tokenizer: Any, pieces: Sequence[str], stops: tuple[str, ...]) -> None:
        self._tokenizer = tokenizer
        self._stops = stops
        # A token may hold as little as one byte of one character.
        self._window = max(len(stop.encode()) for stop in stops) + 8
        last = {stop[-1] for stop in stops}
        self._suspects: frozenset[int] | None = None
        if all(char.isascii() for char in last):
            self._suspects = frozenset(
                token for token, piece in enumerate(pieces) if not last.isdisjoint(piece)
            )

    def is_reached(self, tokens: list[int]) -> bool:
        """Whether the newest token completed a stop text."""
        if self._suspects is not None and tokens[-1] not in self._suspects:
            return False
        tail = decode(self._tokenizer, tokens[-self._window :])
        return any(stop in tail for stop in self._stops)

    def cut(self, text: str) -> str:
        """`text` up to the end of the first stop text in it."""
        return cut_at_stop(text, self._stops)


def cut_at_stop(text: str, stops: Sequence[str]) -> str:
    """`text` up to the end of the first of `stops` in it."""
    ends = [text.find(stop) + len(stop) for stop in stops if stop and stop in text]
    return text[: min(ends)] if ends else text


class Endings:
    """What ends the completions of one model."""

    def __init__(self, tokenizer: Any, end_ids: frozenset[int]) -> None:
        self.end_ids = end_ids
        self._tokenizer = tokenizer
        self._watches: OrderedDict[tuple[str, ...], StopWatch] = OrderedDict()
        """The one unused for longest first."""

    def watch(self, stops: tuple[str, ...]) -> StopWatch | None:
        """The watch for these stop texts; None where there are none."""
        stops = tuple(stop for stop in stops if stop)
        if not stops:
            return None
        if stops not in self._watches:
            self._watches[stops] = StopWatch(self._tokenizer, self._pieces, stops)
            if len(self._watches) > _WATCHES:
                self._watches.popitem(last=False)
        self._watches.move_to_end(stops)
        return self._watches[stops]

    def text(self, tokens: list[int], watch: StopWatch | None) -> str:
        """What a finished completion says: no end token, nothing after a stop text."""
        said = tokens[:-1] if tokens and tokens[-1] in self.end_ids else tokens
        text = decode(self._tokenizer, said)
        return watch.cut(text) if watch else text

    @functools.cached_property
    def _pieces(self) -> list[str]:
        """The text of every token on its own."""
        single = [[token] for token in range(len(self._tokenizer))]
        return list(self._tokenizer.batch_decode(single, skip_special_tokens=False))
