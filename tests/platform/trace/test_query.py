import io
import json

import pyarrow as pa
import pytest
from rich.console import Console
from support.traces import SYSTEM, play, write_run

from automem.errors import UsageError
from automem.trace import query as query_module
from automem.trace.query import Answer, as_csv, as_json, find_runs, print_answer, query


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "first", [play(1), play(2)])


def printed(answer, width=120):
    console = Console(file=io.StringIO(), width=width)
    print_answer(answer, console)
    return console.file.getvalue()


def test_the_tables_join_on_run_episode_and_step(run):
    answer = query(
        [run],
        """select e.episode, count(*) as ops, max(s.step) as steps from episodes e
           join steps s using (run, episode) join ops o using (run, episode, step)
           where o.op = 'SEARCH' group by all order by 1""",
    )
    assert answer.columns == ("episode", "ops", "steps")
    assert [row[0] for row in answer.rows] == ["concentration-1-0", "concentration-2-0"]


def test_prompts_are_there_in_full(run):
    rows = query([run], "select role, text from prompts where step = 2 order by turn, message").rows
    assert rows[0] == ("system", SYSTEM)
    assert any(text == "# commit" for _, text in rows)


def test_every_column_is_explained(run):
    rows = query([run], 'select "column", meaning from columns where "table" = \'steps\'').rows
    assert dict(rows)["unproductive"].startswith("Invalid, or the observation")


def test_several_runs_are_told_apart_by_name(run, tmp_path):
    other = write_run(tmp_path / "second", [play(5)])
    answer = query([run, other], "select run, count(*) from episodes group by run order by run")
    assert answer.rows == [("first", 2), ("second", 1)]


def test_runs_of_one_name_are_told_apart_by_path(run, tmp_path):
    other = write_run(tmp_path / "first", [play(5)])
    rows = query([run, other], "select distinct run from steps order by run").rows
    assert {row[0] for row in rows} == {str(run), str(other)}


def test_a_sweeps_folder_and_a_glob_stand_for_the_runs_below(run):
    assert find_runs([run.parent]) == [run]
    assert find_runs([str(run.parent / "f*")]) == [run]
    with pytest.raises(UsageError, match=r"no run at .*expected a folder with `tables`"):
        find_runs([run.parent / "nowhere"])


def test_a_run_whose_path_has_brackets_is_found_by_it(tmp_path):
    run = tmp_path / "sweep[1]" / "lr=[1,2]"
    (run / "tables").mkdir(parents=True)
    assert find_runs([run]) == [run]
    assert find_runs([run.parent]) == [run]
    assert find_runs([f"{tmp_path}/sweep*"]) == [run]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("select progresion from episodes", "no column 'progresion' here; did you mean"),
        ("select * from step", "no table 'step'; did you mean 'steps'"),
        ("select", "Parser Error"),
        ("select 1; select 2", "expected one SQL statement, got 2"),
        ("copy steps to 'x.csv'", "COPY is not possible here: traces are only read"),
        ("create table x as select 1", "CREATE is not possible here"),
        ("set enable_external_access = true", "SET is not possible here"),
        ("attach 'x.db'", "ATTACH is not possible here"),
    ],
)
def test_a_wrong_query_is_answered_with_what_to_do(run, sql, message):
    with pytest.raises(UsageError, match=message):
        query([run], sql)


@pytest.mark.parametrize(
    "sql",
    [
        "select * from '{file}'",
        "select * from read_text('{file}')",
        "select * from read_csv('{file}')",
        "select * from glob('{folder}/*')",
        "select * from secret",  # a Python variable
    ],
)
def test_a_query_reads_nothing_but_the_runs_tables(run, sql, monkeypatch):
    monkeypatch.setattr(query_module, "secret", pa.table({"x": [1]}), raising=False)
    with pytest.raises(UsageError):
        query([run], sql.format(file=run / "run.json", folder=run))


def test_a_run_with_nothing_finished_says_what_can_be_done(tmp_path):
    run = write_run(tmp_path / "run", [], pending=("concentration-1-0",))
    with pytest.raises(UsageError, match=r"no episode of .* is finished yet; `automem show"):
        query([run], "select 1")


def test_output_for_people_cuts_what_is_long_and_prints_markup_as_text():
    answer = Answer(("said", "n"), [("[red]x[/red]" + "y" * 500, 1.0)] + [("z", None)] * 300)
    text = printed(answer, width=400)
    assert "[red]x[/red]yyy" in text
    assert "…" in text
    assert "101 more rows" in text


def test_output_for_programs_is_complete(run):
    answer = query([run], "select episode, failures, empty_searches from episodes order by 1")
    rows = json.loads(as_json(answer))
    assert rows[0]["episode"] == "concentration-1-0"
    assert rows[0]["failures"] == []
    assert as_csv(answer).splitlines()[0] == "episode,failures,empty_searches"
    assert as_csv(Answer(("a", "b"), [(None, {"x": [1]})])).splitlines()[1] == ',"{""x"": [1]}"'
