"""What a structure loop came to: its nodes with numbers and reasons, and what it could have seen.

Promise: written whole (`results.json`), from the lineage alone, so it can be written again. A loop
that accepted nothing says how large a gain it would have accepted with 80 % chance: from the spread
of the paired differences that it saw, at the gate's own threshold.
"""

import json
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any

import msgspec

from automem.errors import UsageError
from automem.loops.evolve_review import CONFIRM
from automem.loops.gate import Rule
from automem.loops.lineage import Lineage, Node
from automem.loops.reviewers.plain_text import printable
from automem.trace.statistics import Estimate

RESULTS = "results.json"
SCHEMA = 1
POWER = 0.80


class NodeResult(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the table."""

    id: str
    parent: str
    slot: str
    version: str
    title: str
    verdict: str
    """`start`, `open`, or what ended its trial."""
    reason: str
    continues: str = ""
    error: str = ""
    race: Estimate | None = None
    """Paired difference to the parent, after its last look."""
    confirm: Estimate | None = None
    p: float | None = None
    knowledge: tuple[str, ...] = ()
    spent: dict[str, float] = {}


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """`results.json`."""

    schema: int = SCHEMA
    created: float
    seconds: float
    """Of the call that ended the loop; calls before it left out."""
    world: str
    model: str
    reviewer: str
    rule: Rule
    confirmations_used: int
    champion: str
    detectable_gain: float | None
    """Accepted with 80 % chance, given the spread of the differences that were seen."""
    nodes: list[NodeResult]
    lapsed: list[str]
    """Slots for which the reviewer had nothing."""


def results_of(lineage: Lineage, model: str, seconds: float) -> Results:
    """UsageError where nothing was declared yet."""
    declared = lineage.declared()
    if declared is None:
        raise UsageError("this lineage has not begun")
    nodes = lineage.nodes()
    used = sum(look.label == CONFIRM for node in nodes for look in node.measured)
    return Results(
        created=time.time(),
        seconds=seconds,
        world=declared.world,
        model=model,
        reviewer=declared.reviewer,
        rule=declared.rule,
        confirmations_used=used,
        champion=lineage.champion().id,
        detectable_gain=detectable_gain(declared.rule, nodes),
        nodes=[_result(node) for node in nodes],
        lapsed=[f"{lapsed.slot}: {lapsed.reason}" for lapsed in lineage.lapses()],
    )


def _result(node: Node) -> NodeResult:
    races = [look for look in node.measured if look.label != CONFIRM]
    confirmed = [look for look in node.measured if look.label == CONFIRM]
    grown = node.grown
    return NodeResult(
        id=node.id,
        parent=grown.parent,
        slot=grown.slot,
        version=grown.version,
        title=title_of(node),
        verdict=verdict_of(node),
        reason=node.judged.reason if node.judged else "",
        continues=grown.continues,
        error=grown.error,
        race=races[-1].comparison.difference if races else None,
        confirm=confirmed[-1].comparison.difference if confirmed else None,
        p=confirmed[-1].comparison.p if confirmed else None,
        knowledge=grown.knowledge,
        spent=grown.spent,
    )


def figures(results: Results) -> dict[str, Any]:
    """The nodes as a tracker's summary: each with its gains over its parent."""
    return {
        "champion": results.champion,
        "confirmations": results.confirmations_used,
        "nodes": {
            node.id: {
                "parent": node.parent,
                "verdict": node.verdict,
                **_gain("race", node.race),
                **_gain("confirm", node.confirm),
                "p": node.p,
                "version": node.version,
            }
            for node in results.nodes
        },
    }


def _gain(kind: str, found: Estimate | None) -> dict[str, float | None]:
    low, high = (found.ci95 if found else None) or (None, None)
    return {
        f"{kind}_gain": found.mean if found else None,
        f"{kind}_low95": low,
        f"{kind}_high95": high,
        f"{kind}_n": found.n if found else None,
    }


def title_of(node: Node) -> str:
    """The first line of a revision's reasons."""
    return printable(node.grown.reasons).strip().partition("\n")[0]


def verdict_of(node: Node) -> str:
    """How a node stands, in a word."""
    if node.judged:
        return str(node.judged.verdict)
    return "open" if node.grown.parent else "start"


def detectable_gain(rule: Rule, nodes: Sequence[Node]) -> float | None:
    """The mean gain that a confirmation accepts with 80 % chance: (z of the threshold + z of the
    power) standard errors, from the pooled spread of the paired differences seen so far; None
    before any. The normal approximation of the sign-flip test; `benchmarks/gate_power.py`
    simulates it whole, racing included."""
    squares, freedom = 0.0, 0
    for node in nodes:
        for look in node.measured[-1:]:
            found = [ours - theirs for rows in look.pairs.values() for _, ours, theirs in rows]
            mean = sum(found) / len(found)
            squares += sum((value - mean) ** 2 for value in found)
            freedom += len(found) - 1
    if freedom < 1:
        return None
    normal = NormalDist()
    z = normal.inv_cdf(1 - rule.threshold) + normal.inv_cdf(POWER)
    return max(rule.minimum_gain, z * math.sqrt(squares / freedom / rule.pairs))


def write_results(folder: Path, results: Results) -> None:
    """Whole or not at all."""
    path = folder / RESULTS
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(msgspec.to_builtins(results), indent=1) + "\n")
    os.replace(temporary, path)
