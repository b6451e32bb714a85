"""From verdicts to a folder: thinning, reports, controls, errors."""

import json
from collections import Counter

import pyarrow.parquet as pq
import pytest
from support.traces import play, write_run

from automem.errors import UsageError
from automem_learners.select.command import main
from automem_learners.select.controls import AllSelector, OutcomeSelector, RandomSelector
from automem_learners.select.report import fragmentation
from automem_learners.select.run import select
from automem_learners.select.selection import read_selection
from automem_learners.select.selector import provenance
from automem_learners.select.thinning import Candidate, Thinning, thin
from automem_learners.select.verdict import Kind, TurnKey, form_of, kind_of


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(
        tmp_path_factory.mktemp("runs") / "first", [play(seed) for seed in range(1, 13)]
    )


def candidates(*groups):
    """`(kind, form, episode, how many)` each."""
    return [
        Candidate(TurnKey("run", episode, number, at), kind, form)
        for at, (kind, form, episode, count) in enumerate(groups)
        for number in range(count)
    ]


def kept(groups, **settings):
    found = candidates(*groups)
    left_out = thin(
        found, Thinning(**{"per_episode": 0, "per_cluster": 0, "balance": 0} | settings)
    )
    return [c for c in found if c.key not in left_out], left_out


def test_no_episode_gives_more_than_its_share_of_a_kind():
    groups = [(Kind.WRITE, "a", "one", 30), (Kind.WRITE, "a", "two", 3)]
    left, why = kept(groups, per_episode=5)
    assert [c.key.episode for c in left].count("one") == 5
    assert set(why.values()) == {"enough of its kind from its episode"}


def test_near_duplicates_are_capped_by_their_form():
    groups = [(Kind.WRITE, "a", "one", 30), (Kind.WRITE, "b", "one", 3)]
    left, _ = kept(groups, per_cluster=10)
    assert [c.form for c in left].count("a") == 10
    assert [c.form for c in left].count("b") == 3


def test_no_kind_drowns_the_others():
    groups = [(Kind.WRITE, "a", "one", 10), (Kind.CONSULT, "b", "one", 12),
              (Kind.PLAN_NOTHING, "c", "one", 500)]  # fmt: skip
    left, _ = kept(groups, balance=2.0)
    assert [c.kind for c in left].count(Kind.PLAN_NOTHING) == 24
    left, _ = kept(groups, balance=2.0, at_most=23)
    assert Counter(c.kind for c in left) == {
        Kind.WRITE: 5,
        Kind.CONSULT: 6,
        Kind.PLAN_NOTHING: 12,
    }


def test_thinning_draws_the_same_turns_again():
    groups = [(Kind.WRITE, "a", "one", 30)]
    assert kept(groups, per_cluster=10) == kept(groups, per_cluster=10)
    assert kept(groups, per_cluster=10) != kept(groups, per_cluster=10, seed=1)


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("<|APPEND|>cards.txt|17 owl<|END|>", "<|APPEND|> cards.txt | # w <|END|>"),
        ("SEARCH cards.txt|K", "SEARCH cards.txt | w"),
        ("the way to 12,-7 leads west", "w # , # w"),
        ("", ""),
    ],
)
def test_a_form_leaves_numbers_and_words_out(text, form):
    assert form_of(text) == form


def test_kinds_follow_what_a_turn_does():
    assert kind_of("log", ("SEARCH", "APPEND"), False) is Kind.WRITE
    assert kind_of("log", ("SEARCH",), False) is Kind.LOG_READ
    assert kind_of("log", (), True) is Kind.LOG_END
    assert kind_of("plan", ("READ",), True) is Kind.CONSULT
    assert kind_of("plan", (), False) is Kind.PLAN_NOTHING


def test_every_turn_of_the_memory_role_is_flagged_with_a_reason(run, tmp_path):
    report = select([run], provenance(), Thinning(), tmp_path / "s")
    rows = pq.read_table(tmp_path / "s" / "turns.parquet").to_pylist()
    turns = [pq.read_table(path) for path in sorted((run / "tables" / "turns").iterdir())]
    asked = sum(role == "memory" for t in turns for role in t["role"].to_pylist())
    assert len(rows) == asked == report["turns"]
    assert all(row["reason"] for row in rows)
    assert report == json.loads((tmp_path / "s" / "report.json").read_text())
    assert report["kinds"]["write"]["selected"] > 0
    assert report["kinds"]["write"]["rejected"]["duplicate"] > 0
    for kind, row in report["kinds"].items():
        assert row["selected"] + sum(row["rejected"].values()) == row["turns"], kind


