"""The structure loop: who is raced, confirmed, continued, accepted; outages; deaths."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.evolve_parts import (
    AGAIN,
    CRASHING,
    FIRST,
    SECOND,
    START,
    Killed,
    ListReviewer,
    TableArena,
    make_evolution,
    node_in,
    reason,
    showing,
    slots,
    timeless,
)

from automem.agent.scaffold_files import files_digest
from automem.errors import UsageError
from automem.loops import evolve, lineage
from automem.loops.evolve import Evolution
from automem.loops.evolve_plan import Plan, Smoke
from automem.loops.gate import Rule, Verdict
from automem.loops.proficiency import Unfinished
from automem.loops.records import Records
from automem.loops.reviewers.interface import ReviewError
from automem.loops.seedbook import SeedBook
from automem.seeds import SeedRange, range_of


def verdicts(loop: Evolution) -> dict[str, Verdict | None]:
    """Slot to verdict."""
    return {n.grown.slot: n.judged.verdict if n.judged else None for n in loop.lineage.nodes()[1:]}


def test_a_better_scaffold_is_accepted_and_is_what_the_next_revision_starts_from(
    tmp_path: Path,
) -> None:
    answers = {FIRST: 10, SECOND: 20, "revision 2, attempt 1": 12, "revision 2, attempt 2": 20}
    reviewer = ListReviewer(answers)
    loop = make_evolution(tmp_path, reviewer=reviewer, revisions=2)
    champion = loop.run()
    assert champion.grown.slot == "revision 2, attempt 1"
    assert [node.id for node in loop.lineage.path(champion.id)] == ["n0", "n1", "n3"]
    assert verdicts(loop)[FIRST] is Verdict.ACCEPTED
    assert verdicts(loop)[SECOND] is Verdict.ELIMINATED
    assert [request.parent for request in reviewer.asked] == ["n0", "n0", "n1", "n1"]
    assert reviewer.asked[2].files == showing(10)
    assert champion.gain == pytest.approx(0.2)
    assert [each.label for each in champion.measured] == ["race 4", "race 6", "confirm"]
    assert loop.confirmations_used() == 2


def test_the_reviewer_sees_studies_on_train_seeds_and_every_node_so_far(tmp_path: Path) -> None:
    reviewer = ListReviewer({FIRST: 20, SECOND: 20})
    make_evolution(tmp_path, reviewer=reviewer).run()
    first, second, again = reviewer.asked
    assert first.runs == (tmp_path / "studies" / "n0",)
    assert [node.id for node in first.history] == ["n0"]
    assert [node.id for node in second.history] == ["n0", "n1"]
    assert len({request.seed for request in reviewer.asked}) == 3
    assert first.failed is None
    assert again.failed is not None


def test_a_worse_one_leaves_in_the_race_and_draws_no_confirm_seed(tmp_path: Path) -> None:
    loop = make_evolution(tmp_path, {FIRST: 20, SECOND: 20, AGAIN: 20})
    assert loop.run().id == "n0"
    assert {draw.range for draw in SeedBook(tmp_path / "seeds.jsonl").draws()} == {
        SeedRange.TRAIN,
        SeedRange.SELECT,
    }
    assert loop.confirmations_used() == 0


def test_one_of_a_wave_is_confirmed_and_the_others_are_told_why_not(tmp_path: Path) -> None:
    loop = make_evolution(tmp_path, {FIRST: 10, SECOND: 12})
    assert loop.run().grown.slot == SECOND
    assert verdicts(loop)[FIRST] is Verdict.ELIMINATED
    assert reason(loop, FIRST) == "one of a wave is confirmed: +0.4000 in the race, n2 +0.6000"
    assert loop.confirmations_used() == 1


def test_fresh_attempts_one_after_the_other_stop_at_the_first_that_stays(tmp_path: Path) -> None:
    answers = {FIRST: 20, SECOND: 10, "revision 1, attempt 3": 12}
    loop = make_evolution(tmp_path, answers, attempts=3, at_once=1)
    loop.run()
    assert slots(tmp_path) == ["start", FIRST, SECOND]


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({**START, "scaffold.yaml": "name: ["}, "not valid YAML"),
        ({**START, "commit.j2": "{{ 1 }}"}, "the gameplay role's"),
        ({**START, "log.j2": START["log.j2"] + "\nwell"}, "only wording differs"),
        ({**START, "../../outside": "x"}, "no part of a scaffold"),
        (dict(START), "only wording differs"),
    ],
)
def test_a_revision_that_may_not_be_played_is_a_node_with_its_error_and_is_continued(
    tmp_path: Path, files: dict[str, str], told: str
) -> None:
    reviewer, arena = ListReviewer({FIRST: files, SECOND: 20, AGAIN: 10}), TableArena()
    loop = make_evolution(tmp_path / "run", reviewer=reviewer, arena=arena)
    assert loop.run().grown.slot == AGAIN
    assert told in node_in(loop, FIRST).grown.error
    assert told in reason(loop, FIRST)
    shown = reviewer.asked[-1].failed
    assert shown is not None
    assert (shown.node.grown.slot, shown.runs) == (FIRST, ())
    assert not any("/n1" in folder for folder, *_ in arena.played)
    assert not list(tmp_path.glob("outside*"))


def test_a_candidate_that_crashes_is_stopped_early_and_its_error_is_shown_once(
    tmp_path: Path,
) -> None:
    reviewer, arena = ListReviewer({FIRST: 20, SECOND: CRASHING, AGAIN: 10}), TableArena()
    loop = make_evolution(tmp_path, reviewer=reviewer, arena=arena)
    assert loop.run().grown.continues == "n2"
    assert reason(loop, SECOND) == "crashed in its first episodes: scaffold: log.j2: 13"
    assert node_in(loop, SECOND).measured == ()
    shown = reviewer.asked[-1].failed
    assert shown is not None
    assert shown.files == showing(CRASHING)
    assert shown.runs == (tmp_path / "revision-1" / "wave-1" / "smoke" / "n2",)
    [(_, episodes, steps)] = [each for each in arena.played if each[0].endswith("/n2")]
    assert (episodes, steps) == (1, 3)
    assert [slot for slot in slots(tmp_path) if "continuation" in slot] == [AGAIN]


def test_a_continuation_is_shown_the_race_of_the_attempt_that_did_best_and_no_confirmation(
    tmp_path: Path,
) -> None:
    rule = Rule(confirmations=4, alpha=0.1, pairs=8, race=(4,), flips=999)
    reviewer = ListReviewer({FIRST: 20, SECOND: 10})
    arena = TableArena()
    arena.REACHED = {0: 0.3, 10: 0.2, 20: 0.1}
    make_evolution(tmp_path, reviewer=reviewer, arena=arena, rule=rule).run()
    shown = reviewer.asked[-1].failed
    assert shown is not None
    assert shown.node.grown.slot == SECOND
    assert shown.runs == (tmp_path / "revision-1" / "wave-1" / "race" / "1-4" / "n2",)


def test_the_loop_ends_when_every_declared_confirmation_is_used(tmp_path: Path) -> None:
    rule = Rule(confirmations=1, alpha=0.1, pairs=8, race=(4,), flips=999, minimum_gain=0.0)
    lines: list[str] = []
    arena = TableArena()
    arena.REACHED = {0: 0.3, 10: 0.7}
    answers = {FIRST: 10, SECOND: 20}
    loop = make_evolution(tmp_path, answers, arena=arena, rule=rule, revisions=3, say=lines.append)
    assert loop.run().grown.slot == FIRST
    assert loop.confirmations_used() == 1
    assert any("all 1 confirmations are used; the loop is over" in line for line in lines)
    assert slots(tmp_path) == ["start", FIRST, SECOND]


def test_the_same_scaffold_is_not_compared_twice_with_one_champion(tmp_path: Path) -> None:
    loop = make_evolution(tmp_path, {FIRST: 20, SECOND: 20})
    loop.run()
    assert node_in(loop, SECOND).grown.error == "the same scaffold as n1"


def test_a_reviewer_with_nothing_to_say_leaves_its_slot_empty_for_good(tmp_path: Path) -> None:
    nothing = ReviewError("nothing is left to try", is_retryable=False)
    answers = {FIRST: nothing, SECOND: nothing, AGAIN: 10}
    loop = make_evolution(tmp_path, answers)
    assert loop.run().id == "n0"
    assert [lapsed.slot for lapsed in loop.lineage.lapses()] == [FIRST, SECOND]
    reviewer = ListReviewer(answers)
    assert make_evolution(tmp_path, reviewer=reviewer).run().id == "n0"
    assert reviewer.asked == []


def test_a_reviewer_that_is_away_is_asked_again_by_the_same_call(tmp_path: Path) -> None:
    away = ReviewError("the endpoint is down", is_retryable=True)
    with pytest.raises(Unfinished, match=r"attempt 2: .*the endpoint is down.*nothing is lost"):
        make_evolution(tmp_path, {FIRST: 10, SECOND: away}).run()
    reviewer = ListReviewer({SECOND: 20})
    assert make_evolution(tmp_path, reviewer=reviewer).run().grown.slot == FIRST
    assert len(reviewer.asked) == 1


@pytest.mark.parametrize(
    "where", ["race/1-4/champion", "race/1-4/n1", "confirm/champion", "confirm/n1", "studies/n0"]
)
def test_a_pending_episode_of_either_side_decides_nothing(tmp_path: Path, where: str) -> None:
    answers = {FIRST: 10, SECOND: 20}
    loop = make_evolution(tmp_path, answers, arena=TableArena([where]))
    with pytest.raises(Unfinished, match=r"1 episodes of .* are pending \(engine: the server"):
        loop.run()
    first = loop.lineage.in_slot(FIRST)
    assert first is None or first.judged is None
    assert loop.lineage.champion().id == "n0"
    assert make_evolution(tmp_path, answers).run().grown.slot == FIRST


def test_seeds_come_from_their_ranges_and_none_is_used_twice(tmp_path: Path) -> None:
    answers = {FIRST: 10, SECOND: 20}
    make_evolution(tmp_path, answers, revisions=3, at_once=1).run()
    drawn = [
        (d.range, seed) for d in SeedBook(tmp_path / "seeds.jsonl").draws() for seed in d.seeds
    ]
    assert len(set(drawn)) == len(drawn)
    assert {SeedRange.TRAIN, SeedRange.SELECT, SeedRange.CONFIRM} <= {name for name, _ in drawn}
    assert all(range_of(seed) is name for name, seed in drawn)


def test_another_plan_is_refused_when_the_loop_goes_on(tmp_path: Path) -> None:
    make_evolution(tmp_path, {FIRST: 20}).run()
    with pytest.raises(UsageError, match="declared revisions = 1 when it began"):
        make_evolution(tmp_path, revisions=2).run()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"revisions": 0}, "revisions must be at least 1"),
        ({"attempts": 0}, "attempts must be at least 1"),
        ({"continuations": -1}, "continuations must be at least 0"),
        ({"study": 0}, "study must be at least 1"),
        ({"at_once": 4}, r"from 1 to attempts \(3\)"),
        ({"rule": Rule(race=())}, "set gate.race"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_refused(change: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        Plan(**{"rule": Rule(), **change})


def test_the_published_plan_could_ask_for_ten_confirmations() -> None:
    assert Plan(rule=Rule()).most_confirmations == 10
    assert Plan(rule=Rule(), at_once=1).most_confirmations == 20


# Deaths


class Fate:
    """Ends the process at a call: just before its work, or just after."""

    def __init__(self, at: int) -> None:
        self.left = at

    def around(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def fated(*args: Any, **kwargs: Any) -> Any:
            self._pass()
            result = work(*args, **kwargs)
            self._pass()
            return result

        return fated

    def _pass(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Killed


ANSWERS: dict[str, Any] = {
    FIRST: CRASHING,
    SECOND: 20,
    AGAIN: 10,
    "revision 2, attempt 1": {**START, "scaffold.yaml": "name: ["},
    "revision 2, attempt 2": ReviewError("nothing", is_retryable=False),
    "revision 2, continuation 1": 12,
}


@pytest.fixture
def checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred loops check the same five revisions: each is really checked the first time."""
    known: dict[str, Any] = {}

    def once(owner: Any, name: str, key: Callable[..., str]) -> None:
        work = getattr(owner, name)

        def remembered(*args: Any) -> Any:
            place = f"{name} {key(*args)}"
            if place not in known:
                known[place] = work(*args)
            return known[place]

        monkeypatch.setattr(owner, name, remembered)

    once(evolve, "check_revision", lambda old, new, rules: files_digest(old) + files_digest(new))
    once(lineage, "_version_of", lambda folder: folder.name)


