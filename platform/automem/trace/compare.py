"""Whether two traces are the same play: equality but for what two runs of the same seeds may
differ in (`VOLATILE`: times, hosts, attempts, failures), and the first place where they differ.

Texts are compared by content, so it does not matter when a blob was written, or how often.
"""

from collections.abc import Iterable
from itertools import zip_longest
from typing import Any

import msgspec

from automem.trace.events import (
    VOLATILE,
    Blob,
    Committed,
    EpisodeStarted,
    Event,
    Observed,
    Turn,
)
from automem.trace.texts import Texts

_SHOWN_CHARS = 160


def canonical(events: Iterable[Event]) -> list[dict[str, Any]]:
    """The events as plain data, without what is volatile, with texts for blob names."""
    texts = Texts()
    result = []
    for event in events:
        texts.add(event)
        record = msgspec.to_builtins(_spelled_out(event, texts))
        dropped = VOLATILE.get(record["kind"], ())
        if dropped is not None and not isinstance(event, Blob):
            result.append({key: value for key, value in record.items() if key not in dropped})
    return result


def _spelled_out(event: Event, texts: Texts) -> Event:
    """`event` with texts for blob names, in the fields that name blobs (and no others: a model may
    write a line that looks like a name)."""
    replace = msgspec.structs.replace
    match event:
        case EpisodeStarted():
            return replace(event, instruction=texts.resolve(event.instruction))
        case Observed():
            return replace(event, observation=texts.resolve(event.observation))
        case Turn():
            prompt = [(role, texts.resolve(text)) for role, text in event.prompt]
            return replace(event, prompt=prompt, completion=texts.resolve(event.completion))
        case Committed():
            return replace(event, reasoning=texts.resolve(event.reasoning))
        case _:
            return event


def first_difference(one: Iterable[Event], other: Iterable[Event]) -> str:
    """Where and how two traces first differ, for people; empty where they are the same play."""
    last_step = None
    for number, (left, right) in enumerate(zip_longest(canonical(one), canonical(other))):
        if left != right:
            where = f"record {number}" + ("" if last_step is None else f" (step {last_step})")
            return f"{where}: {_describe(left, right)}"
        last_step = left.get("step", last_step)
    return ""


def _describe(left: dict[str, Any] | None, right: dict[str, Any] | None) -> str:
    if left is None or right is None:
        there = left or right
        side = "first" if right is None else "second"
        return f"only the {side} trace goes on, with {_short(there)}"
    if left["kind"] != right["kind"]:
        return f"{_short(left)} against {_short(right)}"
    names = [key for key in {**left, **right} if left.get(key) != right.get(key)]
    parts = [f"{name}: {_contrast(left.get(name), right.get(name))}" for name in names]
    return f"{left['kind']}: " + "; ".join(parts)


def _contrast(left: Any, right: Any) -> str:
    """Both values, from shortly before where they part."""
    one, other = repr(left), repr(right)
    common = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), 0)
    start = max(0, common - 30)
    dots = "…" if start else ""
    return f"{dots}{_short(one[start:])} against {dots}{_short(other[start:])}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"
