"""Read-only tools over traces: what they show, page by page, and what they answer to nonsense."""

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.reviews import played

from automem.errors import UsageError
from automem.loops.reviewers import asking
from automem.loops.reviewers.pages import page
from automem.loops.reviewers.toolbox import TOOLS, TraceToolbox
from automem.trace.query import query
from automem.trace.tables import TABLES, schema

LONG = 100_000


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return played(tmp_path_factory.mktemp("runs") / "study", 3)


@pytest.fixture(scope="module")
def toolbox(run: Path) -> TraceToolbox:
    return TraceToolbox([run])


def all_pages(toolbox: TraceToolbox, name: str, **arguments: Any) -> list[str]:
    pages = [toolbox.call(name, arguments)]
    while more := re.search(r'\(more: ask again with cursor "([\d+]+)"\)$', pages[-1]):
        pages.append(toolbox.call(name, {**arguments, "cursor": more[1]}))
        assert len(pages) < 10_000
    return pages


def test_episodes_come_worst_first(toolbox: TraceToolbox) -> None:
    lines = toolbox.call("list_episodes", {}).splitlines()
    values = [float(re.search(r"progression ([\d.]+)", line)[1]) for line in lines]  # type: ignore[index]
    assert len(values) == 3
    assert values == sorted(values)


def test_a_step_is_told_in_full(toolbox: TraceToolbox, run: Path) -> None:
    [(step, keyword, result)] = query(
        [run],
        "select step, argument, result from ops where op = 'SEARCH' and status = 'ok' "
        "and episode = 'concentration-1-0' order by step limit 1",
    ).rows
    told = toolbox.call("read_steps", {"episode": "concentration-1-0", "first": step, "last": step})
    assert told.startswith(f"== step {step}, progression")
    assert f"SEARCH cards.txt | {keyword} -> ok: {result}".splitlines()[0] in told
    assert "observation" in told
    assert "action: " in told
    assert "[prompt, " not in told
    prompts = toolbox.call(
        "read_steps", {"episode": "concentration-1-0", "first": step, "last": step, "prompts": True}
    )
    assert "[prompt, system]" in prompts


def test_pages_put_together_are_every_step_once(toolbox: TraceToolbox, run: Path) -> None:
    pages = all_pages(toolbox, "read_steps", episode="concentration-1-0")
    found = re.findall(r"^== step (\d+)", "\n".join(pages), re.MULTILINE)
    [(steps,)] = query([run], "select count(*) from steps where episode = 'concentration-1-0'").rows
    assert [int(step) for step in found] == list(range(steps))
    assert len(pages) > 1


