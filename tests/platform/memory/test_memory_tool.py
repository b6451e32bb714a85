"""The memory_20250818 commands: published words, planned before they are applied."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from automem.memory.dialects.memory_tool import MemoryAnswer, MemoryTool
from automem.memory.execute import Executor
from automem.memory.ops import Edit
from automem.memory.sandbox import Sandbox

Run = Callable[..., MemoryAnswer]


@pytest.fixture
def run(sandbox: Sandbox) -> Run:
    """Plan a command and apply its edits."""
    tool = MemoryTool(sandbox, Executor(sandbox))

    def carry_out(command: str, **fields: Any) -> MemoryAnswer:
        answer = tool.run({"command": command, **fields})
        for edit in answer.edits:
            sandbox.apply(edit)
        return answer

    return carry_out


def test_create_then_view(run: Run) -> None:
    path = "/memories/notes.txt"
    created = run("create", path=path, file_text="Hello World\nThis is line two")
    assert created.text == "File created successfully at: /memories/notes.txt"
    assert run("view", path=path).text == (
        "Here's the content of /memories/notes.txt with line numbers:\n"
        "     1\tHello World\n     2\tThis is line two"
    )
    again = run("create", path=path, file_text="x")
    assert (again.text, again.is_error) == (f"Error: File {path} already exists", True)


def test_view_shows_a_range(run: Run, sandbox: Sandbox) -> None:
    sandbox.rebuild({"a.txt": "1\n2\n3\n4\n"})
    shown = run("view", path="/memories/a.txt", view_range=[2, 3]).text
    assert shown.endswith("line numbers:\n     2\t2\n     3\t3")
    assert run("view", path="/memories/a.txt", view_range=[3, -1]).text.endswith("     4\t4")
    for wrong in ([0, 1], [3, 2], [1], "1-2", [1, 2, 3], ["1", "2"]):
        assert "`view_range`" in run("view", path="/memories/a.txt", view_range=wrong).text


def test_view_lists_two_levels_with_sizes(run: Run, sandbox: Sandbox) -> None:
    sandbox.rebuild({"a.txt": "x" * 1536, "d/b.txt": "x" * 10, "d/e/f.txt": "x" * 14})
    assert run("view", path="/memories").text == (
        "Here're the files and directories up to 2 levels deep in /memories, "
        "excluding hidden items and node_modules:\n"
        "1.5K\t/memories\n1.5K\t/memories/a.txt\n24B\t/memories/d/\n10B\t/memories/d/b.txt\n"
        "14B\t/memories/d/e/"
    )
    assert "14B\t/memories/d/e/f.txt" in run("view", path="/memories/d/").text


def test_view_of_nothing(run: Run) -> None:
    assert run("view", path="/memories").text.endswith("node_modules:\n0B\t/memories")
    missing = run("view", path="/memories/a.txt")
    assert missing.is_error
    assert missing.text == ("The path /memories/a.txt does not exist. Please provide a valid path.")


def test_str_replace(run: Run, sandbox: Sandbox) -> None:
    path = "/memories/a.txt"
    sandbox.rebuild({"a.txt": "one\ncolor: blue\nthree\ncolor: red\n"})
    edited = run("str_replace", path=path, old_str="blue", new_str="green")
    assert edited.text.startswith(
        "The memory file has been edited.\n     1\tone\n     2\tcolor: gr"
    )
    assert edited.edits == (Edit("a.txt", start=11, removed=4, inserted="green"),)
    assert sandbox.read_text("a.txt") == "one\ncolor: green\nthree\ncolor: red\n"
    assert run("str_replace", path=path, old_str="pink", new_str="x").text == (
        "No replacement was performed, old_str `pink` did not appear verbatim in /memories/a.txt."
    )
    assert run("str_replace", path=path, old_str="color", new_str="x").text == (
        "No replacement was performed. Multiple occurrences of old_str `color` in lines: 2, 4. "
        "Please ensure it is unique"
    )
    assert run("str_replace", path="/memories/b.txt", old_str="a", new_str="b").text == (
        "Error: The path /memories/b.txt does not exist. Please provide a valid path."
    )
    run("str_replace", path=path, old_str="three\n")
    assert sandbox.read_text("a.txt") == "one\ncolor: green\ncolor: red\n"


@pytest.mark.parametrize(
    ("line", "expected"), [(0, "new\na\nb"), (1, "a\nnew\nb"), (2, "a\nb\nnew\n")]
)
def test_insert(run: Run, sandbox: Sandbox, line: int, expected: str) -> None:
    sandbox.rebuild({"a.txt": "a\nb"})
    answer = run("insert", path="/memories/a.txt", insert_line=line, insert_text="new")
    assert answer.text == "The file /memories/a.txt has been edited."
    assert sandbox.read_text("a.txt") == expected


@pytest.mark.parametrize("line", [-1, 3, 10**9])
def test_insert_outside_the_file(run: Run, sandbox: Sandbox, line: int) -> None:
    sandbox.rebuild({"a.txt": "a\nb\n"})
    assert run("insert", path="/memories/a.txt", insert_line=line, insert_text="x").text == (
        f"Error: Invalid `insert_line` parameter: {line}. "
        "It should be within the range of lines of the file: [0, 2]"
    )
    missing = run("insert", path="/memories/b.txt", insert_line=0, insert_text="x")
    assert missing.text == "Error: The path /memories/b.txt does not exist"


def test_delete_a_file_and_a_folder(run: Run, sandbox: Sandbox) -> None:
    sandbox.rebuild({"a.txt": "", "d/b.txt": "", "d/e/f.txt": "", "da.txt": ""})
    assert run("delete", path="/memories/a.txt").text == "Successfully deleted /memories/a.txt"
    assert run("delete", path="/memories/d").text == "Successfully deleted /memories/d"
    assert [info.name for info in sandbox.listing()] == ["da.txt"]
    missing = run("delete", path="/memories/d")
    assert missing.text == "Error: The path /memories/d does not exist"
    assert run("delete", path="/memories").is_error


def test_rename_a_file_and_a_folder(run: Run, sandbox: Sandbox) -> None:
    sandbox.rebuild({"a.txt": "1", "d/b.txt": "2", "d/e/f.txt": "3"})
    renamed = run("rename", old_path="/memories/a.txt", new_path="/memories/x/y.txt")
    assert renamed.text == "Successfully renamed /memories/a.txt to /memories/x/y.txt"
    assert renamed.edits == (
        Edit("x/y.txt", inserted="1", creates=True),
        Edit("a.txt", deletes=True),
    )
    run("rename", old_path="/memories/d", new_path="/memories/g")
    assert {info.name: sandbox.read_text(info.name) for info in sandbox.listing()} == {
        "g/b.txt": "2",
        "g/e/f.txt": "3",
        "x/y.txt": "1",
    }


def test_rename_overwrites_nothing(run: Run, sandbox: Sandbox) -> None:
    sandbox.rebuild({"a.txt": "1", "b.txt": "2", "d/c.txt": "3"})
    for old, new, text in (
        ("a.txt", "b.txt", "Error: The destination /memories/b.txt already exists"),
        ("a.txt", "d", "Error: The destination /memories/d already exists"),
        ("z.txt", "y.txt", "Error: The path /memories/z.txt does not exist"),
    ):
        answer = run("rename", old_path=f"/memories/{old}", new_path=f"/memories/{new}")
        assert (answer.text, answer.edits) == (text, ())
    into_itself = run("rename", old_path="/memories/d", new_path="/memories/d/e")
    assert into_itself.is_error
    too_deep = run("rename", old_path="/memories/d", new_path="/memories/1/2/3/4")
    assert too_deep.is_error
    assert len(sandbox.listing()) == 3


PATHS_OUTSIDE = [
    "/etc/passwd",
    "a.txt",
    "/memories/../etc/passwd",
    "/memoriesx/a",
    "/memories//a",
    "/memories/%2e%2e/a",
    "/memories/a\x00",
    "/memories/.hidden",
    "/memories/" + "x" * 300,
    "/memories/\ud800",
    "/",
    "",
]


@pytest.mark.parametrize("path", PATHS_OUTSIDE, ids=ascii)
def test_a_path_outside_is_refused_by_every_command(run: Run, sandbox: Sandbox, path: str) -> None:
    sandbox.rebuild({"a.txt": "text"})
    for answer in (
        run("view", path=path),
        run("create", path=path, file_text="x"),
        run("str_replace", path=path, old_str="a", new_str="b"),
        run("insert", path=path, insert_line=0, insert_text="x"),
        run("delete", path=path),
        run("rename", old_path=path, new_path="/memories/b.txt"),
        run("rename", old_path="/memories/a.txt", new_path=path),
    ):
        assert answer.is_error
        assert answer.text.startswith("Error: ")
        assert "passwd" not in answer.text
    assert sandbox.read_text("a.txt") == "text"


def test_quotas_and_control_characters_hold_here_too(run: Run, sandbox: Sandbox) -> None:
    sandbox.rebuild({"a.txt": "a\n"})
    big, bad = "x" * 3000, "a\x00"
    for text in (big, bad):
        assert run("create", path="/memories/b.txt", file_text=text).is_error
        assert run("insert", path="/memories/a.txt", insert_line=0, insert_text=text).is_error
        assert run("str_replace", path="/memories/a.txt", old_str="a", new_str=text).is_error
    assert [(info.name, info.bytes) for info in sandbox.listing()] == [("a.txt", 2)]


VALUE = (
    st.none()
    | st.text(max_size=20)
    | st.just("\ud800")
    | st.integers()
    | st.lists(st.integers(), max_size=3)
)
KEYS = ["path", "file_text", "old_str", "new_str", "insert_line", "insert_text", "view_range"]
PATHS = st.sampled_from(["/memories", "/memories/a.txt", "/memories/d", "/memories/d/b.txt"])
COMMAND = st.dictionaries(st.sampled_from([*KEYS, "old_path", "new_path"]), VALUE | PATHS)
COMMANDS = st.sampled_from(["view", "create", "str_replace", "insert", "delete", "rename", "x", 3])


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(COMMANDS, COMMAND)
def test_no_command_raises(sandbox: Sandbox, name: object, fields: dict[str, Any]) -> None:
    sandbox.rebuild({"a.txt": "text\n", "d/b.txt": "1"})
    answer = MemoryTool(sandbox, Executor(sandbox)).run({"command": name, **fields})
    for edit in answer.edits:
        sandbox.apply(edit)
    assert answer.text.encode()
