"""Pruning rules: which lines of a memory file are of no more use. Pure functions over text.

Promise: pruning what is pruned already changes nothing, so a step that is replayed ends as it did.
Lines that stay keep their order and their text.
"""

import re

from automem.agent.patterns import Pattern, fill, holds_words
from automem.agent.schema import FileKind, FileSchema, PruneRule

_MOST_FOUND = 64
"""Places of one observation that a rule acts on."""
_DONE = re.compile(r"\[[xX]\] ")


def is_pruned(file: FileSchema) -> bool:
    """Whether the schema has any rule for this file."""
    return bool(
        file.keep_last or file.keep_bytes or file.drop or file.drop_repeated or file.drop_done
    )


def without_dropped(file: FileSchema, text: str, observation: str) -> str:
    """`text` without the lines that the rules drop; caps aside."""
    words = [word for rule in file.drop for word in _named(rule, observation)]
    if not (words or file.drop_repeated or file.drop_done):
        return text
    lines = [
        line
        for line in _lines(text)
        if not any(holds_words(line, word) for word in words)
        and not (file.drop_done and _DONE.match(line))
    ]
    if file.drop_repeated:
        newest = {_key(file, line): index for index, line in enumerate(lines) if line.strip()}
        lines = [
            line
            for index, line in enumerate(lines)
            if not line.strip() or newest[_key(file, line)] == index
        ]
    return "".join(lines)


def surplus_chars(file: FileSchema, text: str) -> int:
    """How many characters at the beginning, in whole lines, are beyond the caps."""
    lines = _lines(text)
    drop = max(0, len(lines) - file.keep_last) if file.keep_last else 0
    if file.keep_bytes:
        size = sum(len(line.encode()) for line in lines[drop:])
        while size > file.keep_bytes:
            size -= len(lines[drop].encode())
            drop += 1
    return sum(len(line) for line in lines[:drop])


def _lines(text: str) -> list[str]:
    """Lines with their newline; newlines alone end one, as for the operations."""
    lines = [line + "\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def _named(rule: PruneRule, observation: str) -> list[str]:
    """What the rule drops now, from each line of the observation that fits it."""
    pattern = Pattern(rule.seen)
    found = [hit for line in observation.split("\n") for hit in pattern.find(line)]
    return [fill(rule.drop, hit) for hit in found[:_MOST_FOUND]]


def _key(file: FileSchema, line: str) -> str:
    """What makes a line a repetition: the line, or in keyed files its key."""
    if file.kind is FileKind.KEYED and file.separator in line:
        return line.partition(file.separator)[0].strip()
    return line.strip()
