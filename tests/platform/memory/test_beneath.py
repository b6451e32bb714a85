"""Paths beneath a folder: no link on the way, by either method."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from automem.memory.beneath import (
    WalkMethod,
    default_method,
    exchange_names,
    open_beneath,
    open_folder_beneath,
)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "in" / "a" / "b").mkdir(parents=True)
    (tmp_path / "in" / "a" / "b" / "f").write_text("inside")
    (tmp_path / "secret").write_text("outside")
    descriptor = os.open(tmp_path / "in", os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def test_a_file_is_opened_at_any_depth(root: int, method: WalkMethod) -> None:
    descriptor = open_beneath(root, "a/b/f", os.O_RDONLY, method=method)
    assert os.read(descriptor, 100) == b"inside"
    os.close(descriptor)


@pytest.mark.parametrize("place", ["link", "a/link", "folder_link/b/f", "a/up/secret"])
def test_a_link_is_followed_nowhere(
    root: int, method: WalkMethod, tmp_path: Path, place: str
) -> None:
    (tmp_path / "in" / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "in" / "a" / "link").symlink_to("b/f")
    (tmp_path / "in" / "folder_link").symlink_to("a")
    (tmp_path / "in" / "a" / "up").symlink_to("../..")
    with pytest.raises(OSError):  # noqa: PT011 - ELOOP or ENOTDIR, by method and place
        open_beneath(root, place, os.O_RDONLY, method=method)
    with pytest.raises(OSError):  # noqa: PT011
        open_folder_beneath(root, place, method=method)


def test_a_new_file_is_made_beneath(root: int, method: WalkMethod, tmp_path: Path) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    os.close(open_beneath(root, "a/new", flags, 0o600, method))
    assert (tmp_path / "in" / "a" / "new").exists()


def test_the_kernel_itself_refuses_to_leave_the_folder(root: int) -> None:
    if default_method() is not WalkMethod.OPENAT2:
        pytest.skip("this kernel (or container) has no openat2")
    for path in ("../secret", "a/../../secret", "/etc/passwd"):
        with pytest.raises(OSError):  # noqa: PT011 - EXDEV
            open_beneath(root, path, os.O_RDONLY, method=WalkMethod.OPENAT2)


def test_two_files_change_places_at_once(root: int, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / "in" / name).write_text(name)
    if not exchange_names(root, "one", root, "two"):
        pytest.skip("this file system cannot exchange names")
    assert (tmp_path / "in" / "one").read_text() == "two"
    assert not exchange_names(root, "one", root, "missing")
