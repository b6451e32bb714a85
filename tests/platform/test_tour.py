"""The tour, as a newcomer runs it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from automem.tour import seeds_in_words


def test_seeds_are_named_with_their_range() -> None:
    assert seeds_in_words([42, 43, 44]) == "42 to 44 (published)"
    assert seeds_in_words([7]) == "7 (published)"
    assert seeds_in_words([1, 3]) == "1, 3 (published)"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_tour_tells_its_story_and_says_where_everything_is(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "automem.cli", "tour", "--quick"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=850,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [folder] = (tmp_path / "runs").iterdir()
    for words in ("no memory", "perfect memory", "it wrote", "Made here, now, on the same 8 decks"):
        assert words in done.stdout
    assert "seeds of crafter: 42 to 51 (published)" in done.stdout
    shown = re.search(r"Crafter, scripted player.*? (\d\.\d{3}) ", done.stdout)
    [crafter] = folder.glob("crafter*/summary.json")
    mean = json.loads(crafter.read_text())["progression"]["mean"]
    assert shown
    assert float(shown[1]) == pytest.approx(mean, abs=5e-4)
    [report] = re.findall(r"^report:  (\S+)", done.stdout, re.MULTILINE)
    assert (tmp_path / report).stat().st_size > 1000