@pytest.mark.usefixtures("checked_once")
def test_a_loop_killed_at_every_point_ends_with_the_same_lineage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = tmp_path / "calm"
    make_evolution(calm, ANSWERS, revisions=2).run()
    expected, deaths = timeless(calm), 0
    assert set(verdicts(make_evolution(calm, ANSWERS)).values()) == {
        Verdict.ELIMINATED,
        Verdict.ACCEPTED,
    }
    while True:
        fate, folder = Fate(deaths + 1), tmp_path / f"killed-{deaths}"
        arena = TableArena()
        try:
            with monkeypatch.context() as patch:
                patch.setattr(arena, "play", fate.around(arena.play))
                patch.setattr(Records, "_write", fate.around(Records._write))
                make_evolution(folder, ANSWERS, arena=arena, revisions=2).run()
            break
        except Killed:
            deaths += 1
        reviewer = ListReviewer(ANSWERS)
        make_evolution(folder, reviewer=reviewer, revisions=2).run()
        assert timeless(folder) == expected, f"killed at call {deaths}"
        assert len({request.workspace for request in reviewer.asked}) == len(reviewer.asked)
    assert deaths > 50  # two per play and record
    assert timeless(folder) == expected


def test_no_first_episodes_are_played_where_none_are_asked_for(tmp_path: Path) -> None:
    arena = TableArena()
    make_evolution(tmp_path, {FIRST: 10}, arena=arena, smoke=Smoke(episodes=0)).run()
    assert not any("/smoke/" in folder for folder, *_ in arena.played)
