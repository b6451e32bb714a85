"""The sandbox in ordinary use: files in, files out, nothing lost."""

import os
import stat
from pathlib import Path

import pytest

from automem.errors import SandboxError, StoreError
from automem.memory.edits import edit_between
from automem.memory.names import OpRefused
from automem.memory.ops import Edit
from automem.memory.sandbox import FileInfo, Quota, Sandbox


def put(sandbox: Sandbox, name: str, text: str | None) -> None:
    """Make a file have this text (None: be gone)."""
    edit = edit_between(name, sandbox.find_text(name), text)
    if edit is not None:
        sandbox.apply(edit)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_written_is_read(sandbox: Sandbox) -> None:
    put(sandbox, "a.txt", "one\ntwo é\n")
    put(sandbox, "notes/cave/deep.txt", "x")
    assert sandbox.read_text("a.txt") == "one\ntwo é\n"
    assert sandbox.listing() == [
        FileInfo("a.txt", lines=2, bytes=11),
        FileInfo("notes/cave/deep.txt", lines=1, bytes=1),
    ]


def test_only_the_user_may_look_into_it(sandbox: Sandbox, folder: Path) -> None:
    previous = os.umask(0)
    try:
        put(sandbox, "notes/a.txt", "x")
    finally:
        os.umask(previous)
    assert mode(folder) == mode(folder / "notes") == 0o700
    assert mode(folder / "notes" / "a.txt") == 0o600


def test_an_existing_folder_is_made_private(tmp_path: Path) -> None:
    folder = tmp_path / "memory"
    folder.mkdir(mode=0o755)
    Sandbox.open(folder).close()
    assert mode(folder) == 0o700


def test_the_listing_follows_every_change(sandbox: Sandbox, folder: Path) -> None:
    texts = ["a\n", "b\n", "a\nb\n", "c", "", "a\nb\nc\n", "d\n"]
    for text in texts:  # inode numbers are reused at once: a cache by inode alone would be wrong
        put(sandbox, "a.txt", text)
        assert sandbox.listing() == [FileInfo("a.txt", len(text.splitlines()), len(text))]
    (folder / "a.txt").write_text("changed from outside\nby someone\n")
    assert sandbox.listing()[0].lines == 2
    (folder / "a.txt").unlink()
    assert sandbox.listing() == []


def test_an_unchanged_file_is_not_read_again(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(sandbox, "a.txt", "one\n")
    first = sandbox.listing()

    def refuse(descriptor: int, size: int) -> bytes:
        raise AssertionError("an unchanged file was read")

    monkeypatch.setattr(os, "read", refuse)
    assert sandbox.listing() == first


def test_deleting_the_last_file_of_a_folder_removes_the_folder(
    sandbox: Sandbox, folder: Path
) -> None:
    put(sandbox, "a/b/one.txt", "1")
    put(sandbox, "a/two.txt", "2")
    put(sandbox, "a/b/one.txt", None)
    assert sorted(os.listdir(folder / "a")) == ["two.txt"]
    put(sandbox, "a/two.txt", None)
    assert os.listdir(folder) == []


def test_deleting_twice_is_harmless(sandbox: Sandbox) -> None:
    put(sandbox, "a.txt", "1")
    sandbox.apply(Edit("a.txt", deletes=True))
    sandbox.apply(Edit("a.txt", deletes=True))
    assert sandbox.listing() == []


def test_rebuilding_makes_the_folder_exactly_what_is_asked(sandbox: Sandbox, folder: Path) -> None:
    put(sandbox, "old.txt", "old")
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "x").write_text("x")
    (folder / "link").symlink_to("/etc/passwd")
    os.mkfifo(folder / "pipe")
    sandbox.rebuild({"a.txt": "1\n", "b/c.txt": ""})
    found = {str(p.relative_to(folder)) for p in folder.rglob("*")}
    assert found == {"a.txt", "b", "b/c.txt"}
    assert sandbox.read_text("a.txt") == "1\n"
    sandbox.rebuild({})
    assert os.listdir(folder) == []


def test_rebuilding_refuses_bad_names_before_it_removes_anything(sandbox: Sandbox) -> None:
    put(sandbox, "a.txt", "kept")
    with pytest.raises(OpRefused):
        sandbox.rebuild({"good.txt": "", "../bad.txt": ""})
    assert sandbox.read_text("a.txt") == "kept"


def test_a_stalled_writer_cannot_write_into_a_rebuilt_folder(folder: Path) -> None:
    stalled = Sandbox.open(folder)
    put(stalled, "a.txt", "old")
    newer = Sandbox.open(folder)
    newer.rebuild({"a.txt": "new"})
    with pytest.raises(StoreError):
        stalled.apply(Edit("a.txt", start=3, inserted=" late"))
    assert newer.read_text("a.txt") == "new"
    stalled.close()
    newer.close()


def test_opening_removes_what_a_killed_write_left_behind(folder: Path) -> None:
    sandbox = Sandbox.open(folder)
    put(sandbox, "a/b.txt", "kept")
    (folder / ".automem-tmp-1-1").write_text("half")
    (folder / "a" / ".automem-tmp-1-2").write_text("half")
    assert [info.name for info in sandbox.listing()] == ["a/b.txt"]
    sandbox.close()
    Sandbox.open(folder).close()
    assert os.listdir(folder) == ["a"]
    assert os.listdir(folder / "a") == ["b.txt"]


def test_a_write_leaves_nothing_but_the_file(sandbox: Sandbox, folder: Path) -> None:
    put(sandbox, "a.txt", "1")
    put(sandbox, "a.txt", "2")
    assert os.listdir(folder) == ["a.txt"]


def test_writes_may_be_forced_to_the_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(fd), real(fd))[1])
    sandbox = Sandbox.open(folder, fsync=True)
    put(sandbox, "a.txt", "1")
    put(sandbox, "a.txt", "2")
    assert len(synced) == 4  # the file and its folder, twice
    assert sandbox.read_text("a.txt") == "2"
    sandbox.close()


def test_a_folder_that_is_a_link_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "memory").symlink_to("real")
    with pytest.raises(SandboxError, match="no link"):
        Sandbox.open(tmp_path / "memory")


def test_no_descriptor_is_left_open(folder: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    sandbox = Sandbox.open(folder, Quota(file_bytes=100))
    put(sandbox, "a/b/c.txt", "x")
    (folder / "big.txt").write_text("x" * 200)
    (folder / "link.txt").symlink_to("/etc/passwd")
    for name in ("missing.txt", "big.txt", "link.txt", "a", "a/b/c.txt", "a/b/c.txt/d"):
        try:
            sandbox.read_text(name)
        except OpRefused:
            continue
    sandbox.listing()
    sandbox.rebuild({"x/y.txt": "1"})
    sandbox.close()
    assert len(os.listdir("/proc/self/fd")) == before
