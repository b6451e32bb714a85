"""Results capped in tokens: an answer never fills the context."""

import msgspec

from automem.agent.conversation import Counter
from automem.memory.ops import OpResult


def cap_tokens(result: OpResult, limit: int, counter: Counter) -> OpResult:
    """`result` with as many whole lines as fit into `limit` tokens, and a note of what was cut.

    Where not even the first line fits, nothing but the note is left."""
    if len(result.text) <= limit and result.text.isascii():
        return result  # no tokenizer here makes more tokens than bytes
    if counter.count(result.text) <= limit:
        return result
    lines = result.text.split("\n")
    if result.cut:
        lines.pop()  # the note of the cap before; a new one follows
    low, high = 0, len(lines)
    while low < high:
        middle = (low + high + 1) // 2
        if counter.count("\n".join(lines[:middle])) <= limit:
            low = middle
        else:
            high = middle - 1
    dropped = len(lines) - low
    cut = result.cut + dropped
    note = f"... {cut} more lines not shown"
    text = "\n".join([*lines[:low], note])
    return msgspec.structs.replace(
        result, text=text, cut=cut, lines=_first_lines(result.lines, low)
    )


def _first_lines(shown: dict[str, list[int]], count: int) -> dict[str, list[int]]:
    """The first `count` line numbers over all files, in order."""
    kept: dict[str, list[int]] = {}
    for file, numbers in shown.items():
        part = numbers[:count]
        if part:
            kept[file] = part
        count -= len(part)
    return kept
