"""How the results of a turn are shown to the model as one text: a header per operation, then lines.

    # results
    SEARCH cards.txt|K
    05 K
    APPEND cards.txt
    ok

Shared by every dialect whose operations stand in plain text.
"""

from collections.abc import Iterable

from automem.memory.dialects.base import Commit, Done, Item, Malformed, Reply, Value
from automem.memory.ops import Count, List, OpResult, Search, Tail

HEADER = "# results"
MALFORMED = "?"
"""Header of something that could not be understood."""


def result_header(value: Value) -> str:
    """One line: the operation's name, its file and, where it looks for something, what."""
    match value:
        case Search(file, argument) | Count(file, argument) | Tail(file, argument):
            return " ".join(f"{value.name} {file}|{argument}".splitlines())
        case List():
            return value.name
        case Malformed():
            return MALFORMED
        case Commit():
            return "ACTION"
        case Done():
            return "DONE"
    return " ".join(f"{value.name} {value.file}".splitlines())


def results_message(done: Iterable[tuple[Item, OpResult]]) -> list[Reply]:
    """The user message with all results; none where nothing was done."""
    parts = [f"{result_header(item.value)}\n{result.text}" for item, result in done]
    return [Reply("user", "\n".join([HEADER, *parts]))] if parts else []
