"""What a structure loop shows its reviewer, and what it keeps of the answer.

Promise: of a revision only plain texts of a scaffold's names and sizes are ever written to disk,
whoever wrote it and whatever the constraints said. Episodes on `confirm` seeds are shown to nobody.
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from automem.agent.scaffold import MAX_SOURCE_BYTES
from automem.agent.scaffold_files import NAMES, SCHEMA, files_digest
from automem.agent.schema_file import MAX_BYTES
from automem.errors import ScaffoldError
from automem.loops.lineage import Lineage, Node
from automem.loops.reviewers.interface import Failed, Spent
from automem.loops.reviewers.plain_text import printable
from automem.loops.stage import Played
from automem.rollout.run_dir import RUN_FILE

CONFIRM = "confirm"
"""Folder, and label in the lineage, of a confirmation."""
SMOKE = "smoke"
"""Folder of a contender's first episodes."""
MAX_REASON = 2_000
"""Characters of an error that a lineage keeps."""


def runs_of(folder: Path, node: Node) -> tuple[Path, ...]:
    """What was played with a node below the loop's folder before it failed: its race, or its first
    episodes where it never raced."""
    found = sorted(folder.glob(f"revision-*/*/**/{node.id}/{RUN_FILE}"))
    runs = [path.parent for path in found if path.parents[1].name != CONFIRM]
    raced = [run for run in runs if run.parent.name != SMOKE]
    return tuple(raced or runs)


def kept(files: Mapping[str, str]) -> dict[str, str]:
    """The files of a revision that may lie in the lineage."""
    return {name: text for name, text in files.items() if _can_be_kept(name, text)}


def _can_be_kept(name: str, text: object) -> bool:
    if name not in NAMES or not isinstance(text, str):
        return False
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return False
    return size <= (MAX_BYTES if name == SCHEMA else MAX_SOURCE_BYTES)


def shown_failure(folder: Path, lineage: Lineage, node: Node) -> Failed:
    """What a continuation is shown of a failed attempt. Files that cannot be read are left out: an
    answer may have been too long to be kept whole."""
    runs = runs_of(folder, node)
    try:
        return Failed(node=node, files=lineage.files(node), runs=runs)
    except ScaffoldError as error:
        return Failed(node=node, files={}, unreadable=str(error), runs=runs)


def repetition(lineage: Lineage, files: Mapping[str, str], champion: Node) -> str:
    """Why a revision need not be played: this champion was compared with the same before."""
    content = files_digest(files)
    for node in lineage.nodes():
        if node.grown.content == content and champion.id in (node.id, node.grown.parent):
            return f"the same scaffold as {node.id}"
    return ""


def failures_of(played: Played) -> str:
    """What broke, the player's own failures only."""
    told = [
        f"{failure['boundary']}: {failure['error']}"
        for failure in played.summary["failures"]
        if not failure["is_infrastructure"]
    ]
    return printable("; ".join(dict.fromkeys(told)))[:MAX_REASON] or "no reason was recorded"


def cost(spent: Spent) -> dict[str, float]:
    """What an answer cost, as the lineage keeps it."""
    return {name: float(value) for name, value in msgspec.structs.asdict(spent).items() if value}
