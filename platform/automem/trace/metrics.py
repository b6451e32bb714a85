"""The metrics: what each one is, computed over the rows of the tables (`automem.trace.tables`).

Promise: every metric is a ratio of two sums over one episode, named here and nowhere else, so a
question about a number ends in `METRICS`. A run's figure is the mean over episodes (in
`automem.trace.summary`), failed ones included. A ratio over nothing (no search, no search that was
empty) is undefined, not 0, and counts in no mean. `progression` stands apart: every episode has it.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from automem.trace.events import CommitSource, Role

WRITING = frozenset({"APPEND", "WRITE", "UPSERT", "REPLACE"})
"""Operations that put text into memory."""


class Metric(NamedTuple):
    """One metric: `sum(part) / sum(whole)` over an episode."""

    name: str
    title: str
    """For tables and reports."""
    part: str
    whole: str
    unit: str
    """`share` (0 to 1), `tokens`, `calls`, `operations` or `bytes`."""
    meaning: str


METRICS = (
    Metric(
        "unproductive_actions", "Unproductive actions", "unproductive", "actions", "share",
        "Executed actions after which the observation was the same as before, or invalid ones.",
    ),
    Metric(
        "invalid_actions", "Invalid actions", "invalid", "actions", "share",
        "Executed actions that the world refused, doing its fallback instead.",
    ),
    Metric(
        "fallbacks", "Fallback actions", "fallback", "commits", "share",
        "Commits that the model would not make: the session took the world's fallback.",
    ),
    Metric(
        "forced_commits", "Forced commits", "forced", "commits", "share",
        "Commits made only after nothing else was accepted any more.",
    ),
    Metric(
        "malformed_turns", "Malformed turns", "malformed_turns", "turns", "share",
        "Model calls with at least one piece that looks like an operation and is none.",
    ),
    Metric(
        "redundant_writes", "Redundant writes", "redundant_lines", "written_lines", "share",
        "Written lines that already stood in the file, or writes that left memory as it was.",
    ),
    Metric(
        "empty_searches", "Empty searches", "empty_searches", "searches", "share",
        "SEARCH operations that found nothing.",
    ),
    Metric(
        "failed_ops", "Refused operations", "failed_ops", "ops", "share",
        "Memory operations answered with an error.",
    ),
    Metric(
        "context_tokens_per_step", "Context per step", "context_tokens", "played", "tokens",
        "Longest call of a step, prompt and completion: what the context window must hold.",
    ),
    Metric(
        "tokens_in_per_step", "Prompt tokens per step", "tokens_in", "played", "tokens",
        "Prompt tokens over all calls of a step.",
    ),
    Metric(
        "tokens_out_per_step", "Generated tokens per step", "tokens_out", "played", "tokens",
        "Generated tokens over all calls of a step.",
    ),
    Metric(
        "cached_prompt_memory", "Memory prompts from cache", "cached_memory", "prompt_memory",
        "share", "Prompt tokens of the memory role that came from the engine's cache.",
    ),
    Metric(
        "cached_prompt_gameplay", "Gameplay prompts from cache", "cached_gameplay",
        "prompt_gameplay", "share",
        "Prompt tokens of the gameplay role that came from the engine's cache.",
    ),
    Metric(
        "turns_per_step", "Model calls per step", "turns", "played", "calls",
        "Model calls of a step, both routines.",
    ),
    Metric(
        "ops_per_step", "Memory operations per step", "ops", "played", "operations",
        "Memory operations of a step, both routines.",
    ),
    Metric(
        "time_model", "Time in model calls", "timed_model_s", "timed_s", "share",
        "Share of wall time that waits for the engine (queueing there included).",
    ),
    Metric(
        "time_world", "Time in the world", "timed_world_s", "timed_s", "share",
        "Share of wall time inside the environment.",
    ),
    Metric(
        "time_platform", "Time in the platform", "timed_platform_s", "timed_s", "share",
        "The rest of the wall time: AutoMem's own work, and waiting for other episodes' turns.",
    ),
)  # fmt: skip
"""In the order in which reports show them."""

BY_NAME = {metric.name: metric for metric in METRICS}


class Tally:
    """The sums of one episode, from its rows as they come."""

    def __init__(self) -> None:
        self.sums: Counter[str] = Counter()

    def add(self, table: str, row: Mapping[str, Any]) -> None:
        """Take one row of `steps`, `turns` or `ops` into account."""
        if table == "steps":
            self._add_step(row)
        elif table == "turns":
            self._add_turn(row)
        elif table == "ops" and row["turn"] >= 0:
            self._add_op(row)

    def values(self) -> dict[str, float]:
        """Every metric that is defined for the episode."""
        sums = self.sums
        return {m.name: sums[m.part] / sums[m.whole] for m in METRICS if sums[m.whole] > 0}

    def _add_step(self, row: Mapping[str, Any]) -> None:
        sums = self.sums
        sums["played"] += 1
        sums["context_tokens"] += row["context_tokens"]
        if row["action"] is not None:
            sums["commits"] += 1
            sums["fallback"] += row["source"] == CommitSource.FALLBACK
            sums["forced"] += row["source"] == CommitSource.FORCED
        if row["unproductive"] is not None:  # the world has answered: the action was executed
            sums["actions"] += 1
            sums["unproductive"] += row["unproductive"]
            sums["invalid"] += row["invalid_action"]
        if row["platform_s"] is not None:
            parts = {name: row[f"{name}_s"] for name in ("model", "world", "platform")}
            for name, seconds in parts.items():
                sums[f"timed_{name}_s"] += seconds
            sums["timed_s"] += sum(parts.values())

    def _add_turn(self, row: Mapping[str, Any]) -> None:
        sums = self.sums
        sums["turns"] += 1
        sums["malformed_turns"] += bool(row["malformed"])
        sums["tokens_in"] += row["tokens_in"]
        sums["tokens_out"] += row["tokens_out"]
        role = "memory" if row["role"] == Role.MEMORY else "gameplay"
        sums[f"prompt_{role}"] += row["tokens_in"]
        sums[f"cached_{role}"] += row["tokens_cached"]

    def _add_op(self, row: Mapping[str, Any]) -> None:
        sums = self.sums
        sums["ops"] += 1
        sums["failed_ops"] += row["status"] == "error"
        sums["written_lines"] += row["written_lines"] or 0
        sums["redundant_lines"] += row["redundant_lines"] or 0
        if row["op"] == "SEARCH" and row["status"] != "error":
            sums["searches"] += 1
            sums["empty_searches"] += row["status"] == "empty"
