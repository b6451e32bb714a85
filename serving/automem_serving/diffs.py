"""Unified diffs of memory files, in time that grows with the files and not with their square."""

import difflib
from collections.abc import Mapping

_MOST_LINES = 1000
"""Changed lines (before and after) up to which the smallest diff is looked for; beyond, the whole
changed part is one replacement."""
_CONTEXT = 3


def changed_files(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """Name to `added`, `removed` or `changed`, by name."""
    kinds = {}
    for name in sorted({*before, *now}):
        if name not in before:
            kinds[name] = "added"
        elif name not in now:
            kinds[name] = "removed"
        elif before[name] != now[name]:
            kinds[name] = "changed"
    return kinds


def unified_diff(name: str, before: str, now: str) -> str:
    """How `before` became `now`, as `diff -u` says it."""
    old, new = before.splitlines(), now.splitlines()
    same = 0
    while same < min(len(old), len(new)) and old[same] == new[same]:
        same += 1
    tail = 0
    while tail < min(len(old), len(new)) - same and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    changed = len(old) + len(new) - 2 * (same + tail)
    if changed <= _MOST_LINES:
        lead, trail = max(0, same - _CONTEXT), max(0, tail - _CONTEXT)
        hunks = list(
            difflib.unified_diff(
                old[lead : len(old) - trail], new[lead : len(new) - trail], n=_CONTEXT, lineterm=""
            )
        )[2:]
        hunks = [_moved(line, lead) if line.startswith("@@") else line for line in hunks]
    else:
        hunks = [
            f"@@ -{same + 1},{len(old) - same - tail} +{same + 1},{len(new) - same - tail} @@",
            *(f"-{line}" for line in old[same : len(old) - tail]),
            *(f"+{line}" for line in new[same : len(new) - tail]),
        ]
    return "\n".join([f"--- {name}", f"+++ {name}", *hunks, ""])


def _moved(header: str, lines: int) -> str:
    """A hunk's header (`@@ -1,2 +1,3 @@`), so many lines further down."""
    _, old, new, _ = header.split(" ")
    return f"@@ -{_shifted(old[1:], lines)} +{_shifted(new[1:], lines)} @@"


def _shifted(part: str, lines: int) -> str:
    start, comma, count = part.partition(",")
    return f"{int(start) + lines}{comma}{count}"
