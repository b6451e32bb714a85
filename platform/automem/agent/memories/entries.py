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
        self._query = options.query

    def of(self, action: str, observation: str) -> list[str]:
        """The lines that a step is kept as; none where the pattern is nowhere in it."""
        return self._made(self._write, action, observation)

    def query(self, action: str, observation: str) -> str:
        """What is looked for where this is the present step."""
        lines = self._made(self._query or self._write, action, observation)
        return " ".join(lines)

    def _made(self, form: str, action: str, observation: str) -> list[str]:
        if self._pattern is None:
            return [_whole(action, observation)]
        made = []
        for line in observation.splitlines():
            hits = list(self._pattern.find(line))
            if form:
                made += [fill(form, hit) for hit in hits]
            elif hits:
                made.append(line.strip())
        return made


def _whole(action: str, observation: str) -> str:
    """Action and observation as one line."""
    parts: Sequence[str] = [line.strip() for line in observation.splitlines()]
    text = JOINT.join(part for part in parts if part)
    said = " ".join(action.split())
    return f"{said}: {text}" if said else text
