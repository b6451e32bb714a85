"""What a selector says: of every turn of the memory role, whether it is to be learned, and why."""

import re
from enum import StrEnum

import msgspec

from automem.memory.ops import OPS, READING


class Kind(StrEnum):
    """What a turn of the memory role does. Balance and controls count by these."""

    WRITE = "write"
    """LOG: changes memory (it may look first)."""
    LOG_READ = "log_read"
    """LOG: only looks something up."""
    LOG_NOTHING = "log_nothing"
    """LOG: writes nothing, at once."""
    LOG_END = "log_end"
    """LOG: ends it after earlier operations."""
    CONSULT = "consult"
    """PLAN: looks something up."""
    PLAN_NOTHING = "plan_nothing"
    """PLAN: hands over at once."""
    PLAN_END = "plan_end"
    """PLAN: hands over after having looked something up."""


def kind_of(routine: str, ops: tuple[str, ...], has_asked: bool) -> Kind:
    """The kind of a turn with these operations; `has_asked`: an earlier turn of its routine had
    operations."""
    if routine == "log":
        if any(op not in READING for op in ops):
            return Kind.WRITE
        if ops:
            return Kind.LOG_READ
        return Kind.LOG_END if has_asked else Kind.LOG_NOTHING
    if ops:
        return Kind.CONSULT
    return Kind.PLAN_END if has_asked else Kind.PLAN_NOTHING


class TurnKey(msgspec.Struct, frozen=True):
    """Names one turn among all runs."""

    run: str
    """The run's folder."""
    episode: str
    step: int
    turn: int


class Verdict(msgspec.Struct, frozen=True):
    """A selector's word on one turn."""

    is_good: bool
    reason: str
    """A short class of reasons, the same for many turns: reports count them."""
    detail: str = ""
    """What of this very turn says so."""
    value: float = 1.0
    """What it was worth, by the selector's own measure; orders equals."""


class Judged(msgspec.Struct, frozen=True):
    """A turn with its verdict, as it is written to disk."""

    key: TurnKey
    world: str
    seed: int
    kind: Kind
    tokens: int
    """Generated tokens of the turn."""
    form: str
    """Its near-duplicate cluster: see `form_of`."""
    verdict: Verdict
    is_selected: bool = False
    """Good, and not thinned out."""
    weight: float = 0.0
    """Above 0 where selected; means 1 over the selection."""


_TAG = re.compile(r"<\|[A-Z]+\|>")
_TOKEN = re.compile(r"<\|[A-Z]+\|>|[\w./-]+|\S")
_FILE = re.compile(r"[\w/-]+\.\w+")
_LONGEST_FORM = 24
"""Tokens of a form: longer texts that begin alike count as alike."""


def form_of(text: str) -> str:
    """A text with every number as `#` and every other word as `w`; tags, operations and files stay.

    Runs of words and numbers count as one, so that texts of one pattern are one cluster."""
    parts: list[str] = []
    for token in _TOKEN.findall(text):
        if _TAG.fullmatch(token) or token in OPS or _FILE.fullmatch(token):
            part = token
        elif any(c.isdigit() for c in token):
            part = "#"
        elif token[0].isalpha() or token[0] == "_":
            part = "w"
        else:
            part = token
        if not (part in "#w" and parts and parts[-1] == part):
            parts.append(part)
        if len(parts) >= _LONGEST_FORM:
            break
    return " ".join(parts)
