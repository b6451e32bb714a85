"""The frame of a scripted player with notes: LOG writes, PLAN looks up, then commits.

A subclass says what is worth noting, what to look up and how to decide, each from the prompt
alone. Stateless: every reply is a function of the request's messages and, where a player guesses,
of the request's seed. It speaks the `tags` dialect and reads the layout of the shipped scaffolds.

`reads=False` makes the memoryless twin: the same code, which writes as before and sees nothing of
what it wrote (no results, no shown lines, no index). What tells the two apart is memory alone.
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import msgspec

from automem.agent.prompt_view import PromptView, read_prompt
from automem.engine.protocol import GenerateRequest
from automem.memory.dialects.base import Commit, Done
from automem.memory.dialects.tags import TagsDialect
from automem.memory.ops import READING, AnyOp
from automem.trace.events import Routine

_DIALECT = TagsDialect()
_LINES = frozenset({"READ", "SEARCH", "TAIL"})
"""Operations whose results are lines of memory."""


class NotePlayer(ABC):
    """See the module's docstring; implements `automem.engine.scripted.Player`."""

    def __init__(self, reads: bool = True) -> None:
        self.reads = reads

    @abstractmethod
    def note(self, view: PromptView) -> Sequence[AnyOp]:
        """What LOG does now; where it reads, it is asked again with the results in view."""

    @abstractmethod
    def look_up(self, view: PromptView) -> Sequence[AnyOp]:
        """What PLAN reads before it decides."""

    @abstractmethod
    def decide(self, view: PromptView, chance: random.Random) -> str:
        """The game action."""

    def reply(self, request: GenerateRequest) -> str:
        """The text of one turn."""
        view = read_prompt(request.messages)
        if not self.reads:
            view = msgspec.structs.replace(view, results=[], shown={}, files={})
        if view.routine is Routine.LOG:
            operations = self.note(view)
            reads = any(operation.name in READING for operation in operations)
            return _print(operations, None if reads else Done())
        operations = [] if view.turns or view.wants_commit else list(self.look_up(view))
        # A commit ends the consulting; where something was looked up, the choice that counts is
        # made after the hand-over, with the results in view.
        return _print(operations, Commit(self.decide(view, random.Random(request.seed))))


def lines_of(view: PromptView, file: str) -> list[str]:
    """Lines of memory in view that came from `file`, shown ones first."""
    lines = list(view.shown.get(file, ()))
    for result in view.results:
        if result.name in _LINES and result.file == file:
            lines += [line for line in result.lines if line not in _NOTHING]
    return lines


_NOTHING = frozenset({"no match", "empty"})
"""What an operation answers where it found nothing."""


def keyed(lines: Iterable[str]) -> dict[str, str]:
    """Lines `key: text` as a mapping; the last of a key counts."""
    return dict(line.split(": ", 1) for line in lines if ": " in line)


def _print(operations: Iterable[AnyOp], last: Commit | Done | None) -> str:
    values = [*operations, *([] if last is None else [last])]
    return "\n".join(_DIALECT.print(value) for value in values)


__all__ = ["NotePlayer", "keyed", "lines_of"]
