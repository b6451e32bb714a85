"""The reviewer that needs no model: failure statistics in, the most promising edit out.

It computes what goes wrong (`findings.py`), asks the catalogue what could be done about it, and
proposes the most promising edit that is new and breaks no constraint. From the lineage it learns
which kinds have not helped: each failure of a kind makes its other edits less promising, and an
edit that failed elsewhere less so than one that was never tried. A continuation builds on the
failed revision where that did no harm (some edits help only together), else it tries the next one.

`RandomOrder` is its control: the same catalogue, the same constraints and continuations, in random
order and without learning.

Promise: the same request gives the same revision. Not covered: knowledge of any game; reading what
was said.
"""

import asyncio
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

from automem.agent.scaffold_files import files_digest
from automem.errors import UsageError
from automem.loops.lineage import Node
from automem.loops.reviewers.case import case_of
from automem.loops.reviewers.catalogue import offers
from automem.loops.reviewers.constraints import check_revision
from automem.loops.reviewers.edits import Edit, apply
from automem.loops.reviewers.interface import ReviewError, ReviewRequest, Revision, Spent, Toolbox
from automem.loops.reviewers.materials import loaded_schema
from automem.seeds import derive
from automem.trace.summary import finished_episodes

_MARK = "edit: "
"""Begins the lines of a revision's reasons that name its edits."""
_AFTER_FAILURE = 0.4
"""What a kind's promise is worth after one of its edits did not help."""
_AFTER_HARM = 0.15
_AFTER_SUCCESS = 0.8
"""The next edit of a kind that helped has less left to mend."""
_SAME_EDIT = 0.3
"""The same edit, which did not help another scaffold."""
_UNPROVEN = 0.9
"""What was better than its parent and was not accepted may yet be of use."""


class Heuristic:
    """See the module's docstring."""

    name = "heuristic"

    async def review(self, request: ReviewRequest, toolbox: Toolbox) -> Revision:
        """See `Reviewer`. The toolbox is for those who read; this one computes."""
        return await asyncio.to_thread(self._review, request)

    def _review(self, request: ReviewRequest) -> Revision:
        began = time.monotonic()
        base, taken, runs = _base_of(request)
        try:
            case = case_of(loaded_schema(base), runs)
        except UsageError as error:
            raise ReviewError(f"{self.name}: {error}", is_retryable=False) from error
        tried = {n.grown.content for n in request.history if n.grown.parent == request.parent}
        skipped = 0
        for edit in self._ordered(offers(case), request):
            files = apply(edit, base)
            if files_digest(files) in tried or edit.label in taken:
                continue
            if check_revision(request.files, files, request.rules):
                skipped += 1
                continue
            return Revision(
                files=files,
                reasons=_reasons(edit, taken),
                knowledge=edit.knowledge,
                reviewer=self.name,
                spent=Spent(seconds=time.monotonic() - began),
            )
        raise ReviewError(
            f"{self.name}: nothing in the catalogue is left to try ({skipped} edits would break a "
            "constraint)",
            is_retryable=False,
        )

    def _ordered(self, edits: Sequence[Edit], request: ReviewRequest) -> list[Edit]:
        worth = dict(_worth(edits, request.history))
        return sorted(edits, key=lambda edit: (-edit.promise * worth[edit.label], edit.label))


class RandomOrder(Heuristic):
    """See the module's docstring."""

    name = "random_order"

    def _ordered(self, edits: Sequence[Edit], request: ReviewRequest) -> list[Edit]:
        chooser = random.Random(derive(request.seed, "random order", len(request.history)))
        # By kind first, so that a kind with many variants is not tried more often.
        kinds = sorted({edit.kind for edit in edits})
        chooser.shuffle(kinds)
        found = []
        for kind in kinds:
            same = sorted((e for e in edits if e.kind == kind), key=lambda edit: edit.label)
            chooser.shuffle(same)
            found.append(same)
        rounds = zip_longest(*found)
        return [edit for group in rounds for edit in group if edit is not None]


def _base_of(request: ReviewRequest) -> tuple[Mapping[str, str], list[str], Sequence[Path]]:
    """What to edit, the edits that are in it, and the episodes to learn from."""
    failed = request.failed
    if failed is None or not failed.files or not _is_harmless(failed.node):
        return request.files, [], request.runs
    runs = failed.runs if any(map(finished_episodes, failed.runs)) else request.runs
    return failed.files, labels_of(failed.node), runs


def _is_harmless(node: Node) -> bool:
    return bool(not node.grown.error and node.measured and not _has_harmed(node))


def _has_harmed(node: Node) -> bool:
    """Worse than its parent, by more than chance: the whole interval lies below 0."""
    if not node.measured:
        return False
    interval = node.measured[-1].comparison.difference.ci95
    return interval is not None and interval[1] < 0


def _worth(edits: Sequence[Edit], history: Sequence[Node]) -> Iterator[tuple[str, float]]:
    for edit in edits:
        worth = 1.0
        for node in history:
            for label in labels_of(node):
                if label == edit.label and _has_failed(node):
                    worth *= _UNPROVEN if _is_unproven(node) else _SAME_EDIT
                elif label.partition(" ")[0] == edit.kind:
                    worth *= _lesson(node)
        yield edit.label, worth


def _has_failed(node: Node) -> bool:
    return bool(node.grown.error) or (node.judged is not None and not node.is_accepted)


def _is_unproven(node: Node) -> bool:
    return not node.grown.error and node.gain is not None and node.gain > 0


def _lesson(node: Node) -> float:
    """What a node's fate says of other edits of its kinds."""
    if node.is_accepted:
        return _AFTER_SUCCESS
    if _has_failed(node) and _is_unproven(node):
        return _UNPROVEN
    if _has_harmed(node):
        return _AFTER_HARM
    return _AFTER_FAILURE  # or still open: something else meanwhile


def labels_of(node: Node) -> list[str]:
    """The edits that a revision named in its reasons."""
    lines = node.grown.reasons.splitlines()
    return [line.removeprefix(_MARK) for line in lines if line.startswith(_MARK)]


def _reasons(edit: Edit, taken: Sequence[str]) -> str:
    lines = [
        edit.title,
        "",
        f"{edit.why[0].upper()}{edit.why[1:]}.",
        f"Promise {edit.promise:.3f}.",
    ]
    if taken:
        lines.append("Built on the last attempt, which did no harm: some edits help only together.")
    return "\n".join([*lines, *(f"{_MARK}{label}" for label in (*taken, edit.label))])
