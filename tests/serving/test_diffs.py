"""Diffs of memory files: right, and quick on long ones."""

import shutil
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automem_serving.diffs import changed_files, unified_diff

LINES = st.lists(st.sampled_from(["a", "b", "c"]), max_size=12)


def test_what_was_added_removed_and_changed_is_told_apart() -> None:
    before = {"gone": "x\n", "same": "y\n", "other": "1\n"}
    now = {"new": "z\n", "same": "y\n", "other": "2\n"}
    assert changed_files(before, now) == {"gone": "removed", "new": "added", "other": "changed"}


@given(LINES, LINES)
def test_applying_a_diff_gives_the_new_text(old: list[str], new: list[str]) -> None:
    """Read the diff back by its hunks."""
    diff = unified_diff("f", "\n".join(old), "\n".join(new)).splitlines()[2:]
    made, position = [], 0
    for line in diff:
        if line.startswith("@@"):
            first, _, count = line.split(" ")[1][1:].partition(",")
            start = int(first) - (0 if count == "0" else 1)
            made += old[position:start]
            position = start
        elif line[0] == "+":
            made.append(line[1:])
        else:
            assert old[position] == line[1:]
            position += 1
            if line[0] == " ":
                made.append(line[1:])
    assert made + old[position:] == new


def test_long_files_that_differ_everywhere_are_quick() -> None:
    old = "\n".join(f"line {n}" for n in range(50_000))
    new = "\n".join(f"other {n % 7}" for n in range(50_000))
    began = time.process_time()
    assert unified_diff("f", old, new).count("\n+other") == 50_000
    assert time.process_time() - began < 2.0


@pytest.mark.skipif(shutil.which("patch") is None, reason="there is no patch here")
def test_patch_takes_our_diffs(tmp_path: Path) -> None:
    old, new = "a\nb\nc\nd\ne\nf\ng\nh\n", "a\nb\nc\nd\nE\nf\ng\nh\ni\n"
    (tmp_path / "f").write_text(old)
    subprocess.run(
        ["patch", "-s", "f"], input=unified_diff("f", old, new), text=True, cwd=tmp_path,
        check=True, timeout=10,
    )  # fmt: skip
    assert (tmp_path / "f").read_text() == new
