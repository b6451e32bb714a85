"""Texts of a trace: what blob names stand for, and what a model was really shown.

A prompt is stored as its difference from a turn before it (`Turn.base_turn`, `Turn.shared`);
`Prompts` puts it together again. It holds one step's turns only: it does not grow with the episode.
"""

from collections.abc import Iterable
from typing import TypeAlias

from automem.errors import StoreError
from automem.trace.blobs import is_blob_name
from automem.trace.events import Blob, Event, Turn

Messages: TypeAlias = list[tuple[str, str]]
"""(role, text) pairs, oldest first."""


MAX_TEXTS = 40_000
"""Texts that are held at a time, the longest unused dropped first: bounds memory in endless
episodes. A journal writes a text again that it has not written for 16,384 others."""


class Texts:
    """The blobs of one episode, by name."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self._blobs: dict[str, str] = {}
        for event in events:
            self.add(event)

    def add(self, event: Event) -> None:
        """Take note of `event` where it is a blob."""
        if isinstance(event, Blob):
            self._blobs.pop(event.digest, None)
            self._blobs[event.digest] = event.text
            if len(self._blobs) > MAX_TEXTS:
                del self._blobs[next(iter(self._blobs))]

    def resolve(self, text: str) -> str:
        """The text that `text` names, or itself; StoreError where its blob is missing."""
        if not is_blob_name(text):
            return text
        try:
            found = self._blobs[text] = self._blobs.pop(text)
            return found
        except KeyError:
            raise StoreError(
                f"the trace names the text {text}, but holds no such blob before its first use: "
                "the journal is incomplete; restore it, or delete the episode's folder and resume"
            ) from None


class Prompts:
    """Full prompts of the turns of the step at hand, in the order in which they happen.

    Texts stay as the trace has them: inline, or named."""

    def __init__(self) -> None:
        self._step = -1
        self._turns: dict[int, Messages] = {}

    def add(self, turn: Turn) -> Messages:
        """The messages that `turn` answered. Call it for every turn, in order."""
        if turn.step != self._step:
            self._step = turn.step
            self._turns.clear()
        messages = [*self._before(turn), *((role, text) for role, text in turn.prompt)]
        self._turns[turn.turn] = messages
        return messages

    def _before(self, turn: Turn) -> Messages:
        if turn.base_turn < 0:
            return []
        try:
            return self._turns[turn.base_turn][: turn.shared]
        except KeyError:
            raise StoreError(
                f"turn {turn.turn} of step {turn.step} continues turn {turn.base_turn}, "
                "which the trace lacks: its journal is incomplete"
            ) from None


def full_prompt(events: Iterable[Event], step: int, turn: int) -> Messages:
    """The messages of one turn with their texts; StoreError where there is no such turn."""
    texts, prompts = Texts(), Prompts()
    for event in events:
        texts.add(event)
        if isinstance(event, Turn) and event.step == step:
            messages = prompts.add(event)
            if event.turn == turn:
                return [(role, texts.resolve(text)) for role, text in messages]
    raise StoreError(f"the trace has no turn {turn} in step {step}")
