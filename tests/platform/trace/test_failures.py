"""Failed stretches, their clusters, and the filter that would be learned from them."""

from dataclasses import dataclass, field

import duckdb
import pytest
from support.traces import Habits, play, write_run

from automem.errors import UsageError
from automem.trace import failures as module
from automem.trace.failure_tries import SIGNS, collect
from automem.trace.failures import Options, failures
from automem.trace.query import query


@dataclass
class Steps:
    """A run whose tables are written by hand, step by step."""

    rows: list[tuple] = field(default_factory=list)
    ops: list[tuple] = field(default_factory=list)
    turns: list[tuple] = field(default_factory=list)
    episodes: dict[str, int] = field(default_factory=dict)

    def add(self, episode, action, seen, *, invalid=False, same=False, gain=0.0, source="model"):
        step = sum(row[1] == episode for row in self.rows)
        self.episodes.setdefault(episode, len(self.episodes))
        unproductive = invalid or same
        self.rows.append(
            ("r", episode, step, action, source, invalid, unproductive, seen, gain)
        )  # fmt: skip

    def tables(self):
        connection = duckdb.connect()
        connection.execute(
            """
            create table steps (run text, episode text, step int, action text, source text,
                invalid_action bool, unproductive bool, observation text, gain double);
            create table ops (run text, episode text, step int, turn int, index int, op text,
                file text, argument text, text text, status text, written_lines int,
                redundant_lines int);
            create table turns (run text, episode text, step int, turn int, completion text,
                malformed text[]);
            create table episodes (run text, episode text, world text, seed int);
            """
        )
        for table, rows in (("steps", self.rows), ("ops", self.ops), ("turns", self.turns)):
            for row in rows:
                marks = ", ".join("?" for _ in row)
                connection.execute(f"insert into {table} values ({marks})", row)
        for episode, seed in self.episodes.items():
            connection.execute("insert into episodes values ('r', ?, 'w', ?)", [episode, seed])
        return connection

    def stretches(self, patience=25):
        connection = self.tables()
        collect(connection, patience)
        return connection.execute(
            "select sign, episode, first, last, form from stretches order by sign, episode, first"
        ).fetchall()

    def found(self, monkeypatch, tmp_path, **options):
        monkeypatch.setattr(module, "connect", lambda runs: self.tables())
        monkeypatch.setattr(module, "run_names", lambda runs: {"r": tmp_path})
        return failures([tmp_path], Options(**options))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    habits = Habits(repeats=0.4, malforms=0.4, refuses=0.1, breaks_rules=0.3)
    plays = [play(seed, habits=habits) for seed in range(1, 9)]
    return write_run(tmp_path_factory.mktemp("runs") / "first", plays)


def test_consecutive_steps_with_a_sign_are_one_stretch():
    steps = Steps()
    for number, is_wrong in enumerate([1, 1, 0, 1]):
        steps.add("e", f"go {number}", f"room {number}", invalid=bool(is_wrong))
    assert steps.stretches() == [
        ("invalid action", "e", 0, 1, "go #"),
        ("invalid action", "e", 3, 3, "go #"),
    ]


def test_a_stretch_never_reaches_into_another_episode():
    steps = Steps()
    steps.add("a", "go", "1", invalid=True)
    steps.add("b", "go", "1", invalid=True)
    assert [row[1:4] for row in steps.stretches()] == [("a", 0, 0), ("b", 0, 0)]


def test_going_back_to_what_was_just_seen_is_circling_and_standing_still_is_not():
    steps = Steps()
    for seen in ("hall", "attic", "hall", "attic", "cellar"):
        steps.add("e", "go", seen)
    steps.add("e", "wait", "cellar", same=True)
    found = {(sign, first, last) for sign, _, first, last, _ in steps.stretches()}
    assert found == {("circling", 1, 2), ("no change", 5, 5)}


def test_a_drought_longer_than_the_patience_is_stalled_until_the_next_gain():
    steps = Steps()
    for step in range(12):
        steps.add("e", "dig" if step % 3 else "look", f"{step} a", gain=0.1 if step == 9 else 0.0)
    assert steps.stretches(patience=4) == [("stalled", "e", 4, 8, "dig")]


def test_a_fallback_is_no_action_of_the_models():
    steps = Steps()
    steps.add("e", "wait", "here", same=True, source="fallback")
    steps.turns.append(("r", "e", 0, 0, "I am not sure", []))
    assert steps.stretches() == [("no commit", "e", 0, 0, "i am not sure")]


def test_operations_fail_by_finding_nothing_by_errors_and_by_writing_what_stands_there():
    steps = Steps()
    for step in range(3):
        steps.add("e", "go", f"room {step}")
    steps.ops += [
        ("r", "e", 0, 0, 0, "SEARCH", "a.txt", "owl 3", None, "empty", None, None),
        ("r", "e", 1, 0, 0, "READ", "b.txt", None, None, "error", None, None),
        ("r", "e", 2, 0, 0, "APPEND", "a.txt", None, "owl 3", "ok", 1, 1),
        ("r", "e", 2, -1, 0, "APPEND", "a.txt", None, "by the scaffold", "ok", 1, 1),
        ("r", "e", 2, 0, 1, "APPEND", "a.txt", None, "owl 4", "ok", 1, 0),
    ]
    assert {(sign, first, form) for sign, _, first, _, form in steps.stretches()} == {
        ("empty search", 0, "search a.txt owl #"),
        ("refused operation", 1, "read b.txt"),
        ("rewriting", 2, "append a.txt owl #"),
    }


