"""The structure loop with a model as its reviewer: the whole way, and what goes wrong on it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.evolve_parts import RULE, START, TableArena, showing, slots
from support.reviewer_server import Call, ReviewerServer, Silence, Status, Step, serving, submit
from support.reviews import played

from automem.loops.evolve import Evolution
from automem.loops.evolve_plan import Plan, Smoke
from automem.loops.evolve_stage import Entrant
from automem.loops.gate import Verdict
from automem.loops.proficiency import Unfinished
from automem.loops.reviewers.toolbox import TraceToolbox
from automem.loops.stage import Played

pytest.importorskip("openai", reason="pip install 'automem[reviewers]'")
pytest.importorskip("anthropic", reason="pip install 'automem[reviewers]'")

FIRST, SECOND = "revision 1, attempt 1", "revision 1, attempt 2"
AGAIN = "revision 1, continuation 1"
WORDING = {"log.system.j2": START["log.system.j2"] + "\nwrite what you see\n"}


class StudyArena(TableArena):
    """Games from a table; the episodes that a reviewer studies have real traces."""

    def _one(self, entrant: Entrant, seeds: Sequence[int], max_steps: int) -> Played:
        if "studies" in entrant.folder.parts and not entrant.folder.exists():
            played(entrant.folder, 2)
        return super()._one(entrant, seeds, max_steps)


def evolution(folder: Path, protocol: str, server: ReviewerServer, **settings: Any) -> Evolution:
    from automem.loops.reviewers.anthropic import anthropic_reviewer
    from automem.loops.reviewers.openai import openai_reviewer

    given = {"submissions": 1, "retries": 2, **settings}
    reviewer = (
        openai_reviewer("recorded", server.openai_url, **given)
        if protocol == "openai"
        else anthropic_reviewer("recorded", server.anthropic_url, **given)
    )
    smoke = Smoke(episodes=1, steps=3)
    plan = Plan(rule=RULE, revisions=1, attempts=2, at_once=2, study=2, smoke=smoke)
    return Evolution(plan, START, folder, StudyArena(), reviewer, TraceToolbox, lambda line: None)


@pytest.mark.parametrize("protocol", ["openai", "anthropic"])
def test_a_recorded_reviewer_goes_the_whole_way(protocol: str, tmp_path: Path) -> None:
    steps: Sequence[Step] = [
        Call("list_episodes"),
        submit(WORDING, "other words"),  # breaks a constraint: a node with its error
        Silence(60),  # a time-out: asked again
        Call("submit_revision", {"files": "all of them"}),  # malformed: the attempt is spent
        Status(429, retry_after="1"),
        Call("read_steps", {"episode": "concentration-1-0", "first": 3, "last": 3}),
        submit(dict(showing(10)), "show ten lines", knowledge=["a deck has pairs"]),
    ]
    with serving(steps) as server:
        loop = evolution(tmp_path, protocol, server, timeout_s=5.0)
        champion = loop.run()
        assert server.steps == []
        assert server.told("only wording differs")  # the continuation is shown why
        assert server.told("== step 3, progression")
    assert slots(tmp_path) == ["start", FIRST, AGAIN]
    assert [lapsed.slot for lapsed in loop.lineage.lapses()] == [SECOND]
    broken, accepted = loop.lineage.nodes()[1:]
    assert "structure: " in broken.grown.error
    assert champion.id == accepted.id
    assert accepted.judged is not None
    assert accepted.judged.verdict is Verdict.ACCEPTED
    assert accepted.grown.knowledge == ("a deck has pairs",)
    assert (tmp_path / "reviews" / "revision-1-continuation-1" / "transcript.jsonl").exists()


def test_an_endpoint_that_is_away_loses_nothing(tmp_path: Path) -> None:
    with serving([submit(dict(showing(20)))]) as server, pytest.raises(Unfinished, match="500"):
        # The first attempt is answered; then the recording is over, and it answers 500.
        evolution(tmp_path, "openai", server, retries=0).run()
    assert slots(tmp_path) == ["start", FIRST]
    answers = [submit(dict(showing(12))), submit(dict(showing(10)))]
    with serving(answers) as server:
        champion = evolution(tmp_path, "openai", server, retries=0).run()
        assert len(server.requests) == 1  # the first one is not asked for again
    assert champion.grown.slot == SECOND
