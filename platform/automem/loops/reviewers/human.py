"""The `human` reviewer: a person edits the scaffold in a folder and says when it is done.

The folder has the instructions, the scaffold to edit and the place of the report. An empty file
`done` in it hands the revision in; `skip` gives the attempt up. What breaks a constraint is written
to PROBLEMS.md, `done` is taken away, and the wait goes on. Promise: edits survive a restart of the
loop. Not covered: reminding anybody.
"""

import asyncio
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from automem.agent.scaffold_files import diff_files
from automem.errors import ScaffoldError, UsageError
from automem.loops.reviewers.constraints import check_revision, explain
from automem.loops.reviewers.folder import Output, prepare, read_output
from automem.loops.reviewers.interface import ReviewError, ReviewRequest, Revision, Spent, Toolbox
from automem.loops.reviewers.ranges import check_least
from automem.report import write_report

DONE, SKIP, PROBLEMS = "done", "skip", "PROBLEMS.md"
_LEAST_POLL_S = 0.01
"""Looking more often would only keep a core busy."""


class HumanReviewer:
    """See the module's docstring."""

    name = "human"

    def __init__(
        self,
        deadline_s: float | None = None,
        poll_s: float = 1.0,
        open_with: Sequence[str] = (),
        say: Callable[[str], None] = print,
    ) -> None:
        """`deadline_s`: None waits for ever. `open_with`: words of a program that is started with
        the folder and the report as its last arguments, such as [code] or [xdg-open]."""
        if isinstance(open_with, str):
            raise UsageError(f"reviewer.open_with must be a list of words, got {open_with!r}")
        if open_with and shutil.which(open_with[0]) is None:
            raise UsageError(f"reviewer.open_with: there is no program {open_with[0]!r}")
        check_least("deadline_s", deadline_s, _LEAST_POLL_S, may_be_null=True)
        check_least("poll_s", poll_s, _LEAST_POLL_S)
        self._deadline_s = deadline_s
        self._poll_s = poll_s
        self._open_with = list(open_with)
        self._say = say

    async def review(self, request: ReviewRequest, toolbox: Toolbox) -> Revision:
        """See `Reviewer`."""
        began = time.monotonic()
        place = request.workspace / "human"
        given, output = await asyncio.to_thread(prepare, request, place, False)
        report = await asyncio.to_thread(_report, request)
        self._say(_invitation(given, output, report))
        if self._open_with:
            self._open([*self._open_with, str(output / "scaffold"), str(report)])
        try:
            async with asyncio.timeout(self._deadline_s):
                left = await self._wait(request, output)
        except TimeoutError:
            left = None
        spent = Spent(seconds=time.monotonic() - began)
        if left is None:
            why = "skipped" if (output / SKIP).exists() else f"nothing in {self._deadline_s:g} s"
            raise ReviewError(f"{self.name}: {why}", is_retryable=False, spent=spent)
        return Revision(
            files=left.files,
            reasons=left.reasons,
            knowledge=left.knowledge,
            reviewer=self.name,
            spent=spent,
        )

    def _open(self, words: list[str]) -> None:
        try:
            subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            self._say(f"{words[0]} could not be started: {error.strerror}")

    async def _wait(self, request: ReviewRequest, output: Path) -> Output | None:
        """The revision; None where it is given up."""
        while True:
            if (output / SKIP).exists():
                return None
            if (output / DONE).exists():
                left, wrong = await asyncio.to_thread(_judged, request, output)
                if left is not None:
                    return left
                (output / PROBLEMS).write_text(wrong + "\n", encoding="utf-8")
                (output / DONE).unlink()
                self._say(f"not yet:\n{wrong}\n({output / PROBLEMS}; then `done` again)")
            await asyncio.sleep(self._poll_s)


def _judged(request: ReviewRequest, output: Path) -> tuple[Output | None, str]:
    try:
        left = read_output(output)
    except ScaffoldError as error:
        return None, str(error)
    if not diff_files(request.files, left.files):
        return None, f"nothing has changed in {output / 'scaffold'}"
    wrong = check_revision(request.files, left.files, request.rules)
    return (None, explain(wrong)) if wrong else (left, "")


def _report(request: ReviewRequest) -> Path:
    """The report of the episodes; written where the run has none."""
    path = request.runs[0] / "report.html"
    if path.exists():
        return path
    return write_report(list(request.runs), out=request.workspace / "report.html")


def _invitation(given: Path, output: Path, report: Path) -> str:
    return (
        f"Your review, please.\n"
        f"  read    {given / 'INSTRUCTIONS.md'}\n"
        f"          {report}\n"
        f"  edit    {output / 'scaffold'}\n"
        f"  say why {output / 'reasons.md'} (a title on the first line)\n"
        f"  then    touch {output / DONE}    (or {output / SKIP} to give it up)"
    )
