"""The reviewer that needs no model, and its control in random order."""

import asyncio
from pathlib import Path

import pytest
from support.reviews import START, failed, node, played, request

from automem.agent.scaffold_files import files_digest, read_files
from automem.config import scaffold_path
from automem.loops.reviewers.case import Case, case_of
from automem.loops.reviewers.catalogue import KINDS, offers
from automem.loops.reviewers.constraints import check_revision
from automem.loops.reviewers.edits import apply
from automem.loops.reviewers.heuristic import Heuristic, RandomOrder
from automem.loops.reviewers.interface import ReviewError, ReviewRequest, Revision
from automem.loops.reviewers.materials import loaded_schema
from automem.loops.reviewers.toolbox import TraceToolbox

V0 = read_files(scaffold_path("v0"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return played(tmp_path_factory.mktemp("runs") / "study", 4)


@pytest.fixture(scope="module")
def case(run: Path) -> Case:
    return case_of(loaded_schema(START), [run])


def ask(reviewer: Heuristic, asked: ReviewRequest) -> Revision:
    return asyncio.run(reviewer.review(asked, TraceToolbox(asked.runs)))


def edits_of(revision: Revision) -> list[str]:
    marks = [line for line in revision.reasons.splitlines() if line.startswith("edit: ")]
    return [line.removeprefix("edit: ") for line in marks]


def test_there_are_at_least_eight_kinds(case: Case) -> None:
    assert len(KINDS) >= 8
    assert len({edit.kind for edit in offers(case)}) >= 8


def test_every_offer_is_a_playable_revision_that_changes_the_schema_alone(case: Case) -> None:
    for edit in offers(case):
        files = apply(edit, START)
        assert check_revision(START, files) == [], edit.label
        changed = [name for name in files if files[name] != START[name]]
        assert changed == ["scaffold.yaml"], edit.label
        assert 0 <= edit.promise <= 1
    labels = [edit.label for edit in offers(case)]
    assert len(set(labels)) == len(labels)


def test_offers_for_the_papers_starting_scaffold_can_be_played(run: Path) -> None:
    case = case_of(loaded_schema(V0), [run])
    found = {edit.kind for edit in offers(case)}
    assert len(found) >= 5
    for edit in offers(case):
        assert check_revision(V0, apply(edit, V0)) == [], edit.label


def test_an_edit_leaves_comments_alone(case: Case) -> None:
    edit = next(edit for edit in offers(case) if edit.kind == "show_last")
    old, new = START["scaffold.yaml"].splitlines(), apply(edit, START)["scaffold.yaml"].splitlines()
    changed = [line for line in new if line not in old]
    assert len(changed) == 1
    assert "# a line for each card" in changed[0]


def test_the_most_promising_comes_first_with_its_reasons(
    tmp_path: Path, run: Path, case: Case
) -> None:
    revision = ask(Heuristic(), request(tmp_path, run))
    assert edits_of(revision) == [offers(case)[0].label]
    assert revision.reasons.splitlines()[0] == offers(case)[0].title
    assert "%" in revision.reasons
    assert revision.reviewer == "heuristic"


def test_the_same_question_gives_the_same_revision(tmp_path: Path, run: Path) -> None:
    for reviewer in (Heuristic(), RandomOrder()):
        asked = request(tmp_path, run, seed=5)
        assert ask(reviewer, asked).files == ask(reviewer, asked).files


def test_nothing_is_proposed_twice(tmp_path: Path, run: Path) -> None:
    history = []
    seen = set()
    for number in range(6):
        revision = ask(Heuristic(), request(tmp_path, run, history=tuple(history)))
        content = files_digest(revision.files)
        assert content not in seen
        seen.add(content)
        history.append(node(f"n{number + 1}", revision.reasons, content=content))


def test_kinds_that_did_not_help_are_put_off(tmp_path: Path, run: Path) -> None:
    first = ask(Heuristic(), request(tmp_path, run))
    kind = edits_of(first)[0].split()[0]
    harmed = node("n1", first.reasons, gain=-0.05, content=files_digest(first.files))
    second = ask(Heuristic(), request(tmp_path, run, history=(harmed,)))
    assert edits_of(second)[0].split()[0] != kind


def test_a_continuation_builds_on_what_did_no_harm(tmp_path: Path, run: Path) -> None:
    first = ask(Heuristic(), request(tmp_path, run))
    neutral = node("n1", first.reasons, gain=0.01, content=files_digest(first.files))
    asked = request(
        tmp_path, run, history=(neutral,), failed=failed(neutral, dict(first.files), run)
    )
    again = ask(Heuristic(), asked)
    assert len(edits_of(again)) == 2
    assert edits_of(again)[0] == edits_of(first)[0]
    assert check_revision(START, again.files) == []


@pytest.mark.parametrize("change", [{"gain": -0.2}, {"error": "does not load"}, {}])
def test_a_continuation_starts_anew_after_harm(tmp_path: Path, run: Path, change: dict) -> None:
    first = ask(Heuristic(), request(tmp_path, run))
    harmful = node("n1", first.reasons, content=files_digest(first.files), **change)
    asked = request(tmp_path, run, history=(harmful,), failed=failed(harmful, dict(first.files)))
    again = ask(Heuristic(), asked)
    assert len(edits_of(again)) == 1
    assert edits_of(again) != edits_of(first)


def test_random_order_draws_from_the_same_catalogue(tmp_path: Path, run: Path, case: Case) -> None:
    drawn = {
        edits_of(ask(RandomOrder(), request(tmp_path, run, seed=seed)))[0] for seed in range(6)
    }
    assert len({label.split()[0] for label in drawn}) > 2
    assert drawn <= {edit.label for edit in offers(case)}


def test_an_empty_catalogue_is_said_and_spent(tmp_path: Path, run: Path, case: Case) -> None:
    history = tuple(
        node(f"n{number}", "", content=files_digest(apply(edit, START)))
        for number, edit in enumerate(offers(case), 1)
    )
    with pytest.raises(ReviewError, match="nothing in the catalogue is left") as caught:
        ask(Heuristic(), request(tmp_path, run, history=history))
    assert not caught.value.is_retryable
