"""Lines of memory within a budget of tokens, with the note of what is left out.

The note has the words of a result that was cut (`automem.agent.results`), so that a model which
reads one reads the other.
"""

from collections.abc import Sequence

from automem.agent.conversation import Counter

_CHARS_PER_TOKEN = 16
"""No text is longer; keeps the counting of a log of a million lines to its end."""


def left_out(lines: int) -> str:
    """The note; empty where nothing is left out."""
    return f"... {lines} more lines not shown" if lines else ""


def newest_within(lines: Sequence[str], most: int, tokens: int, counter: Counter) -> str:
    """The newest of `lines`, at most `most` of them (0: any number), within `tokens`; older ones
    are told of in a first line. Empty where there are no lines, or not even the note fits."""
    available = lines[-most:] if most else lines
    available = _within_chars(available, tokens * _CHARS_PER_TOKEN)
    low, high = 0, len(available)
    while low < high:
        middle = (low + high + 1) // 2
        if counter.count(_text(available[-middle:], len(lines) - middle)) <= tokens:
            low = middle
        else:
            high = middle - 1
    text = _text(available[-low:] if low else (), len(lines) - low)
    return text if low or counter.count(text) <= tokens else ""


def best_within(lines: Sequence[str], ranked: Sequence[int], tokens: int, counter: Counter) -> str:
    """Those of `lines` whose indexes are `ranked`, best first, that fit into `tokens`, in the order
    of `lines`; how many others there are is told in a first line."""
    chosen: list[int] = []
    for index in ranked:
        tried = sorted([*chosen, index])
        if counter.count(_text([lines[i] for i in tried], len(lines) - len(tried))) <= tokens:
            chosen = tried
    text = _text([lines[i] for i in chosen], len(lines) - len(chosen))
    return text if chosen or counter.count(text) <= tokens else ""


def _text(shown: Sequence[str], missing: int) -> str:
    note = left_out(missing)
    return "\n".join([*([note] if note else []), *shown])


def _within_chars(lines: Sequence[str], chars: int) -> Sequence[str]:
    """The newest lines that have no more characters than that."""
    kept = 0
    for line in reversed(lines):
        chars -= len(line) + 1
        if chars < 0:
            break
        kept += 1
    return lines[len(lines) - kept :]
