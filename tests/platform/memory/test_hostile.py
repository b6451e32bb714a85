"""Hostile names, files planted in the folder and contents: an error to read, nothing else.

Everything here is real: links, FIFOs, sparse files.
"""

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from automem.memory.execute import Executor
from automem.memory.ops import (
    AnyOp,
    Append,
    Count,
    Create,
    Delete,
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
from automem.memory.sandbox import Quota, Sandbox

Do = Callable[[AnyOp], OpResult]

BAD_NAMES = [
    "../secret.txt",
    "a/../../secret.txt",
    "..",
    ".",
    "./a.txt",
    "a//b.txt",
    "a/",
    "/etc/passwd",
    "/",
    "",
    " ",
    "a\x00.txt",
    "a\n.txt",
    "a\x1b[31m.txt",
    "a\u202etxt",
    "a\u200b.txt",
    "x" * 300,
    "x" * 65,
    "/".join("abcde"),
    ".hidden",
    "a/.hidden",
    ".automem-tmp-1",
    "-rf",
    "~/a.txt",
    "a b.txt",
    "c:\\a.txt",
    "a\\..\\b.txt",
    "*.txt",
    "%2e%2e/a.txt",
    "\u0430.txt",  # Cyrillic a
    "\uff0e\uff0e/a.txt",  # full-width dots
    "a\u2215b.txt",  # a slash that is none
    "٣.txt",  # a digit, but not one of ours
    "\ud800.txt",
]


def every_op(file: str) -> list[AnyOp]:
    """Each operation on a file, with ordinary arguments."""
    return [
        Read(file),
        Search(file, "a"),
        Tail(file, 3),
        Count(file, "a"),
        Append(file, "text"),
        Write(file, "text"),
        Create(file),
        Upsert(file, "key", "text"),
        Replace(file, "old", "new"),
        Delete(file),
    ]


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file outside the memory folder that nobody may see or change."""
    path = tmp_path / "secret.txt"
    path.write_text("TOP SECRET old\n")
    return path


def assert_refused(result: OpResult, tmp_path: Path) -> None:
    assert result.status is OpStatus.ERROR
    assert result.text.startswith("error: ")
    assert "SECRET" not in result.text
    assert str(tmp_path) not in result.text
    assert result.text.isprintable()


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
def test_a_bad_name_is_refused_by_every_operation(
    do: Do, secret: Path, tmp_path: Path, folder: Path, name: str
) -> None:
    for op in every_op(name):
        assert_refused(do(op), tmp_path)
    assert os.listdir(folder) == []
    assert secret.read_text() == "TOP SECRET old\n"


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(name=st.text(max_size=80), text=st.text(max_size=80), number=st.integers(-5, 10**12))
def test_no_name_or_text_makes_an_operation_raise(
    sandbox: Sandbox, tmp_path: Path, name: str, text: str, number: int
) -> None:
    executor = Executor(sandbox)
    ops: list[AnyOp] = [
        *every_op(name),
        Tail("good.txt", number),
        Append("good.txt", text),
        Write("good.txt", text),
        Upsert("good.txt", name, text),
        Replace("good.txt", name, text),
        Search("good.txt", text),
        Count("*", text),
        Search("*", text),
        List(),
    ]
    for op in ops:
        result, edit = executor.plan(op)
        assert str(tmp_path) not in result.text
        assert (edit is None) or result.status is OpStatus.OK
        if edit is not None:
            sandbox.apply(edit)
    assert {path.name for path in tmp_path.iterdir()} == {"memory"}


def test_a_name_that_spells_the_folders_own_path_learns_nothing(
    do: Do, folder: Path, tmp_path: Path
) -> None:
    for op in every_op(str(folder / "a.txt")):
        assert_refused(do(op), tmp_path)


# Planted in the folder


def plant_link(path: Path, secret: Path) -> None:
    path.symlink_to(secret)


def plant_hard_link(path: Path, secret: Path) -> None:
    path.hardlink_to(secret)


def plant_fifo(path: Path, secret: Path) -> None:
    os.mkfifo(path)


def plant_socket(path: Path, secret: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(path.parent)  # socket names are short
        try:
            server.bind(path.name)
        finally:
            os.chdir(here)


def plant_folder(path: Path, secret: Path) -> None:
    path.mkdir()


def plant_dangling_link(path: Path, secret: Path) -> None:
    path.symlink_to(path.parent.parent / "made-by-a-write.txt")


def plant_device(path: Path, secret: Path) -> None:
    try:
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero has no end
    except PermissionError:
        pytest.skip("only root makes device files")


PLANTERS = [
    plant_link,
    plant_hard_link,
    plant_fifo,
    plant_socket,
    plant_folder,
    plant_dangling_link,
    plant_device,
]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("plant", PLANTERS, ids=lambda plant: plant.__name__)
def test_something_planted_is_refused_by_every_operation(
    do: Do, sandbox: Sandbox, folder: Path, secret: Path, tmp_path: Path, plant: Callable[..., None]
) -> None:
    plant(folder / "a.txt", secret)
    for op in every_op("a.txt"):
        assert_refused(do(op), tmp_path)
    assert do(List()).text == "empty"
    assert do(Search("*", "secret")).text == "no match"
    assert do(Append("b.txt", "others work")).status is OpStatus.OK
    assert secret.read_text() == "TOP SECRET old\n"
    assert not (tmp_path / "made-by-a-write.txt").exists()
    sandbox.rebuild({"b.txt": "others work\n"})
    assert os.listdir(folder) == ["b.txt"]
    assert secret.read_text() == "TOP SECRET old\n"


def test_a_linked_folder_leads_nowhere(do: Do, folder: Path, tmp_path: Path, secret: Path) -> None:
    (folder / "up").symlink_to("..")
    for op in [*every_op("up/secret.txt"), *every_op("up/new.txt"), *every_op("up")]:
        assert_refused(do(op), tmp_path)
    assert do(List()).text == "empty"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["memory", "secret.txt"]


def test_a_folder_swapped_for_a_link_between_plan_and_apply_is_noticed(
    sandbox: Sandbox, folder: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.txt").write_text("theirs\n")
    sandbox.rebuild({"notes/a.txt": "ours\n"})
    _, edit = Executor(sandbox).plan(Append("notes/a.txt", "more"))
    assert edit is not None
    os.rename(folder / "notes", folder / "moved")
    (folder / "notes").symlink_to(outside)
    with pytest.raises(Exception, match="not a plain file"):
        sandbox.apply(edit)
    assert [info.name for info in sandbox.listing()] == ["moved/a.txt"]
    assert (outside / "a.txt").read_text() == "theirs\n"
    assert os.listdir(outside) == ["a.txt"]


def test_a_folder_swapped_for_a_link_again_and_again_never_leads_outside(
    sandbox: Sandbox, folder: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.txt").write_text("TOP SECRET\n")
    sandbox.rebuild({"notes/a.txt": "ours\n"})
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            os.rename(folder / "notes", folder / "aside")
            os.symlink(outside, folder / "notes")
            os.unlink(folder / "notes")
            os.rename(folder / "aside", folder / "notes")

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        executor = Executor(sandbox)
        for _ in range(300):
            assert "SECRET" not in executor.plan(Read("notes/a.txt"))[0].text
            assert "SECRET" not in executor.plan(Search("*", "e"))[0].text
    finally:
        stop.set()
        swapper.join()
    assert (outside / "a.txt").read_text() == "TOP SECRET\n"


def test_the_memory_folder_itself_swapped_for_a_link_is_noticed(
    sandbox: Sandbox, folder: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    sandbox.rebuild({"a.txt": "ours\n"})
    os.rename(folder, tmp_path / "moved")
    folder.symlink_to(outside)
    _, edit = Executor(sandbox).plan(Append("a.txt", "more"))
    assert edit is not None
    sandbox.apply(edit)  # beneath the folder that was opened, wherever that is now
    assert (tmp_path / "moved" / "a.txt").read_text() == "ours\nmore\n"
    with pytest.raises(Exception, match="moved or replaced"):
        sandbox.rebuild({"a.txt": "new"})
    assert os.listdir(outside) == []


def test_folders_planted_too_deep_do_no_harm(do: Do, sandbox: Sandbox, folder: Path) -> None:
    here = os.getcwd()
    os.chdir(folder)
    try:
        for _ in range(300):
            os.mkdir("d")
            os.chdir("d")
    finally:
        os.chdir(here)
    assert do(List()).text == "empty"
    sandbox.rebuild({"a.txt": ""})
    assert os.listdir(folder) == ["a.txt"]


# Contents


def test_a_file_of_100_megabytes_is_refused_without_reading_it(
    do: Do, folder: Path, tmp_path: Path
) -> None:
    with open(folder / "big.txt", "wb") as file:
        file.truncate(100_000_000)
    for op in [*every_op("big.txt")[:6], Upsert("big.txt", "k", "t"), Replace("big.txt", "a", "b")]:
        assert_refused(do(op), tmp_path)
    assert do(List()).text == "big.txt 0"
    assert do(Append("a.txt", "others work")).status is OpStatus.OK
    assert do(Search("*", "work")).text == "a.txt: others work\n... could not search big.txt"
    assert do(Delete("big.txt")).status is OpStatus.OK


def test_a_million_lines_are_read_searched_and_written_to(folder: Path) -> None:
    sandbox = Sandbox.open(folder, Quota(file_bytes=20_000_000, total_bytes=50_000_000))
    sandbox.rebuild({"a.txt": "".join(f"line {i}\n" for i in range(1_000_000))})
    executor = Executor(sandbox)
    assert executor.plan(Read("a.txt"))[0].cut > 999_000
    assert executor.plan(Count("a.txt", "LINE"))[0].text == "1000000"
    assert executor.plan(Search("a.txt", "line 999999"))[0].lines == {"a.txt": [1_000_000]}
    assert executor.plan(Tail("a.txt", 2))[0].text == "line 999998\nline 999999"
    result, edit = executor.plan(Append("a.txt", "the last"))
    assert result.status is OpStatus.OK
    assert edit is not None
    assert edit.inserted == "the last\n"
    sandbox.apply(edit)
    assert sandbox.listing()[0].lines == 1_000_001
    sandbox.close()


def test_one_line_of_a_megabyte_shows_its_beginning(folder: Path) -> None:
    sandbox = Sandbox.open(folder)
    sandbox.rebuild({"a.txt": "x" * 900_000 + "\n"})
    for op in (Read("a.txt"), Tail("a.txt", 1), Search("a.txt", "XX")):
        result = Executor(sandbox).plan(op)[0]
        assert len(result.text) <= 8_000
        assert result.lines == {"a.txt": [1]}
    sandbox.close()


@pytest.mark.parametrize("data", [b"\xff\xfe", b"ok\n\xc3", b"\xed\xa0\x80", b"\xc0\xaf"])
def test_a_file_that_is_not_utf8_is_refused_with_what_to_do(
    do: Do, folder: Path, tmp_path: Path, data: bytes
) -> None:
    (folder / "bad.txt").write_bytes(data)
    for op in every_op("bad.txt")[:-1]:
        assert_refused(do(op), tmp_path)
    assert "DELETE it" in do(Read("bad.txt")).text
    assert do(Delete("bad.txt")).status is OpStatus.OK
    assert do(Append("bad.txt", "good")).status is OpStatus.OK


@pytest.mark.parametrize(
    "text", ["a\x00b", "a\rb", "\x1b[2J", "\x7f", "a\x85b", "a\u2028b", "\udcff"]
)
def test_control_characters_are_refused_in_everything_written(do: Do, text: str) -> None:
    do(Write("a.txt", "old\n"))
    for op in (
        Append("a.txt", text),
        Write("a.txt", text),
        Upsert("a.txt", "k", text),
        Upsert("a.txt", text, "v"),
        Replace("a.txt", "old", text),
    ):
        assert "control character" in do(op).text
    assert do(Read("a.txt")).text == "old"
