"""What an automatic log keeps of a step: one line, or none. Pure functions."""

from collections.abc import Sequence

from automem.agent.memories.options import RecallOptions
from automem.agent.patterns import Pattern, fill

JOINT = "; "
"""Between the lines of an observation that is kept as one."""


class EntryWriter:
    """Turns observations into lines, as `RecallOptions` says."""

    def __init__(self, options: RecallOptions) -> None:
        self._pattern = Pattern(options.seen) if options.seen else None
        self._write = options.write

    def of(self, action: str, observation: str) -> list[str]:
        """The lines that a step is kept as; none where the pattern is nowhere in it."""
        if self._pattern is None:
            return [_whole(action, observation)]
        kept = []
        for line in observation.splitlines():
            hits = list(self._pattern.find(line))
            if self._write:
                kept += [fill(self._write, hit) for hit in hits]
            elif hits:
                kept.append(line.strip())
        return kept


def _whole(action: str, observation: str) -> str:
    """Action and observation as one line."""
    parts: Sequence[str] = [line.strip() for line in observation.splitlines()]
    text = JOINT.join(part for part in parts if part)
    said = " ".join(action.split())
    return f"{said}: {text}" if said else text