def test_memory_at_a_step_is_what_the_edits_leave(toolbox: TraceToolbox, run: Path) -> None:
    rows = query(
        [run],
        "select step, memory_lines from steps where episode = 'concentration-2-0' order by step",
    ).rows
    for step, lines in rows[:: len(rows) // 4]:
        text = toolbox.call("diff_memory", {"episode": "concentration-2-0", "step": step})
        told = [line for line in text.splitlines() if line not in ("(empty)",)]
        assert sum(not line.startswith("== ") for line in told) == lines


def test_memory_is_compared_between_steps(toolbox: TraceToolbox, run: Path) -> None:
    [(step, text)] = query(
        [run],
        "select step, text from writes where turn >= 0 and not repeats and ended is null "
        "and episode = 'concentration-1-0' order by step limit 1",
    ).rows
    arguments = {"episode": "concentration-1-0", "step": step, "since": step - 1}
    assert f"+{text}" in toolbox.call("diff_memory", arguments).splitlines()
    backwards = toolbox.call("diff_memory", {**arguments, "since": step})
    assert backwards.startswith("error: `since` must be an earlier step")


def test_search_finds_text_where_it_was_said(toolbox: TraceToolbox) -> None:
    everywhere = "\n".join(all_pages(toolbox, "search", text="A MATCH"))
    assert ", observations: " in everywhere
    only = "\n".join(
        all_pages(
            toolbox, "search", text="a match", where="observations", episode="concentration-1-0"
        )
    )
    assert {line.split()[0] for line in only.splitlines()} == {"concentration-1-0"}
    assert toolbox.call("search", {"text": "no such words"}) == "(nothing)"
    assert "did you mean 'observations'" in toolbox.call(
        "search", {"text": "x", "where": "observation"}
    )


def test_sql_is_paged_and_keeps_its_header(toolbox: TraceToolbox, run: Path) -> None:
    pages = all_pages(
        toolbox, "sql", query="select episode, step, observation from steps order by all;"
    )
    [(steps,)] = query([run], "select count(*) from steps").rows
    assert all(text.startswith("episode,step,observation\n") for text in pages)
    assert sum(text.count("concentration-") for text in pages) == steps
    assert toolbox.call("sql", {"query": "describe steps"}).startswith("column_name,")
    assert "physical_plan" in toolbox.call("sql", {"query": "explain select 1"})


@pytest.mark.parametrize(
    "text",
    [
        "drop table steps",
        "select * from '/etc/passwd'",
        "select * from read_text('/etc/passwd')",
        "copy steps to '/tmp/x'",
        "select 1) ; drop view steps; --",
        "attach '/tmp/x.db'",
        "",
        "select nothing from steps",
    ],
)
def test_sql_only_reads_and_says_what_is_wrong(text: str, toolbox: TraceToolbox) -> None:
    answer = toolbox.call("sql", {"query": text})
    assert answer.startswith("error: ")
    assert "root:" not in answer


def test_a_query_that_takes_for_ever_ends(
    toolbox: TraceToolbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "DEADLINE_S", 0.3)
    slow = "select count(*) from range(1000000) a, range(1000000) b where a.range * b.range = 7"
    assert toolbox.call("sql", {"query": slow}).startswith(
        "error: the query took longer than 0.3 s"
    )


def test_metrics_and_findings_are_there_by_name(toolbox: TraceToolbox) -> None:
    one = toolbox.call("metrics", {"episode": "concentration-1-0"})
    assert "empty_searches: SEARCH operations that found nothing" in one
    assert one.count("study/concentration-") == 1
    assert re.search(r"^redundant_writes: 0\.\d+$", toolbox.call("findings", {}), re.MULTILINE)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("read_step", {}, "did you mean 'read_steps'"),
        ("read_steps", {}, "missing required field `episode`"),
        ("read_steps", {"episode": "concentration-1-1"}, "did you mean 'concentration-1-0'"),
        ("read_steps", {"episode": "concentration-1-0", "first": "x"}, "Expected `int`"),
        ("read_steps", {"episode": "../../etc", "first": 0}, "no complete episode"),
        ("read_steps", {"episode": "concentration-1-0", "first": 5, "last": 2}, "first <= last"),
        ("read_steps", {"episode": "concentration-1-0", "cursor": "next"}, "is no cursor"),
        ("list_episodes", {"order": "best"}, "unknown field `order`"),
        ("search", {"text": " "}, "`text` is empty"),
        ("diff_memory", {"episode": "concentration-1-0", "step": 3, "file": "x"}, "no file 'x'"),
    ],
)
def test_a_wrong_call_is_answered_with_what_is_wrong(
    name: str, arguments: dict[str, Any], message: str, toolbox: TraceToolbox
) -> None:
    answer = toolbox.call(name, arguments)
    assert answer.startswith("error: ")
    assert message in answer


def test_numbers_may_come_as_text_and_nulls_are_left_out(toolbox: TraceToolbox) -> None:
    told = toolbox.call(
        "read_steps", {"episode": "concentration-1-0", "first": "2", "last": "2", "cursor": None}
    )
    assert told.startswith("== step 2,")


def test_every_tool_has_a_schema_that_names_its_arguments(toolbox: TraceToolbox) -> None:
    assert toolbox.tools == TOOLS
    for tool in TOOLS:
        assert tool.parameters["additionalProperties"] is False
        assert set(tool.parameters["required"]) <= set(tool.parameters["properties"])


