"""Which memories there are, and how a rival of the files is set up. Plain data."""

import msgspec

from automem.agent.patterns import Pattern, PatternError, check_names
from automem.errors import UsageError

AUTOMATIC = ("window", "full", "bm25")
"""Memories that the session itself writes: no LOG is asked of the model, and no consulting."""
RIVALS = (*AUTOMATIC, "summary")
"""What the files are compared with."""
MEMORIES = ("files", "none", "blanked", *RIVALS)
"""What `AgentOptions.memory` may be."""


class RecallOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a rival memory keeps, and how much of it a prompt shows."""

    tokens: int | None = None
    """Most tokens of it in one prompt, the note of what is left out included; None: what the
    scaffold allows one result (`result_tokens`). `full` takes all that the context leaves."""
    entries: int = 10
    """`window`: the newest steps shown; `bm25`: the best matches shown. At most."""
    seen: str = ""
    """A pattern (`automem.agent.patterns`): of the observation only lines that hold it are kept.
    Empty: all of it, in one line, after the action."""
    write: str = ""
    """With `seen`: what is written of such a line, `{name}` being what the pattern found. Empty:
    the line as it is."""
    query: str = ""
    """`bm25`: what is looked for, made of the present step like `write`; empty: what was written of
    it."""

    def __post_init__(self) -> None:
        if self.tokens is not None and self.tokens < 1:
            raise UsageError(f"agent.recall.tokens must be at least 1, got {self.tokens}")
        if self.entries < 1:
            raise UsageError(f"agent.recall.entries must be at least 1, got {self.entries}")
        for name in ("write", "query"):
            if getattr(self, name) and not self.seen:
                raise UsageError(f"agent.recall.{name} needs agent.recall.seen to be made of")
        try:
            if self.seen:
                names = Pattern(self.seen).names
                check_names(self.write, names)
                check_names(self.query, names)
        except PatternError as error:
            raise UsageError(f"agent.recall: {error}") from None
