"""What the kinds of the catalogue look at, and how they say it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

import msgspec

from automem.agent.schema import FileSchema, ScaffoldSchema
from automem.loops.reviewers.edits import Edit
from automem.loops.reviewers.findings import FileFindings, Findings, find
from automem.loops.reviewers.stale import StaleRule, stale_rules
from automem.trace.summary import finished_episodes


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """What kinds look at."""

    schema: ScaffoldSchema
    findings: Findings
    stale: Mapping[str, Sequence[StaleRule]] = {}
    """File to rules read off its traces (`stale.py`)."""

    @property
    def used(self) -> list[tuple[FileSchema, FileFindings, float]]:
        """Files that were written to, most written first: schema, findings, share of the lines."""
        files = {file.name: file for file in self.schema.files}
        found = [f for f in self.findings.files if f.written and f.name in files]
        total = sum(f.written for f in found) or 1
        return [
            (files[f.name], f, f.written / total)
            for f in sorted(found, key=lambda f: (-f.written, f.name))
        ]

    @property
    def unseen(self) -> float:
        """Share of steps with something in memory in which the acting role saw none of it."""
        return self.findings.unconsulted or 0.0


Kind: TypeAlias = Callable[[Case], Iterator[Edit]]
"""Offers edits of one kind."""


def case_of(schema: ScaffoldSchema, runs: Sequence[Path]) -> Case:
    """What the episodes of some runs say about a scaffold; UsageError where none is finished."""
    findings, stale = _read(tuple(runs), sum(len(finished_episodes(run)) for run in runs))
    return Case(schema=schema, findings=findings, stale=stale)


@lru_cache(maxsize=8)
def _read(runs: tuple[Path, ...], episodes: int) -> tuple[Findings, dict[str, Sequence[StaleRule]]]:
    """Attempts at one revision ask about the same episodes, so it is computed once for so many."""
    findings = find(runs)
    names = [file.name for file in findings.files if file.written]
    return findings, {name: stale_rules(runs, name) for name in names}


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def number(value: float | None) -> str:
    return "few" if value is None else f"{value:g}"


def listed(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
