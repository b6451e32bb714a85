"""Read-only tools over traces, as reviewers call them: names, arguments as JSON, answers as text.

Promise: a call changes nothing and reads nothing but the tables of the runs it was made for; every
answer is a page or less, whatever the length of an episode; what is wrong with a call is the
answer, in words that the caller can act on. A query that takes longer than its deadline ends.
Not covered: what the texts of worlds and models say; they are shown as they are.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from automem.errors import AutoMemError
from automem.loops.reviewers import asking, reading
from automem.loops.reviewers.episodes import Episodes
from automem.loops.reviewers.interface import Tool
from automem.suggest import no_such

Arguments = TypeVar("Arguments", bound=msgspec.Struct)


class EpisodeArguments(msgspec.Struct, forbid_unknown_fields=True):
    cursor: str = ""


class StepArguments(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    episode: str
    first: int = 0
    last: int = 1_000_000_000
    prompts: bool = False
    cursor: str = ""


class MemoryArguments(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    episode: str
    step: int
    since: int | None = None
    file: str = ""
    cursor: str = ""


class SearchArguments(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    text: str
    where: str = ""
    episode: str = ""
    cursor: str = ""


class SqlArguments(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    query: str
    cursor: str = ""


class MetricArguments(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    episode: str = ""
    cursor: str = ""


_CURSOR = {"type": "string", "description": "from the end of the last page, to read on"}
_EPISODE = {"type": "string", "description": "an id, as list_episodes gives it"}


def _tool(name: str, description: str, required: Sequence[str] = (), **properties: Any) -> Tool:
    parameters = {
        "type": "object",
        "properties": {**properties, "cursor": _CURSOR},
        "required": list(required),
        "additionalProperties": False,
    }
    return Tool(name, description, parameters)


TOOLS = (
    _tool(
        "list_episodes",
        "Every complete episode, worst progression first: id, world, seed, progression, steps, why "
        "it ended, size of memory at the end.",
    ),
    _tool(
        "read_steps",
        "Steps of an episode in full: observation, what the model said, each memory operation with "
        "its result, the action and what came of it.",
        ["episode"],
        episode=_EPISODE,
        first={"type": "integer", "description": "first step; 0 is the beginning"},
        last={"type": "integer", "description": "last step; left out: to the end"},
        prompts={"type": "boolean", "description": "with the prompt that opened each routine"},
    ),
    _tool(
        "diff_memory",
        "The memory files as they stood at the end of a step, or (with `since`) what changed in "
        "them between two steps.",
        ["episode", "step"],
        episode=_EPISODE,
        step={"type": "integer"},
        since={"type": "integer", "description": "an earlier step; -1: before the first"},
        file={"type": "string", "description": "only this file"},
    ),
    _tool(
        "search",
        "Where a text occurs (any case), with its surroundings, in the order of play.",
        ["text"],
        text={"type": "string"},
        where={"type": "string", "enum": list(asking.PLACES), "description": "left out: anywhere"},
        episode=_EPISODE,
    ),
    _tool(
        "sql",
        "A DuckDB query over the tables episodes, steps, turns, ops, writes, retrievals, prompts, "
        'progress; "select * from columns" explains every column. Order what you page through.',
        ["query"],
        query={"type": "string", "description": "one reading statement"},
    ),
    _tool(
        "metrics",
        "Every metric of each episode, with its meaning; or of one episode.",
        episode=_EPISODE,
    ),
    _tool(
        "findings",
        "How memory fails over all episodes: redundant writes, lines that never came back, empty "
        "searches, steps that saw no memory, stuck and oscillating stretches, use of each file.",
    ),
)


class TraceToolbox:
    """See the module's docstring and `Toolbox`."""

    def __init__(self, runs: Sequence[Path]) -> None:
        """`runs`: run folders; runs of one name are told apart by path."""
        self._runs = list(runs)
        self._episodes = Episodes(self._runs)

    @property
    def tools(self) -> tuple[Tool, ...]:
        return TOOLS

    def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        try:
            return self._call(name, arguments)
        except msgspec.ValidationError as error:
            return f"error: {name}: {error}; given: {json.dumps(arguments, default=str)[:400]}"
        except AutoMemError as error:
            return f"error: {error}"

    def _call(self, name: str, arguments: Mapping[str, Any]) -> str:
        match name:
            case "list_episodes":
                given = _read(arguments, EpisodeArguments)
                return reading.list_episodes(self._episodes, given.cursor)
            case "read_steps":
                steps = _read(arguments, StepArguments)
                where = self._episodes.find(steps.episode)
                return reading.read_steps(
                    where, steps.first, steps.last, steps.prompts, steps.cursor
                )
            case "diff_memory":
                memory = _read(arguments, MemoryArguments)
                where = self._episodes.find(memory.episode)
                return reading.diff_memory(
                    where, memory.step, memory.since, memory.file, memory.cursor
                )
            case "search":
                wanted = _read(arguments, SearchArguments)
                only = self._episodes.find(wanted.episode) if wanted.episode else None
                return asking.search(self._runs, wanted.text, wanted.where, only, wanted.cursor)
            case "sql":
                asked = _read(arguments, SqlArguments)
                return asking.sql(self._runs, asked.query, asked.cursor)
            case "metrics":
                metric = _read(arguments, MetricArguments)
                only = self._episodes.find(metric.episode) if metric.episode else None
                return asking.metrics(self._runs, only, metric.cursor)
            case "findings":
                return asking.findings(self._runs, _read(arguments, EpisodeArguments).cursor)
        return f"error: {no_such('tool', name, [tool.name for tool in TOOLS])}"


def _read(given: Mapping[str, Any], kind: type[Arguments]) -> Arguments:
    """Lax about numbers that come as text, and about nulls in the place of what is left out."""
    return msgspec.convert(
        {key: value for key, value in given.items() if value is not None}, kind, strict=False
    )
