"""Verdicts of the provenance selector, on small traces whose answer is plain to see."""

import pytest
from support.told_game import Told, append, play_told, search
from support.traces import write_run

from automem_learners.select.evidence import EvidenceSettings
from automem_learners.select.payoff import Payoffs, PayoffSettings, upper_bound
from automem_learners.select.provenance import ProvenanceSelector
from automem_learners.select.traces import Traces

DOWN = "down 03 05 11 17 20"


async def verdicts(tmp_path, steps, **evidence):
    """(step, turn) to (kind, good, reason), beside an episode in which nothing happens."""
    quiet = [Told("x") for _ in steps]
    run = write_run(tmp_path / "run", [
        await play_told(tmp_path, steps, seed=1), await play_told(tmp_path, quiet, seed=2),
    ])  # fmt: skip
    selector = ProvenanceSelector(evidence=EvidenceSettings(**{"kind": "names", **evidence}))
    with Traces([run]) as traces:
        return {
            (turn.key.step, turn.key.turn): (turn.kind.value, verdict.is_good, verdict.reason)
            for turn, verdict in selector.judge(traces)
            if turn.key.episode == "toy-1-0"
        }


FOUND = [
    Told("new deck"),
    Told("17 shows owl", (append("17 owl"),)),
    Told("11 shows elk", (append("11 elk"),)),
    Told(f"05 shows owl first\npending 05\n{DOWN}", (append("17 owl"),), (search("owl"),),
         "flip 17"),
    Told("17 shows owl match", progression=0.5),
]  # fmt: skip


async def test_the_write_that_paid_is_good_and_the_others_say_why_not(tmp_path):
    found = await verdicts(tmp_path, FOUND)
    assert found[1, 0] == ("write", True, "a line that it wrote was used, with progress")
    assert found[2, 0] == ("write", False, "no line of it ever came back")
    assert found[3, 0] == ("write", False, "duplicate")


async def test_a_consultation_is_good_where_what_it_returned_was_used(tmp_path):
    found = await verdicts(tmp_path, FOUND)
    assert found[3, 1] == ("consult", True, "what it returned was used")
    assert found[3, 2] == ("plan_end", True, "what had been found was used")
    unused = [*FOUND[:3], Told(FOUND[3].see, (), (search("owl"),), "flip 20"), Told("miss")]
    found = await verdicts(tmp_path / "unused", unused)
    assert found[3, 1] == ("consult", False, "what it returned was not used")
    assert found[3, 2] == ("plan_end", False, "what had been found was not used")
    assert found[1, 0] == ("write", False, "its lines came back, unused")


async def test_a_line_that_was_used_and_led_nowhere_makes_no_good_write(tmp_path):
    steps = [*FOUND[:4], Told("17 shows fox miss")]
    found = await verdicts(tmp_path, steps)
    assert found[1, 0] == ("write", False, "used without progress")
    assert found[3, 1] == ("consult", True, "what it returned was used")


@pytest.mark.parametrize(
    ("said", "kind", "reason"),
    [
        ("<|APPEND|>17 owl<|END|>", "log_nothing", "malformed"),
        ("<|READ|>../secret<|END|>", "log_read", "refused"),
        (search("zebra"), "log_read", "empty search"),
        (append("17 owl").replace("<|DONE|>", "") * 2, "write", "duplicate"),
    ],
)
async def test_malformed_refused_empty_and_duplicate_turns_are_never_good(
    tmp_path, said, kind, reason
):
    steps = [Told("new deck"), Told("17 shows owl", (said,)), *FOUND[3:]]
    assert (await verdicts(tmp_path, steps))[1, 0] == (kind, False, reason)


async def test_nothing_was_left_to_remember_where_memory_in_view_says_it(tmp_path):
    steps = [Told("new deck"), Told("17 shows owl", (append("17 owl"),)), Told("hm"),
             Told("17 shows owl", (search("owl"),)), Told("17 shows elk", (search("17"),)),
             Told("the end")]  # fmt: skip
    found = await verdicts(tmp_path, steps)
    assert found[3, 1] == ("log_end", True, "memory, in view, says it already")
    assert found[4, 1][1] is False


async def test_reading_in_log_is_good_where_a_good_write_followed_from_it(tmp_path):
    steps = [*FOUND[:1], Told("11 shows elk", (append("11 elk"),)),
             Told("17 shows owl", ("<|READ|>notes.txt<|END|>", append("17 owl"))),
             *FOUND[3:]]  # fmt: skip
    found = await verdicts(tmp_path, steps)
    assert found[2, 0] == ("log_read", True, "a good write followed from it")


async def test_where_nothing_can_be_named_what_followed_is_the_evidence(tmp_path):
    steps = [Told("grass", do="left"), Told("tree", (append("tree west"),), do="left"),
             Told("water", (append("lake east"),), (search("tree"),), "left"),
             Told("wood", progression=0.5)]  # fmt: skip
    by_name = await verdicts(tmp_path / "a", steps)
    assert [by_name[key][1] for key in ((1, 0), (2, 1))] == [False, False]
    found = await verdicts(tmp_path / "b", steps, kind="auto")
    assert found[1, 0] == ("write", True, "progress followed where it was in context")
    assert found[2, 0] == ("write", False, "no line of it ever came back")
    assert found[2, 1] == ("consult", True, "progress followed where it was in context")


def test_a_place_is_worthless_once_enough_tries_there_paid_nothing():
    payoffs = Payoffs(PayoffSettings(below=0.5, min_tries=20))
    for number in range(100):
        payoffs.add_place(f"{number} shows owl first", has_paid=number % 4 == 0)
    for _ in range(19):
        payoffs.add_place("02 shows owl match", has_paid=False)
    assert payoffs.worthless_place("03 shows owl match") == ""
    for _ in range(40):
        payoffs.add_place("02 shows owl match", has_paid=False)
    assert "`match`, 0 of 59 paid" in payoffs.worthless_place("03 shows elk match")
    assert payoffs.worthless_place("03 shows owl first") == ""


def test_a_form_is_bad_once_it_surely_pays_less_than_half_as_often_as_the_best():
    payoffs = Payoffs(PayoffSettings(below=0.5, min_tries=20))
    for number in range(100):
        payoffs.add_form("right", has_paid=number % 2 == 0)
        payoffs.add_form("wrong", has_paid=number % 20 == 0)
    payoffs.add_form("rare", has_paid=False)
    assert payoffs.bad_form("wrong") == "5 of 100 paid; the best form: 50%"
    assert payoffs.bad_form("right") == payoffs.bad_form("rare") == ""


def test_the_upper_bound_is_wilsons():
    assert upper_bound(0, 0) == 1.0
    assert upper_bound(0, 97.3) == pytest.approx(1.645**2 / (97.3 + 1.645**2))
    assert upper_bound(50, 100) == pytest.approx(0.5812, abs=1e-3)