def test_episodes_of_several_runs_are_told_apart(tmp_path: Path, run: Path) -> None:
    both = TraceToolbox([run, played(tmp_path / "failed", 1)])
    listed = both.call("list_episodes", {})
    assert "study/concentration-0-0" in listed
    assert "failed/concentration-0-0" in listed
    told = both.call("read_steps", {"episode": "failed/concentration-0-0", "last": 0})
    assert told.startswith("== step 0")


@pytest.mark.slow
def test_an_episode_of_a_hundred_thousand_steps_can_be_studied(tmp_path: Path) -> None:
    toolbox = TraceToolbox([_long_run(tmp_path / "long")])
    last = toolbox.call("read_steps", {"episode": "long-1-0", "first": LONG - 2})
    assert [f"== step {step}," in last for step in (LONG - 3, LONG - 2, LONG - 1)] == [
        False,
        True,
        True,
    ]
    first = toolbox.call("read_steps", {"episode": "long-1-0"})
    assert len(first) < 13_000
    changed = toolbox.call(
        "diff_memory", {"episode": "long-1-0", "step": LONG - 1, "since": LONG - 2}
    )
    assert f"+line {LONG - 1}" in changed
    found = toolbox.call("search", {"text": f"at step {LONG - 5}", "where": "observations"})
    assert found.startswith(f"long-1-0 step {LONG - 5}, observations")


def _long_run(folder: Path) -> Path:
    """The tables of one episode in which each step sets one line of one file."""
    blank = {table: dict.fromkeys(c.name for c in columns) for table, columns in TABLES.items()}
    steps = [
        {**blank["steps"], "episode": "long-1-0", "step": n, "observation": f"at step {n}",
         "changed": True, "progression": 0.0, "action": "wait", "source": "model", "gain": 0.0}
        for n in range(LONG)
    ]  # fmt: skip
    edit = {"file": "a.txt", "start": 0, "creates": False, "deletes": False}
    ops = [
        {**blank["ops"], "episode": "long-1-0", "step": n, "turn": 0, "index": 0, "op": "WRITE",
         "routine": "log", "file": "a.txt", "status": "ok", "result": "ok",
         "edit": {**edit, "removed": len(f"line {n - 1}\n") if n else 0,
                  "inserted": f"line {n}\n", "creates": n == 0}}
        for n in range(LONG)
    ]  # fmt: skip
    episode = {**blank["episodes"], "episode": "long-1-0", "world": "long", "seed": 1,
               "progression": 0.0, "steps": LONG, "stop": "cap", "failed": False,
               "memory_lines": 1}  # fmt: skip
    for table in TABLES:
        rows = {"steps": steps, "ops": ops, "episodes": [episode]}.get(table, [])
        (folder / "tables" / table).mkdir(parents=True)
        pq.write_table(
            pa.Table.from_pylist(rows, schema=schema(table)),
            folder / "tables" / table / "long-1-0.parquet",
            row_group_size=4096,
        )
    return folder


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text(alphabet="abc \n", max_size=90), min_size=1, max_size=12), st.integers(5, 60)
)
def test_pages_of_any_size_put_together_are_the_whole(texts: list[str], chars: int) -> None:
    def items(start: int) -> Any:
        yield from list(enumerate(texts))[start:]

    whole, cursor = "", ""
    for _ in range(1_000):
        text = page(items, cursor, chars=chars)
        more = re.search(r'\n\(more: ask again with cursor "([\d+]+)"\)$', text)
        body = text[: more.start()] if more else text
        assert len(body) <= chars + len(texts)
        whole += body.replace("\n", "")
        if not more:
            break
        cursor = more[1]
    expected = "".join(texts).replace("\n", "")
    assert whole == expected


def test_a_wrong_cursor_is_told() -> None:
    with pytest.raises(UsageError, match="is no cursor"):
        page(lambda start: [], "-3")
