"""Failure statistics, and pruning rules read off the traces."""

from pathlib import Path

import pytest
from support.reviews import played

from automem.errors import UsageError
from automem.loops.reviewers.findings import Findings, find
from automem.loops.reviewers.stale import stale_rules
from automem.trace.query import query


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return played(tmp_path_factory.mktemp("runs") / "study", 4)


@pytest.fixture(scope="module")
def found(run: Path) -> Findings:
    return find([run])


def test_shares_are_of_what_the_tables_hold(run: Path, found: Findings) -> None:
    [(written, redundant, searches, empty)] = query(
        [run],
        "select sum(written_lines), sum(redundant_lines), count(*) filter (op = 'SEARCH'), "
        "count(*) filter (op = 'SEARCH' and status = 'empty') from ops where turn >= 0",
    ).rows
    assert found.redundant_writes == pytest.approx(redundant / written)
    assert found.empty_searches == pytest.approx(empty / searches)
    assert found.episodes == 4
    assert found.steps == sum(row[0] for row in query([run], "select steps from episodes").rows)


def test_every_share_is_of_one(found: Findings) -> None:
    for name in ("never_returned", "unconsulted", "unlogged", "stuck", "repeated", "oscillating"):
        value = getattr(found, name)
        assert value is None or 0 <= value <= 1, name
    assert found.unconsulted is not None
    assert found.unconsulted > 0.2  # half of its PLANs search for nothing


def test_a_file_says_how_its_lines_were_used(found: Findings) -> None:
    cards = found.file("cards.txt")
    assert cards.written > cards.returned > 0
    assert cards.repeated > 0
    assert cards.separator is not None
    assert found.file("nowhere.txt").written == 0


def test_a_share_over_nothing_is_none(tmp_path: Path) -> None:
    found = find([played(tmp_path / "idle", 2, writes=0.0, searches=0.0)])
    assert found.redundant_writes is None
    assert found.empty_searches is None
    assert found.unconsulted is None


def test_no_complete_episode_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty" / "tables").mkdir(parents=True)
    with pytest.raises(UsageError, match="no episode"):
        find([tmp_path / "empty"])


def test_what_a_match_makes_useless_is_found_in_the_traces(tmp_path: Path) -> None:
    run = played(tmp_path / "long", 6, repeats=0.0, searches=0.95)
    rules = stale_rules([run], "cards.txt")
    assert [rule for rule in rules if " match" in rule.seen and rule.used_later == 0]
    assert not [rule for rule in rules if " first of" in rule.seen or " miss" in rule.seen]


def test_too_few_lines_give_no_rule(tmp_path: Path) -> None:
    assert stale_rules([played(tmp_path / "short", 1)], "notes.txt") == []
