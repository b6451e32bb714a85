"""Parts of a structure loop for tests: reviewers that answer from a list, games from a table.

A revision here is the starting scaffold with the last so many lines of its first file shown; the
table says how good each number is, so a test knows beforehand what the gate will say."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from support.loop_parts import small_template

from automem.agent.scaffold_files import read_files
from automem.config import scaffold_path
from automem.loops.evolve import Evolution
from automem.loops.evolve_plan import Plan, Smoke
from automem.loops.evolve_stage import Arena, Entrant
from automem.loops.gate import Rule
from automem.loops.lineage import LINEAGE, Entry, Grown, Node
from automem.loops.records import Records
from automem.loops.reviewers.interface import ReviewRequest, Revision, Toolbox
from automem.loops.stage import Played
from automem.rollout.spec import RolloutSpec

FIRST, SECOND = "revision 1, attempt 1", "revision 1, attempt 2"
AGAIN = "revision 1, continuation 1"


START = read_files(scaffold_path("embedded"))
RULE = Rule(confirmations=4, alpha=0.9, pairs=8, race=(4, 6), flips=999)
"""Lenient: few games tell a good scaffold from a bad one."""
CRASHING = 13
"""Shown lines with which no game of the table's is played to its end."""


def showing(lines: int) -> dict[str, str]:
    """The starting scaffold with the last lines of its first file shown."""
    text = START["scaffold.yaml"]
    revised = text.replace("purpose: card rank}", f"purpose: card rank, show_last: {lines}}}")
    assert revised != text
    return {**START, "scaffold.yaml": revised}


Answer = Mapping[str, str] | Exception


class ListReviewer:
    """Answers by the question's place in the plan; keeps what it was asked."""

    name = "scripted"

    def __init__(self, answers: Mapping[str, Answer | int]) -> None:
        """Slot to files, to a number of shown lines, or to what is raised."""
        self._answers = answers
        self.asked: list[ReviewRequest] = []

    async def review(self, request: ReviewRequest, toolbox: Toolbox) -> Revision:
        self.asked.append(request)
        place = request.workspace.name.replace("-", " ").split()
        slot = f"{place[0]} {place[1]}, {place[2]} {place[3]}"
        answer = self._answers.get(slot, 1 + len(self._answers))
        if isinstance(answer, Exception):
            raise answer
        files = showing(answer) if isinstance(answer, int) else answer
        return Revision(files=files, reasons=f"try {slot}\nbecause", reviewer=self.name)


class TableArena(Arena):
    """Games that are not played: a number of shown lines has its progression."""

    REACHED = {0: 0.3, 10: 0.7, 12: 0.9, 20: 0.1}  # noqa: RUF012 - a table

    def __init__(self, pending: Sequence[str] = ()) -> None:
        super().__init__(small_template(), None, is_shown=False)
        self.pending = list(pending)
        """Folders (their ends) in which an episode stays pending."""
        self.played: list[tuple[str, int, int]] = []
        """Folder, number of seeds, cap on steps."""

    def play(
        self, entrants: Sequence[Entrant], seeds: Sequence[int], title: str, max_steps: int = 0
    ) -> list[Played]:
        return [self._one(entrant, seeds, max_steps) for entrant in entrants]

    def _one(self, entrant: Entrant, seeds: Sequence[int], max_steps: int) -> Played:
        self.played.append((str(entrant.folder), len(seeds), max_steps))
        text = (entrant.scaffold / "scaffold.yaml").read_text()
        found = re.search(r"show_last: (\d+)", text)
        lines = int(found[1]) if found else 0
        crashes = lines == CRASHING
        entrant.folder.mkdir(parents=True, exist_ok=True)
        (entrant.folder / "run.json").write_text("{}")
        waits = any(str(entrant.folder).endswith(end) for end in self.pending)
        mean = 0.0 if crashes else self.REACHED.get(lines, 0.3)
        failure = {"boundary": "scaffold", "error": "log.j2: 13", "is_infrastructure": False}
        summary: dict[str, Any] = {
            "pending": int(waits),
            "failed": len(seeds) if crashes else 0,
            "failures": [failure] if crashes else [],
        }
        reached = {seed: mean + seed % 7 / 100 for seed in seeds[int(waits) :]}
        reason = "engine: the server is away" if waits else ""
        return Played(entrant.folder, reached, summary, reason)


class NoTools:
    """A toolbox for reviewers that use none."""

    tools = ()

    def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        raise AssertionError(f"nobody uses {name}")


def make_evolution(
    folder: Path,
    answers: Mapping[str, Answer | int] | None = None,
    *,
    arena: Arena | None = None,
    reviewer: Any = None,
    template: RolloutSpec | None = None,
    say: Callable[[str], None] = lambda line: None,
    **plan: Any,
) -> Evolution:
    """A loop of one revision with two attempts and a continuation, unless told otherwise."""
    fields = {"rule": RULE, "revisions": 1, "attempts": 2, "at_once": 2, "study": 2, **plan}
    fields.setdefault("smoke", Smoke(episodes=1, steps=3))
    if template is not None:
        arena = Arena(template, None, is_shown=False)
    return Evolution(
        Plan(**fields),
        START,
        folder,
        arena or TableArena(),
        reviewer or ListReviewer(answers or {}),
        lambda runs: NoTools(),
        say,
    )


def timeless(folder: Path) -> list[tuple[str, bytes]]:
    """The lineage without its times; nodes told by slot and content."""
    entries: list[Entry] = Records(folder / LINEAGE, Entry).all()
    return [(entry.node, msgspec.json.encode(entry.what)) for entry in entries]


def slots(folder: Path) -> list[str]:
    """Filled slots, in the order in which they were filled."""
    entries: list[Entry] = Records(folder / LINEAGE, Entry).all()
    return [entry.what.slot for entry in entries if isinstance(entry.what, Grown)]


class Killed(BaseException):
    """The end of the process: nobody catches it."""


def node_in(loop: Evolution, slot: str) -> Node:
    node = loop.lineage.in_slot(slot)
    assert node is not None
    return node


def reason(loop: Evolution, slot: str) -> str:
    judged = node_in(loop, slot).judged
    assert judged is not None
    return judged.reason
