"""Quotas, a full disk, a limit on files, a death in the middle: the old content stays.

The file system that is full is a real one.
"""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from automem.errors import StoreError
from automem.memory.ops import (
    AnyOp,
    Append,
    Create,
    Delete,
    Edit,
    OpResult,
    OpStatus,
    Upsert,
    Write,
)
from automem.memory.sandbox import Sandbox

Do = Callable[[AnyOp], OpResult]


def test_quotas_are_kept_whatever_is_written(sandbox: Sandbox, do: Do) -> None:
    for number in range(12):
        do(Append(f"f{number}.txt", "x" * 1500))
        do(Append(f"f{number}.txt", "y" * 1500))
        do(Upsert(f"f{number}.txt", "key", "z" * 1500))
        do(Write(f"f{number}.txt", "é" * 900))
        do(Create(f"e{number}.txt"))
    sizes = sandbox.sizes()
    assert len(sizes) <= sandbox.quota.files
    assert max(sizes.values()) <= sandbox.quota.file_bytes
    assert sum(sizes.values()) <= sandbox.quota.total_bytes


def test_a_full_memory_can_be_made_smaller(sandbox: Sandbox, do: Do) -> None:
    for number in range(6):
        do(Write(f"f{number}.txt", "é" * 400))
    assert "DELETE one first" in do(Create("more.txt")).text
    assert "DELETE or shorten" in do(Append("f0.txt", "x" * 500)).text
    assert do(Write("f0.txt", "x" * 700)).status is OpStatus.OK  # more characters, fewer bytes
    assert do(Delete("f1.txt")).status is OpStatus.OK
    assert do(Create("more.txt")).status is OpStatus.OK


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 64 kB."""
    mount = tmp_path / "disk"
    mount.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(mount)], capture_output=True
    )
    if made.returncode != 0:
        pytest.skip("mounting needs root")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


def test_a_full_disk_keeps_the_old_content_and_says_so(small_disk: Path) -> None:
    sandbox = Sandbox.open(small_disk / "memory")
    sandbox.rebuild({"a.txt": "old\n"})
    (small_disk / "filler").write_bytes(b"x" * 50_000)
    with pytest.raises(StoreError, match="No space left") as caught:
        sandbox.apply(Edit("a.txt", start=4, inserted="x" * 40_000))
    assert str(small_disk) not in str(caught.value)
    assert sandbox.read_text("a.txt") == "old\n"
    assert os.listdir(small_disk / "memory") == ["a.txt"]
    (small_disk / "filler").unlink()
    sandbox.apply(Edit("a.txt", start=4, inserted="new\n"))
    assert sandbox.read_text("a.txt") == "old\nnew\n"
    sandbox.close()


def test_a_mount_point_can_be_rebuilt(small_disk: Path) -> None:
    sandbox = Sandbox.open(small_disk)
    sandbox.rebuild({"a.txt": "1"})
    sandbox.rebuild({"b.txt": "2"})
    assert [info.name for info in sandbox.listing()] == ["b.txt"]
    sandbox.close()


def test_a_file_size_limit_keeps_the_old_content(folder: Path) -> None:
    script = f"""
        import resource, signal
        from pathlib import Path
        from automem.errors import StoreError
        from automem.memory.ops import Edit
        from automem.memory.sandbox import Sandbox
        sandbox = Sandbox.open(Path({str(folder)!r}))
        sandbox.rebuild({{"a.txt": "old"}})
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            sandbox.apply(Edit("a.txt", start=3, inserted="x" * 5000))
        except StoreError:
            print(sandbox.read_text("a.txt"), len(sandbox.listing()))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "old 1\n"
    assert os.listdir(folder) == ["a.txt"]


@pytest.mark.parametrize("point", ["rename.before", "rename.after"])
def test_a_writer_killed_at_the_rename_leaves_the_old_text_or_the_new(
    folder: Path, point: str
) -> None:
    script = f"""
        from pathlib import Path
        from automem.memory.ops import Edit
        from automem.memory.sandbox import Sandbox
        sandbox = Sandbox.open(Path({str(folder)!r}))
        sandbox.apply(Edit("a.txt", inserted="old", creates=True))
        sandbox.apply(Edit("a.txt", start=3, inserted=" and new"))
    """
    died = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, "AUTOMEM_CRASH": f"{point}:2"},
    )
    assert died.returncode == -9
    sandbox = Sandbox.open(folder)
    assert sandbox.read_text("a.txt") == ("old" if point == "rename.before" else "old and new")
    assert os.listdir(folder) == ["a.txt"]
    sandbox.close()
