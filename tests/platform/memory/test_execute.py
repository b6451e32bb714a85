"""What every operation answers, and what it stores."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from automem.memory.edits import apply_edit
from automem.memory.execute import Executor, ResultLimits
from automem.memory.ops import (
    AnyOp,
    Append,
    Count,
    Create,
    Delete,
    Edit,
    List,
    OpResult,
    OpStatus,
    Read,
    Replace,
    Search,
    Tail,
    Upsert,
    Write,
)
from automem.memory.sandbox import Sandbox

Do = Callable[[AnyOp], OpResult]
OK, EMPTY, UNCHANGED, ERROR = OpStatus.OK, OpStatus.EMPTY, OpStatus.UNCHANGED, OpStatus.ERROR


@pytest.fixture
def filled(sandbox: Sandbox) -> Sandbox:
    """Two files with something in them, and an empty one."""
    sandbox.rebuild(
        {
            "cards.txt": "05 K\n12 Q\n17 K\n",
            "map.txt": "cave: north\nKitchen: east\n",
            "none.txt": "",
        }
    )
    return sandbox


def planned(sandbox: Sandbox, op: AnyOp) -> tuple[OpResult, Edit | None]:
    return Executor(sandbox, ResultLimits(chars=400, lines=10), {"cards.txt": " "}).plan(op)


# Reading


def test_read_gives_the_lines_and_their_numbers(filled: Sandbox, do: Do) -> None:
    assert do(Read("cards.txt")) == OpResult(OK, "05 K\n12 Q\n17 K", {"cards.txt": [1, 2, 3]})
    assert do(Read("none.txt")) == OpResult(EMPTY, "empty")


def test_search_ignores_case_and_names_the_lines(filled: Sandbox, do: Do) -> None:
    assert do(Search("cards.txt", "k")) == OpResult(OK, "05 K\n17 K", {"cards.txt": [1, 3]})
    assert do(Search("cards.txt", "zebra")) == OpResult(EMPTY, "no match")
    assert do(Search("none.txt", "k")) == OpResult(EMPTY, "no match")


def test_search_over_all_files_names_the_file(filled: Sandbox, do: Do) -> None:
    result = do(Search("*", "K"))
    assert result.text == "cards.txt: 05 K\ncards.txt: 17 K\nmap.txt: Kitchen: east"
    assert result.lines == {"cards.txt": [1, 3], "map.txt": [2]}


def test_an_empty_keyword_is_answered_with_what_to_do(filled: Sandbox, do: Do) -> None:
    for op in (Search("cards.txt", ""), Search("*", ""), Count("cards.txt", "")):
        result = do(op)
        assert result.status is ERROR
        assert "READ shows a whole file" in result.text
    assert "single lines" in do(Search("cards.txt", "a\nb")).text


def test_tail_gives_the_last_lines(filled: Sandbox, do: Do) -> None:
    assert do(Tail("cards.txt", 2)) == OpResult(OK, "12 Q\n17 K", {"cards.txt": [2, 3]})
    assert do(Tail("cards.txt", 99)).text == "05 K\n12 Q\n17 K"
    assert do(Tail("none.txt", 3)) == OpResult(EMPTY, "empty")
    assert do(Tail("cards.txt", -1)).status is ERROR


def test_count_gives_a_number(filled: Sandbox, do: Do) -> None:
    assert do(Count("cards.txt", "k")) == OpResult(OK, "2")
    assert do(Count("cards.txt", "zebra")) == OpResult(EMPTY, "0")
    assert do(Count("*", "k")) == OpResult(OK, "3")


def test_list_gives_every_file_with_its_lines(filled: Sandbox, do: Do) -> None:
    assert do(List()) == OpResult(OK, "cards.txt 3\nmap.txt 2\nnone.txt 0")


def test_list_of_nothing_is_empty(do: Do) -> None:
    assert do(List()) == OpResult(EMPTY, "empty")


def test_a_long_result_is_cut_with_a_note(sandbox: Sandbox, do: Do) -> None:
    sandbox.rebuild({"a.txt": "".join(f"line {i}\n" for i in range(1, 26))})
    read, tail = do(Read("a.txt")), do(Tail("a.txt", 20))
    assert read.text.endswith("line 10\n... 15 more lines not shown")
    assert (read.cut, read.lines) == (15, {"a.txt": list(range(1, 11))})
    assert tail.text.startswith("line 16\n")
    assert tail.text.endswith("line 25\n... 10 more lines not shown")
    assert (tail.cut, tail.lines) == (10, {"a.txt": list(range(16, 26))})
    found = do(Search("*", "line"))
    assert (found.cut, len(found.lines["a.txt"])) == (15, 10)


def test_a_result_is_cut_by_its_characters_too(sandbox: Sandbox, do: Do) -> None:
    sandbox.rebuild({"a.txt": "".join(f"{i} {'x' * 150}\n" for i in range(5))})
    for op in (Read("a.txt"), Search("a.txt", "X"), Tail("a.txt", 5)):
        result = do(op)
        assert (result.cut, len(result.lines["a.txt"])) == (3, 2)
        assert result.text.endswith("... 3 more lines not shown")


def test_a_missing_file_is_answered_with_the_nearest_name(filled: Sandbox, do: Do) -> None:
    assert do(Read("card.txt")).text == "error: there is no card.txt; did you mean cards.txt?"
    assert "cards.txt, map.txt, none.txt" in do(Tail("zzzzzz", 1)).text
    for op in (Search("card.txt", "k"), Count("card.txt", "k"), Delete("card.txt")):
        assert "did you mean cards.txt?" in do(op).text


def test_a_missing_file_in_an_empty_memory_says_so(do: Do) -> None:
    assert do(Read("a.txt")).text == "error: there is no a.txt; there are no files yet"


# Writing


def test_append_adds_lines_and_makes_the_file(do: Do, sandbox: Sandbox) -> None:
    assert do(Append("a.txt", "one")) == OpResult(OK, "ok")
    assert do(Append("a.txt", "two\nthree\n")).status is OK
    assert sandbox.read_text("a.txt") == "one\ntwo\nthree\n"


def test_append_starts_a_line_of_its_own(do: Do, sandbox: Sandbox) -> None:
    sandbox.rebuild({"a.txt": "no newline at the end"})
    do(Append("a.txt", "next"))
    assert sandbox.read_text("a.txt") == "no newline at the end\nnext\n"


@pytest.mark.parametrize("text", ["", " ", "\n", "\r\n \t"])
def test_append_of_nothing_is_refused(do: Do, text: str) -> None:
    assert do(Append("a.txt", text)).text == "error: APPEND needs a text; give the line to add"


def test_line_ends_of_another_system_become_newlines(do: Do, sandbox: Sandbox) -> None:
    do(Write("a.txt", "one\r\ntwo\r\n"))
    do(Append("a.txt", "three\r\nfour"))
    do(Replace("a.txt", "two\r\nthree", "2\r\n3"))
    assert sandbox.read_text("a.txt") == "one\n2\n3\nfour\n"


def test_append_stores_the_appended_text_alone(filled: Sandbox) -> None:
    assert planned(filled, Append("cards.txt", "21 A"))[1] == Edit(
        "cards.txt", start=15, inserted="21 A\n"
    )


def test_write_replaces_everything(filled: Sandbox, do: Do) -> None:
    assert do(Write("cards.txt", "new")).status is OK
    assert filled.read_text("cards.txt") == "new\n"
    assert do(Write("cards.txt", "new\n")) == OpResult(UNCHANGED, "unchanged")
    assert do(Write("cards.txt", "")).status is OK
    assert do(Read("cards.txt")).status is EMPTY


def test_create_makes_an_empty_file_once(do: Do) -> None:
    assert do(Create("a.txt")).status is OK
    assert do(Read("a.txt")).status is EMPTY
    assert do(Create("a.txt")).text.startswith("error: a.txt exists already")


def test_delete_removes_the_file(filled: Sandbox, do: Do) -> None:
    assert do(Delete("cards.txt")).status is OK
    assert do(Delete("cards.txt")).status is ERROR


def test_upsert_sets_the_line_of_a_key(filled: Sandbox, do: Do) -> None:
    assert do(Upsert("cards.txt", "12", "A")).status is OK
    assert do(Upsert("cards.txt", "30", "J")).status is OK
    assert filled.read_text("cards.txt") == "05 K\n12 A\n17 K\n30 J\n"
    assert do(Upsert("cards.txt", "12", "A")) == OpResult(UNCHANGED, "unchanged")


def test_upsert_stores_the_changed_value_alone(filled: Sandbox) -> None:
    assert planned(filled, Upsert("map.txt", "cave", "north-west"))[1] == Edit(
        "map.txt", start=11, inserted="-west"
    )


def test_upsert_uses_the_separator_of_the_file(do: Do, sandbox: Sandbox) -> None:
    do(Upsert("cards.txt", "05", "K"))
    do(Upsert("other.txt", "05", "K"))
    assert sandbox.read_text("cards.txt") == "05 K\n"
    assert sandbox.read_text("other.txt") == "05: K\n"


def test_upsert_takes_the_key_exactly(filled: Sandbox, do: Do) -> None:
    do(Upsert("map.txt", "kitchen", "west"))
    do(Upsert("map.txt", "cav", "south"))
    assert filled.read_text("map.txt") == (
        "cave: north\nKitchen: east\nkitchen: west\ncav: south\n"
    )


def test_upsert_collapses_duplicates_of_a_key(do: Do, sandbox: Sandbox) -> None:
    sandbox.rebuild({"map.txt": "a: 1\nb: 1\na: 2\n\na: 3\n"})
    assert do(Upsert("map.txt", "a", "1")).status is OK
    assert sandbox.read_text("map.txt") == "a: 1\nb: 1\n\n"
    sandbox.rebuild({"map.txt": "a: 1\na: 1\nb: 2\n"})
    assert do(Upsert("map.txt", "a", "1")).status is OK
    assert sandbox.read_text("map.txt") == "a: 1\nb: 2\n"


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(lines=st.lists(st.sampled_from(["a: 1", "a: 2", "b: 1", "", "a:", "x a: 1"]), max_size=8))
def test_upsert_leaves_one_line_of_the_key_and_all_others(
    sandbox: Sandbox, do: Do, lines: list[str]
) -> None:
    sandbox.rebuild({"map.txt": "".join(f"{line}\n" for line in lines)})
    do(Upsert("map.txt", "a", "2"))
    after = sandbox.read_text("map.txt").split("\n")[:-1]
    assert [line for line in after if line.startswith("a: ")] == ["a: 2"]
    others = [line for line in lines if not line.startswith("a: ")]
    assert [line for line in after if not line.startswith("a: ")] == others


@pytest.mark.parametrize(("key", "text"), [("", "x"), (" ", "x"), ("a\nb", "x"), ("a", "x\ny")])
def test_upsert_sets_one_line_only(do: Do, key: str, text: str) -> None:
    assert do(Upsert("map.txt", key, text)).status is ERROR


def test_an_upsert_key_may_not_hold_the_separator(do: Do) -> None:
    assert "': '" in do(Upsert("map.txt", "a: b", "c")).text


def test_replace_needs_exactly_one_occurrence(filled: Sandbox, do: Do) -> None:
    assert do(Replace("map.txt", "north", "south")).status is OK
    assert filled.read_text("map.txt") == "cave: south\nKitchen: east\n"
    assert "more than once" in do(Replace("cards.txt", " K", " A")).text
    assert "is not in cards.txt" in do(Replace("cards.txt", "Z", "A")).text
    assert do(Replace("cards.txt", "", "A")).status is ERROR
    assert do(Replace("cards.txt", "05 K", "05 K")).status is UNCHANGED


def test_replace_sees_overlapping_occurrences(do: Do, sandbox: Sandbox) -> None:
    sandbox.rebuild({"a.txt": "aaa"})
    assert "more than once" in do(Replace("a.txt", "aa", "b")).text


def test_planning_changes_nothing(filled: Sandbox, folder: Path) -> None:
    before = {info.name: filled.read_text(info.name) for info in filled.listing()}
    for op in (Append("cards.txt", "x"), Write("new.txt", "x"), Delete("map.txt")):
        assert planned(filled, op)[1] is not None
    assert {info.name: filled.read_text(info.name) for info in filled.listing()} == before


NAMES = st.sampled_from(["a.txt", "b.txt", "d/c.txt"])
KEYS = st.sampled_from(["k", "key", "K", "k: "])
TEXTS = st.text(alphabet=st.sampled_from("ab:k \n\ré"), max_size=12)
OPS = st.one_of(
    st.builds(Append, NAMES, TEXTS),
    st.builds(Write, NAMES, TEXTS),
    st.builds(Create, NAMES),
    st.builds(Delete, NAMES),
    st.builds(Upsert, NAMES, KEYS, TEXTS),
    st.builds(Replace, NAMES, TEXTS, TEXTS),
    st.builds(Search, st.just("*"), TEXTS),
    st.builds(Tail, NAMES, st.integers(0, 5)),
)


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(ops=st.lists(OPS, max_size=25))
def test_folding_the_edits_gives_the_folder_back(sandbox: Sandbox, ops: list[AnyOp]) -> None:
    sandbox.rebuild({})
    executor = Executor(sandbox)
    folded: dict[str, str] = {}
    for op in ops:
        result, edit = executor.plan(op)
        assert (edit is not None) == (result.status is OK and op.name not in ("SEARCH", "TAIL"))
        if edit is None:
            continue
        sandbox.apply(edit)
        text = apply_edit(folded.get(edit.file), edit)
        if text is None:
            del folded[edit.file]
        else:
            folded[edit.file] = text
        if isinstance(op, Append | Write) and text:
            assert text.endswith("\n")
    held = {info.name: sandbox.read_text(info.name) for info in sandbox.listing()}
    assert held == folded