def test_numbers_and_quotes_make_no_forms_of_their_own_and_words_do(monkeypatch, tmp_path):
    steps = Steps()
    for number, action in enumerate(["say 'hi' 3", 'Say "you there" 12', "say it 4"]):
        steps.add(f"e{number}", action, "x", invalid=True)
    found = steps.found(monkeypatch, tmp_path)
    assert [(c.form, c.stretches) for c in found.clusters] == [("say … #", 2), ("say it #", 1)]
    by_level = {one.level: (one.forms, one.singletons) for one in found.scatter}
    assert by_level == {"exact": (3, 3), "form": (2, 1), "shape": (1, 0), "kind": (1, 0)}
    assert found.clusters[-1].covered == 1.0


def test_examples_come_from_different_episodes_longest_first(monkeypatch, tmp_path):
    steps = Steps()
    for number in range(5):
        for step in range(number + 1):
            steps.add(f"e{number}", "push", f"{step}", invalid=True)
    (cluster,) = steps.found(monkeypatch, tmp_path).clusters
    assert [(e.episode, e.step, e.last) for e in cluster.examples] == [
        ("e4", 0, 4),
        ("e3", 0, 3),
        ("e2", 0, 2),
    ]
    assert (cluster.failed, cluster.tries) == (15, 15)


def scattered(words):
    """Eight episodes, each of which fails once with each of its own words."""
    steps = Steps()
    for episode in range(8):
        for number, word in enumerate(words(episode)):
            steps.add(f"e{episode}", word, f"{number} a", invalid=True)
            steps.add(f"e{episode}", "walk", f"{number} b")
    return steps


def test_a_filter_is_empty_where_failures_are_singletons(monkeypatch, tmp_path):
    steps = scattered(lambda episode: [f"jump {a}{chr(97 + episode)}" for a in "pqrstu"])
    found = steps.found(monkeypatch, tmp_path)
    assert found.is_filter_empty
    assert found.scatter[1].singleton_mass == 1.0
    assert "would be EMPTY" in found.verdict
    assert "100% of the failed stretches are of forms that occur once" in found.verdict
    assert found.scatter[2].kept == 1  # told apart by the first word, they are all alike


def test_a_form_that_always_fails_is_held_and_catches_it_on_seeds_not_seen(monkeypatch, tmp_path):
    found = scattered(lambda episode: ["jump", "jump"]).found(monkeypatch, tmp_path)
    chosen = found.scatter[1]
    assert (chosen.frequent, chosen.kept, chosen.caught, chosen.wrong) == (1, 1, 1.0, 0.0)
    assert not found.is_filter_empty


def test_a_form_that_works_more_often_than_it_fails_is_not_held(monkeypatch, tmp_path):
    steps = scattered(lambda episode: ["walk"] * 3)
    for episode in range(8):
        steps.add(f"e{episode}", "walk", "last")
    found = steps.found(monkeypatch, tmp_path)
    assert (found.scatter[1].frequent, found.scatter[1].kept) == (1, 0)
    assert "works more often than it fails" in found.verdict


def test_episodes_of_one_seed_tell_nothing_of_unseen_ones(monkeypatch, tmp_path):
    steps = scattered(lambda episode: ["jump"] * 2)
    steps.episodes = dict.fromkeys(steps.episodes, 7)
    found = steps.found(monkeypatch, tmp_path)
    assert found.scatter[1].caught is None
    assert "all episodes are of one seed" in found.verdict


def test_counts_agree_with_the_tables_of_a_played_run(run):
    found = failures([run])
    steps = {sign.sign: sign.steps for sign in found.signs}
    ((invalid, fallback, searches, malformed, executed),) = query(
        [run],
        """select (select count(*) from steps where invalid_action and source <> 'fallback'),
                  (select count(*) from steps where source = 'fallback'),
                  (select count(distinct (episode, step)) from ops where status = 'empty'),
                  (select count(distinct (episode, step)) from turns where len(malformed) > 0),
                  (select count(*) from steps where unproductive is not null)""",
    ).rows
    assert steps["invalid action"] == invalid > 0
    assert steps["no commit"] == fallback > 0
    assert steps["empty search"] == searches > 0
    assert steps["malformed"] == malformed > 0
    assert found.steps == executed
    assert sum(cluster.stretches for cluster in found.clusters) == found.stretches
    assert {sign.sign for sign in found.signs} == {sign.name for sign in SIGNS}


def test_a_run_without_failures_says_so(tmp_path):
    habits = Habits(1.0, 1.0, 0.0, 0.0, 0.0, 0.0)
    run = write_run(tmp_path / "run", [play(3, cards=4, habits=habits)])
    found = failures([run], Options(patience=100))
    invalid = [sign for sign in found.signs if sign.sign in ("invalid action", "malformed")]
    assert [sign.stretches for sign in invalid] == [0, 0]


def test_no_stretch_at_all_is_no_error(monkeypatch, tmp_path):
    steps = Steps()
    steps.add("e", "walk", "out", gain=1.0)
    found = steps.found(monkeypatch, tmp_path)
    assert (found.stretches, found.clusters) == (0, [])
    assert "nothing to learn a filter from" in found.verdict


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(level="forms"), r"no level 'forms'; did you mean 'form'\?"),
        (Options(patience=0), "--patience must be at least 1 step, got 0"),
        (Options(support=1), "--support must be at least 2"),
    ],
)
def test_a_wrong_option_is_refused_with_what_is_right(run, options, message):
    with pytest.raises(UsageError, match=message):
        failures([run], options)