def test_selected_turns_are_handed_over_by_run_episode_step_and_turn(run, tmp_path):
    select([run], provenance(), Thinning(), tmp_path / "s")
    found = read_selection(tmp_path / "s").by_episode()
    (folder, episode), turns = next(iter(sorted(found.items())))
    assert folder == str(run.resolve())
    (step, turn), chosen = next(iter(turns.items()))
    table = pq.read_table(run / "tables" / "turns" / f"{episode}.parquet").to_pylist()
    [row] = [r for r in table if (r["step"], r["turn"]) == (step, turn)]
    assert row["role"] == "memory"
    assert (chosen.weight, chosen.tokens) == (1.0, row["tokens_out"])


def test_the_random_control_has_the_kinds_and_tokens_of_what_it_matches(run, tmp_path):
    chosen = select([run], provenance(), Thinning(), tmp_path / "s")
    control = select([run], RandomSelector(match=str(tmp_path / "s")), Thinning(), tmp_path / "r")
    counts = [{k: row["selected"] for k, row in r["kinds"].items()} for r in (chosen, control)]
    assert counts[0] == counts[1]
    assert control["tokens"] == pytest.approx(chosen["tokens"], rel=0.01)
    ours, theirs = (read_selection(tmp_path / name).turns for name in "sr")
    assert {(t.episode, t.step, t.turn) for t in ours} != {
        (t.episode, t.step, t.turn) for t in theirs
    }


def test_outcome_takes_the_best_episodes_and_all_takes_everything(run, tmp_path):
    report = select([run], OutcomeSelector(0.25), Thinning(), tmp_path / "o")
    assert 3 <= report["episodes_with_any"] <= 6  # equals of the last one are in
    report = select([run], AllSelector(), Thinning(), tmp_path / "a")
    assert report["selected"] == report["turns"]
    with pytest.raises(UsageError, match="above 0 and at most 1"):
        OutcomeSelector(0)
    with pytest.raises(UsageError, match="one of selector"):
        RandomSelector()


def test_fragmentation_counts_forms_singletons_and_the_mass_of_the_top():
    from collections import Counter

    found = fragmentation(Counter({"a": 6, "b": 2, "c": 1, "d": 1}))
    assert (found["forms"], found["singletons"]) == (4, 2)
    assert found["singleton_share"] == pytest.approx(0.2)
    assert found["top_mass"] == 1.0


def test_the_command_writes_a_selection_and_tells_of_it(run, tmp_path, capsys):
    assert main([str(run), f"out={tmp_path / 's'}", "thin.per_episode=4"]) == 0
    text = capsys.readouterr().out
    assert "selection by provenance" in text
    assert "failures:" in text
    assert f"written: {tmp_path / 's'}" in text
    assert read_selection(tmp_path / "s").selector == "provenance"


def test_an_empty_selection_is_an_error_that_says_why(run, tmp_path):
    with pytest.raises(UsageError, match=r"is empty: nothing was selected of \d+ turns: .*\(\d+\)"):
        main([str(run), f"out={tmp_path / 's'}", "selector.evidence.min_progress=99",
              "selector.evidence.kind=preceded"])  # fmt: skip
    rows = pq.read_table(tmp_path / "s" / "turns.parquet").to_pylist()
    assert rows
    assert not any(row["is_selected"] for row in rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["selector=provenence"], "did you mean 'provenance'"),
        (["selector.evidence.kind=words"], "selector.evidence: .*'words'"),
        (["selector=random"], "one of selector.count"),
        (["thin.per_kind=3"], "did you mean 'thin.per_"),
        (["selector=random", "selector.match=/nowhere"], "holds no selection"),
        (["--out", "x"], "no option --out"),
    ],
)
def test_wrong_settings_are_told_before_anything_is_done(run, arguments, message):
    with pytest.raises(UsageError, match=message):
        main([str(run), *arguments])


def test_the_command_needs_a_run(capsys):
    with pytest.raises(UsageError, match="which run"):
        main(["selector=all"])
    assert main([]) == 0
    assert "selectors: all, attribution, outcome, provenance" in capsys.readouterr().out
