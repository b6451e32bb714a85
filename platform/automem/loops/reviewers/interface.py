"""What a reviewer is asked, what it answers, and how it fails.

A reviewer sees one scaffold, the complete episodes that were played with it, and everything that
was tried before; it answers with the files of a revised scaffold and its reasons. It changes
nothing itself: whether a revision may be played is for `constraints.py`, whether it is better for
the gate.

Promise: a request holds all that the answer may depend on, so a reviewer that needs no network
gives the same revision for the same request. Not covered: keeping the request for a continuation
(the loop builds it anew from its lineage).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec

from automem.errors import InfrastructureError
from automem.loops.lineage import Node


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What a revision may do, beyond what holds for every one (`constraints.py`)."""

    allow_hooks: bool = False
    """Whether it may add or change `hooks.py`: only where code can be isolated."""


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """An earlier answer that did not stand, shown to its reviewer once."""

    node: Node
    """With its error, its numbers and its verdict."""
    files: Mapping[str, str]
    """Empty where they cannot be read, which `unreadable` explains."""
    unreadable: str = ""
    runs: tuple[Path, ...] = ()
    """What was played with it before it was stopped; empty where it was not played at all."""


class ReviewRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One question to a reviewer."""

    parent: str
    """The lineage node that is to be revised: the champion."""
    files: Mapping[str, str]
    """Its scaffold by file name."""
    folder: Path
    """The same as a folder; not to be changed."""
    runs: tuple[Path, ...]
    """Run folders with complete episodes that were played with it, and their tables."""
    history: tuple[Node, ...] = ()
    """The whole lineage, oldest first, open nodes included: grow a node before the next question,
    and no reviewer proposes it twice."""
    failed: Failed | None = None
    """A continuation: what became of the last answer. None: a fresh attempt."""
    seed: int = 0
    """For reviewers that draw; the same for the same place in the loop's plan."""
    workspace: Path
    """A folder of this question's own, for transcripts; may hold those of a killed attempt."""
    rules: Rules = Rules()


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer cost."""

    seconds: float = 0.0
    tokens_in: int = 0
    tokens_out: int = 0
    money: float = 0.0
    """In the currency of the configured prices; 0 where none are."""
    calls: int = 0
    """Requests to a model."""


class Revision(msgspec.Struct, frozen=True, kw_only=True):
    """A proposed scaffold."""

    files: Mapping[str, str]
    """All of it by file name, not only what changed. May break constraints: check it."""
    reasons: str
    """Why; the first line is the title that trees and tables show."""
    knowledge: tuple[str, ...] = ()
    """Added lines that are knowledge of the task, as the reviewer declares them."""
    reviewer: str
    spent: Spent = Spent()


class ReviewError(InfrastructureError):
    """A reviewer gave no revision.

    `is_retryable`: asking again may help (an endpoint is down or too slow, a deadline passed); the
    attempt is still to be made. Else it is spent, with this as its reason: the budget is used up,
    the program failed, nothing is left to try.
    """

    boundary = "reviewer"

    def __init__(self, text: str, *, is_retryable: bool, spent: Spent | None = None) -> None:
        super().__init__(text)
        self.is_retryable = is_retryable
        self.spent = spent or Spent()


class Tool(msgspec.Struct, frozen=True):
    """A tool as models are told of it."""

    name: str
    description: str
    parameters: dict[str, Any]
    """JSON schema of its arguments, an object."""


class Toolbox(Protocol):
    """Read-only tools over the traces of a request; `toolbox.py` has them."""

    @property
    def tools(self) -> tuple[Tool, ...]:
        """Every tool there is."""
        ...

    def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        """The answer as text, errors included: what is wrong with a call is told to who made it.
        Long answers end with a cursor for the next page."""
        ...


class Reviewer(Protocol):
    """See the module's docstring."""

    @property
    def name(self) -> str:
        """For lineages and tables."""
        ...

    async def review(self, request: ReviewRequest, toolbox: Toolbox) -> Revision:
        """Propose a revision; ReviewError where there is none. Cancelling it ends what it began:
        calls, programs, processes."""
        ...
