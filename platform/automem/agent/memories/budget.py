"""Lines of memory within a budget of tokens, with the note of what is left out.

The note has the words of a result that was cut (`automem.agent.results`), so that a model which
reads one reads the other.
"""

from collections.abc import Sequence

from automem.agent.conversation import Counter

_MOST_KNOWN = 100_000
"""Lines whose counts are remembered at a time."""


def left_out(lines: int) -> str:
    """The note; empty where nothing is left out."""
    return f"... {lines} more lines not shown" if lines else ""


class LineCounter:
    """A counter that remembers the counts of single lines: a log shows the same ones every step."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def count(self, line: str, counter: Counter) -> int:
        if line not in self._known:
            if len(self._known) > _MOST_KNOWN:
                self._known.clear()
            self._known[line] = counter.count(line)
        return self._known[line]


def newest_within(
    lines: Sequence[str],
    most: int,
    tokens: int,
    counter: Counter,
    line_counter: LineCounter | None = None,
) -> str:
    """The newest of `lines`, at most `most` of them (0: any number), within `tokens`; older ones
    are told of in a first line. Empty where there are no lines, or not even the note fits.

    Lines are counted one by one, so a few more might have fitted; never fewer."""
    available = lines[-most:] if most else lines
    count = line_counter or LineCounter()
    kept = _fitting(available, tokens, counter, count)
    if kept < len(lines):
        note = counter.count(left_out(len(lines)))
        kept = _fitting(available, tokens - note - 1, counter, count)
    while True:
        text = _text(available[-kept:] if kept else (), len(lines) - kept)
        if counter.count(text) <= tokens:
            return text
        if not kept:
            return ""
        kept -= 1


def _fitting(lines: Sequence[str], tokens: int, counter: Counter, count: LineCounter) -> int:
    """How many of the newest lines fit, with a token for each newline between them."""
    kept = 0
    left = tokens + 1
    for line in reversed(lines):
        left -= count.count(line, counter) + 1
        if left < 0:
            break
        kept += 1
    return kept


def best_within(
    lines: Sequence[str], ranked: Sequence[int], found: int, tokens: int, counter: Counter
) -> str:
    """Those of `lines` whose indexes are `ranked`, best first, that fit into `tokens`, in the order
    of `lines`; a last line tells how many of the `found` are missing. Empty where not even that
    fits."""
    chosen: list[int] = []
    for index in ranked:
        tried = sorted([*chosen, index])
        if counter.count(_result(lines, tried, found)) <= tokens:
            chosen = tried
    text = _result(lines, chosen, found)
    return text if chosen or counter.count(text) <= tokens else ""


def _result(lines: Sequence[str], chosen: Sequence[int], found: int) -> str:
    note = left_out(found - len(chosen))
    return "\n".join([*(lines[index] for index in chosen), *([note] if note else [])])


def _text(shown: Sequence[str], missing: int) -> str:
    note = left_out(missing)
    return "\n".join([*([note] if note else []), *shown])
