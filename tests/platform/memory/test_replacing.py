"""Large files: written over a spare instead of anew, with the same promises; what is kept."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from automem.errors import StoreError
from automem.memory.contents import ContentCache, signature_of
from automem.memory.ops import Edit
from automem.memory.sandbox import Sandbox

LARGE = "0123456789abcde\n" * 4096


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "memory"


@pytest.fixture
def sandbox(folder: Path) -> Iterator[Sandbox]:
    sandbox = Sandbox.open(folder)
    sandbox.rebuild({"a.txt": LARGE, "d/b.txt": LARGE})
    yield sandbox
    sandbox.close()


def append(sandbox: Sandbox, name: str, text: str) -> None:
    sandbox.apply(Edit(name, start=len(sandbox.read_text(name)), inserted=text))


def spares(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name.startswith(".automem-tmp-")]


def test_large_files_share_one_spare_that_nobody_sees(sandbox: Sandbox, folder: Path) -> None:
    for number in range(5):
        append(sandbox, "a.txt", f"a{number}\n")
        append(sandbox, "d/b.txt", f"b{number}\n")
        assert len(spares(folder)) == 1
    assert sandbox.read_text("a.txt") == LARGE + "a0\na1\na2\na3\na4\n"
    assert sandbox.read_text("d/b.txt") == LARGE + "b0\nb1\nb2\nb3\nb4\n"
    assert [info.name for info in sandbox.listing()] == ["a.txt", "d/b.txt"]
    sandbox.close()
    assert sorted(os.listdir(folder)) == ["a.txt", "d"]


def test_a_shorter_text_over_a_longer_spare_has_no_old_end(sandbox: Sandbox) -> None:
    append(sandbox, "a.txt", "x" * 50_000)
    append(sandbox, "a.txt", "y")
    sandbox.apply(Edit("a.txt", start=0, removed=len(LARGE) // 2, inserted=""))
    assert sandbox.read_text("a.txt") == LARGE[len(LARGE) // 2 :] + "x" * 50_000 + "y"


def test_a_small_file_needs_no_spare(sandbox: Sandbox, folder: Path) -> None:
    sandbox.rebuild({"a.txt": "one\n"})
    append(sandbox, "a.txt", "two\n")
    assert spares(folder) == []


@pytest.mark.parametrize("kind", ["link", "hard link", "pipe", "folder", "nothing"])
def test_what_is_planted_in_the_place_of_the_spare_is_not_written_to(
    kind: str, sandbox: Sandbox, folder: Path, tmp_path: Path
) -> None:
    theirs = tmp_path / "theirs.txt"
    theirs.write_text("theirs")
    append(sandbox, "a.txt", "1\n")
    [spare] = spares(folder)
    (folder / spare).unlink()
    match kind:
        case "link":
            (folder / spare).symlink_to(theirs)
        case "hard link":
            os.link(theirs, folder / spare)
        case "pipe":
            os.mkfifo(folder / spare)
        case "folder":
            (folder / spare).mkdir()
    append(sandbox, "a.txt", "2\n")
    append(sandbox, "a.txt", "3\n")
    assert sandbox.read_text("a.txt") == LARGE + "1\n2\n3\n"
    assert theirs.read_text() == "theirs"


def test_a_write_that_fails_keeps_the_old_text_and_gives_the_spare_back(
    sandbox: Sandbox, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(sandbox, "a.txt", "1\n")

    real_writev = os.writev

    def fills_the_disk(descriptor: int, parts: list[bytes]) -> int:
        return real_writev(descriptor, [parts[0][:1000]])

    def full(descriptor: int, data: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "writev", fills_the_disk)
        patch.setattr(os, "write", full)
        with pytest.raises(StoreError, match="No space left"):
            append(sandbox, "a.txt", "2\n")
    assert sandbox.read_text("a.txt") == LARGE + "1\n"
    assert spares(folder) == []
    append(sandbox, "a.txt", "3\n")
    assert sandbox.read_text("a.txt") == LARGE + "1\n3\n"


def test_a_file_edited_in_place_is_read_again(sandbox: Sandbox, folder: Path) -> None:
    wait_until_kept(sandbox, "a.txt")
    (folder / "a.txt").write_text(LARGE.upper())
    assert sandbox.read_text("a.txt") == LARGE.upper()


def test_a_settled_file_is_read_once(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    wait_until_kept(sandbox, "a.txt")

    def refuse(descriptor: int, size: int) -> bytes:
        raise AssertionError("an unchanged file was read")

    monkeypatch.setattr(os, "read", refuse)
    assert sandbox.read_text("a.txt") == LARGE


def test_an_operation_is_applied_to_what_it_was_planned_on_without_reading_it_again(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sandbox.read_text("a.txt") == LARGE

    def refuse(descriptor: int, size: int) -> bytes:
        raise AssertionError("the file was read twice")

    with monkeypatch.context() as patch:
        patch.setattr(os, "read", refuse)
        sandbox.apply(Edit("a.txt", start=0, removed=1, inserted="9"))
    assert sandbox.read_text("a.txt") == "9" + LARGE[1:]


def wait_until_kept(sandbox: Sandbox, name: str) -> None:
    """Until the file's times are old enough to tell every later change."""
    deadline = time.monotonic() + 10
    while sandbox.read_bytes(name) is not sandbox.read_bytes(name):
        assert time.monotonic() < deadline


def test_what_is_kept_is_bounded_and_the_oldest_goes_first(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a", "b", "c")]
    for path in paths:
        path.write_bytes(b"x" * 100_000)
    cache, deadline = ContentCache(), time.monotonic() + 10
    ahead = time.time_ns() + 60 * 10**9  # however slow the machine, that is not long ago
    os.utime(paths[2], ns=(ahead, ahead))
    cache.put("c", paths[2].stat(), paths[2].read_bytes())
    assert cache.get("c", signature_of(paths[2].stat())) is None, "changed just now"
    os.utime(paths[2])
    while cache.get("c", signature_of(paths[2].stat())) is None:
        assert time.monotonic() < deadline
        for path in paths:
            cache.put(path.name, path.stat(), path.read_bytes())
    kept = [cache.get(path.name, signature_of(path.stat())) is not None for path in paths]
    assert kept == [False, True, True]
