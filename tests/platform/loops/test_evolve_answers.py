"""What a structure loop keeps of answers that are too long, or hold what no text should."""

from pathlib import Path

import msgspec
from support.evolve_parts import (
    AGAIN,
    FIRST,
    SECOND,
    START,
    ListReviewer,
    make_evolution,
    node_in,
    showing,
)
from support.reviews import node

from automem.loops.evolve_results import title_of
from automem.loops.evolve_tree import line_of
from automem.loops.reviewers.brief import told_failure
from automem.loops.reviewers.interface import ReviewRequest, Revision, Toolbox

LONG_TEMPLATE = {**showing(10), "log.j2": START["log.j2"] + "é" * 40_000}
LONG_SCHEMA = {**showing(10), "scaffold.yaml": showing(10)["scaffold.yaml"] + "# x\n" * 40_000}
"""More bytes than are read; the template has fewer characters than that."""


def test_answers_that_are_too_long_are_nodes_and_a_continuation_goes_on_from_them(
    tmp_path: Path,
) -> None:
    third = "revision 1, attempt 3"
    answers = {FIRST: LONG_SCHEMA, SECOND: LONG_TEMPLATE, third: LONG_SCHEMA, AGAIN: 10}
    reviewer = ListReviewer(answers)
    loop = make_evolution(tmp_path, reviewer=reviewer, attempts=3)
    assert loop.run().grown.slot == AGAIN
    for slot in (FIRST, SECOND, third):
        assert "bytes; shorten it" in node_in(loop, slot).grown.error
    shown = reviewer.asked[-1].failed
    assert shown is not None
    assert (shown.files, shown.unreadable) == ({}, "there is no scaffold.yaml")
    assert "Its files are not shown: there is no scaffold.yaml" in told_failure(shown)


def test_a_template_that_is_too_long_in_bytes_is_left_out_of_what_a_continuation_is_shown(
    tmp_path: Path,
) -> None:
    reviewer = ListReviewer({FIRST: LONG_TEMPLATE, SECOND: 20, AGAIN: 10})
    make_evolution(tmp_path, reviewer=reviewer).run()
    shown = reviewer.asked[-1].failed
    assert shown is not None
    assert set(shown.files) == set(START) - {"log.j2"}


def test_a_scaffold_yaml_of_the_length_that_is_allowed_is_kept(tmp_path: Path) -> None:
    files = showing(10)
    files["scaffold.yaml"] += "# x\n" * 20_000
    loop = make_evolution(tmp_path, {FIRST: files, SECOND: 20})
    assert loop.run().grown.slot == FIRST
    assert loop.lineage.files(loop.lineage.champion()) == files


class Ill(ListReviewer):
    """Its words hold what no file and no terminal should have."""

    async def review(self, request: ReviewRequest, toolbox: Toolbox) -> Revision:
        revision = await super().review(request, toolbox)
        return msgspec.structs.replace(
            revision,
            reasons="\x1b]0;owned\x07show ten\ud83d\r\nbe\x9bcause",
            knowledge=("a deck\x1b[2J has \ud83dpairs",),
        )


def test_what_a_reviewer_says_is_kept_without_surrogates_and_control_characters(
    tmp_path: Path,
) -> None:
    said: list[str] = []
    loop = make_evolution(tmp_path, reviewer=Ill({FIRST: 10, SECOND: 20}), say=said.append)
    loop.run()
    grown = node_in(loop, FIRST).grown
    assert grown.reasons == "]0;ownedshow ten?\nbecause"
    assert grown.knowledge == ("a deck[2J has ?pairs",)
    assert "  n1: ]0;ownedshow ten?" in said


def test_the_title_of_a_node_acts_on_no_terminal() -> None:
    ill = node("n1", "\x1b[2Jshow\x07 ten\nbecause", error="")
    assert title_of(ill) == "[2Jshow ten"
    assert "\x1b" not in line_of(node("n1", "x", error="log.j2: \x1b[2J"))
