"""A trace as training reads it: every turn with the messages it answered, texts resolved."""

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from automem.errors import UsageError
from automem.trace.events import EpisodeStarted, Event, Turn
from automem.trace.texts import Messages, Prompts, Texts

NOTHING: Mapping[int, int] = MappingProxyType({})
"""No turn is forgotten."""


class SeenTurn(NamedTuple):
    """One model call."""

    turn: Turn
    messages: Messages
    """The full prompt, texts resolved."""
    text: str
    """The completion, resolved."""

    @property
    def kept_text(self) -> str:
        """What stays in the context after this turn."""
        return self.text if self.turn.kept < 0 else self.text[: self.turn.kept]


def seen_turns(events: Iterable[Event]) -> Iterator[SeenTurn]:
    """Every turn in order."""
    texts, prompts = Texts(), Prompts()
    for event in events:
        texts.add(event)
        if isinstance(event, Turn):
            messages = [(role, texts.resolve(text)) for role, text in prompts.add(event)]
            yield SeenTurn(event, messages, texts.resolve(event.completion))


def is_forgotten(step: int, turn: int, forgotten: Mapping[int, int]) -> bool:
    """Whether a turn can be trained on no more; `forgotten`: step to the first such turn."""
    return step in forgotten and turn >= forgotten[step]


def by_step(
    events: Iterable[Event], forgotten: Mapping[int, int] = NOTHING
) -> Iterator[list[SeenTurn]]:
    """The turns of one step after the other, without the `forgotten` ones."""
    step: list[SeenTurn] = []
    for seen in seen_turns(events):
        if is_forgotten(seen.turn.step, seen.turn.turn, forgotten):
            continue
        if step and step[0].turn.step != seen.turn.step:
            yield step
            step = []
        step.append(seen)
    if step:
        yield step


def started(events: Iterable[Event]) -> EpisodeStarted:
    """The episode's first record; UsageError where it is missing."""
    for event in events:
        if isinstance(event, EpisodeStarted):
            return event
    raise UsageError("these events hold no episode: expected its first record (`EpisodeStarted`)")
