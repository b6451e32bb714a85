"""A question to a reviewer, with real traces behind it."""

from pathlib import Path
from typing import Any

from support.traces import Habits, play, write_run

from automem.agent.scaffold_files import read_files
from automem.config import scaffold_path
from automem.loops.gate import Comparison, Verdict
from automem.loops.lineage import Grown, Judged, Measured, Node
from automem.loops.reviewers.interface import Failed, ReviewRequest
from automem.trace.statistics import estimate

START = read_files(scaffold_path("embedded"))


def played(folder: Path, episodes: int = 4, **habits: float) -> Path:
    """A run of sloppy players: they repeat what they wrote and search for what is not there."""
    sloppy = Habits(**{"writes": 0.9, "searches": 0.5, "repeats": 0.4, **habits})
    return write_run(folder, [play(seed, habits=sloppy) for seed in range(episodes)])


def request(folder: Path, run: Path, **changes: Any) -> ReviewRequest:
    """Of the shipped starting scaffold."""
    given: dict[str, Any] = {
        "parent": "n0",
        "files": START,
        "folder": scaffold_path("embedded"),
        "runs": (run,),
        "workspace": folder / "workspace",
        **changes,
    }
    given["workspace"].mkdir(parents=True, exist_ok=True)
    return ReviewRequest(**given)


def node(name: str, reasons: str, *, gain: float | None = None, **more: Any) -> Node:
    """A node of the lineage: judged where it has a gain (accepted where that is over 0.1)."""
    grown = Grown(
        parent=more.pop("parent", "n0"),
        slot=name,
        content=more.pop("content", name),
        version=f"embedded@{name}",
        reasons=reasons,
        reviewer="heuristic",
        **more,
    )
    if gain is None:
        return Node(name, grown)
    verdict = Verdict.ACCEPTED if gain > 0.1 else Verdict.ELIMINATED
    numbers = Comparison(verdict=verdict, difference=estimate([gain, gain]))
    return Node(
        name, grown, (Measured(label="race 8", comparison=numbers),), Judged(verdict, "tried")
    )


def failed(which: Node, files: dict[str, str], *runs: Path) -> Failed:
    return Failed(node=which, files=files, runs=runs)
