"""A small structure loop in a process of its own, which may be told where to die.

    python -m support.evolve_driver FOLDER [review | before:TEXT | after:TEXT]

`review`: by SIGKILL in the middle of the second question; `before:` and `after:` the first record
that holds TEXT is written. `AUTOMEM_CRASH` (automem.crash) kills it inside an episode."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec
from support.evolve_parts import ListReviewer, make_evolution
from support.loop_parts import small_template

from automem.loops.gate import Rule
from automem.loops.records import Records
from automem.loops.reviewers.interface import ReviewRequest, Revision, Toolbox

ANSWERS = {
    "revision 1, attempt 1": 20,
    "revision 1, attempt 2": 6,
    "revision 1, continuation 1": 9,
    "revision 2, attempt 1": 3,
    "revision 2, attempt 2": 12,
    "revision 2, continuation 1": 15,
}
RULE = Rule(confirmations=4, alpha=0.99, pairs=6, race=(3,), race_level=0.99, flips=999)
"""Accepts almost anything that was not worse: acceptance is what is to be killed."""


def die() -> None:
    """As a power switch would."""
    os.kill(os.getpid(), signal.SIGKILL)


class MortalReviewer(ListReviewer):
    """Dies while it thinks about its second question."""

    async def review(self, request: ReviewRequest, toolbox: Toolbox) -> Revision:
        if self.asked:
            (request.workspace / "thoughts.txt").write_text("so far")
            die()
        return await super().review(request, toolbox)


def arm(when: str, text: str) -> None:
    """Die around the record that holds this text."""
    write = Records._write

    def mortal(self: Records, descriptor: int, record: Any) -> None:
        is_it = text in msgspec.json.encode(record).decode()
        if is_it and when == "before":
            die()
        write(self, descriptor, record)
        if is_it:
            die()

    Records._write = mortal  # type: ignore[method-assign]


def run(folder: Path, death: str = "") -> None:
    """The loop, with the death that it was told."""
    when, _, text = death.partition(":")
    if text:
        arm(when, text)
    reviewer = MortalReviewer(ANSWERS) if death == "review" else ListReviewer(ANSWERS)
    loop = make_evolution(
        folder, reviewer=reviewer, template=small_template(), rule=RULE, revisions=2, study=1
    )
    loop.run()


if __name__ == "__main__":
    run(Path(sys.argv[1]), *sys.argv[2:])
