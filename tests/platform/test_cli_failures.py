"""`automem failures` as a person calls it."""

import json
import shlex

import pytest
from support.traces import Habits, play, write_run

from automem import cli


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    habits = Habits(repeats=0.4, malforms=0.4, refuses=0.1, breaks_rules=0.3)
    plays = [play(seed, habits=habits) for seed in range(1, 7)]
    return write_run(tmp_path_factory.mktemp("a run") / "first", plays)


def test_the_table_ends_with_what_a_filter_would_come_to(run, capsys):
    assert cli.main(["failures", str(run), "--top", "2"]) == 0
    said = capsys.readouterr().out
    assert "empty search" in said
    assert "How scattered they are" in said
    assert "more forms; --top N or --json shows them" in said
    assert "A filter learned from these failures would" in " ".join(said.splitlines()[-3:])


def test_every_example_opens_in_show(run, capsys):
    assert cli.main(["failures", str(run), "--top", "4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    commands = [line[line.index("automem show") :] for line in lines if "automem show" in line]
    assert len(commands) >= 4
    for command in commands:
        assert cli.main(shlex.split(command)[1:]) == 0


def test_json_holds_every_cluster(run, capsys):
    assert cli.main(["failures", str(run), "--json", "--level", "shape"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["options"]["level"] == "shape"
    assert sum(cluster["stretches"] for cluster in found["clusters"]) == found["stretches"]
    assert [one["level"] for one in found["scatter"]] == ["exact", "form", "shape", "kind"]
    assert found["clusters"][0]["examples"][0]["run"] == str(run)


def test_the_report_gets_a_section_with_what_worlds_said_escaped(tmp_path, capsys):
    events = play(5, habits=Habits(malforms=1.0, writes=0.0))
    run = write_run(tmp_path / "run", [events])
    assert cli.main(["failures", str(run), "--report"]) == 0
    assert "written: " in capsys.readouterr().out
    page = (run / "report.html").read_text()
    assert "Where failures hide" in page
    assert "an append is not closed" in page.lower()
    assert "--step" in page


def test_a_wrong_number_is_refused(run, capsys):
    assert cli.main(["failures", str(run), "--top", "0"]) == cli.USAGE
    assert "--top must be at least 1, got 0" in capsys.readouterr().err
