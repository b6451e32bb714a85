"""A file with knowledge of the task that every arm can be given alike: `agent.knowledge=FILE`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from automem.errors import UsageError

MOST_BYTES = 64_000
"""Of a knowledge file: it stands in every prompt."""


def with_knowledge(agent: Mapping[str, Any]) -> dict[str, Any]:
    """The agent's options with the file that `knowledge` names replaced by its text."""
    path = agent.get("knowledge")
    return {**agent, "knowledge": read_knowledge(Path(path))} if path else dict(agent)


def read_knowledge(path: Path) -> str:
    """The text of a knowledge file; UsageError where it cannot be used."""
    try:
        data = path.expanduser().read_bytes()
    except OSError as error:
        raise UsageError(f"agent.knowledge: {path} cannot be read: {error.strerror}") from None
    if len(data) > MOST_BYTES:
        raise UsageError(
            f"agent.knowledge: {path} has {len(data)} bytes; it stands in every prompt, so "
            f"{MOST_BYTES} is the most"
        )
    try:
        return data.decode().strip()
    except UnicodeDecodeError:
        raise UsageError(f"agent.knowledge: {path} is no UTF-8 text") from None
