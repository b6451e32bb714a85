"""The lineage: a tree that only grows, whatever dies in between."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from automem.agent.scaffold import load_scaffold
from automem.agent.scaffold_files import diff_files, files_digest, read_files, write_files
from automem.config import scaffold_path
from automem.errors import ScaffoldError, UsageError
from automem.loops.evolve_tree import tree_text
from automem.loops.gate import Comparison, Rule, Verdict
from automem.loops.lineage import LINEAGE, Declared, Lineage, Measured, Node
from automem.trace.statistics import estimate

START = read_files(scaffold_path("embedded"))
DECLARED = Declared(rule=Rule(), world="concentration", reviewer="heuristic")


def showing(lines: int) -> dict[str, str]:
    """The starting scaffold with the last lines of its first file shown."""
    text = START["scaffold.yaml"]
    revised = text.replace("purpose: card rank}", f"purpose: card rank, show_last: {lines}}}")
    assert revised != text
    return {**START, "scaffold.yaml": revised}


def compared(label: str, verdict: Verdict, gain: float, p: float | None = None) -> Measured:
    values = [gain - 0.1, gain, gain + 0.1]
    comparison = Comparison(verdict=verdict, difference=estimate(values), p=p)
    pairs = {"concentration": tuple((seed, 0.2 + v, 0.2) for seed, v in enumerate(values))}
    return Measured(label=label, comparison=comparison, pairs=pairs)


def planted(tmp_path: Path) -> Lineage:
    lineage = Lineage(tmp_path / "lineage")
    lineage.declare(DECLARED)
    lineage.plant(START)
    return lineage


def grow(lineage: Lineage, slot: str, lines: int, parent: str = "n0") -> Node:
    return lineage.grow(
        slot, parent, showing(lines), reasons=f"show {lines} lines", reviewer="heuristic"
    )


def test_a_node_holds_files_diff_reasons_numbers_and_verdict(tmp_path: Path) -> None:
    lineage = planted(tmp_path)
    node = grow(lineage, "revision 1, attempt 1", 10)
    lineage.measure(node.id, compared("race 8", Verdict.SURVIVED, 0.1))
    lineage.measure(node.id, compared("confirm", Verdict.ACCEPTED, 0.12, p=0.001))
    lineage.judge(node.id, Verdict.ACCEPTED, "p = 0.001")
    node = Lineage(tmp_path / "lineage").node("n1")
    assert lineage.files(node) == showing(10)
    assert node.grown.version == load_scaffold(lineage.folder(node)).version
    assert "-  - {name: cards.txt, purpose: card rank}" in node.grown.diff
    assert "+  - {name: cards.txt, purpose: card rank, show_last: 10}" in node.grown.diff
    assert [measured.label for measured in node.measured] == ["race 8", "confirm"]
    assert node.gain == pytest.approx(0.12)
    assert lineage.champion().id == "n1"


def test_a_slot_is_filled_once_whatever_is_offered_later(tmp_path: Path) -> None:
    lineage = planted(tmp_path)
    first = grow(lineage, "revision 1, attempt 1", 10)
    again = grow(lineage, "revision 1, attempt 1", 20)
    assert again == first
    assert [node.id for node in lineage.nodes()] == ["n0", "n1"]
    assert lineage.in_slot("revision 1, attempt 1") == first
    assert lineage.in_slot("revision 1, attempt 2") is None


def test_two_loops_at_once_fill_a_slot_once(tmp_path: Path) -> None:
    planted(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        found = list(
            pool.map(
                lambda number: grow(Lineage(tmp_path / "lineage"), f"slot {number % 3}", number),
                range(1, 9),
            )
        )
    nodes = Lineage(tmp_path / "lineage").nodes()
    assert sorted(node.id for node in nodes) == ["n0", "n1", "n2", "n3"]
    assert {node.grown.slot for node in found} == {"slot 0", "slot 1", "slot 2"}


def test_numbers_are_noted_once_and_never_while_pairs_are_pending(tmp_path: Path) -> None:
    lineage = planted(tmp_path)
    node = grow(lineage, "a", 10)
    lineage.measure(node.id, compared("race 8", Verdict.SURVIVED, 0.1))
    lineage.measure(node.id, compared("race 8", Verdict.SURVIVED, 0.9))
    assert lineage.node(node.id).gain == pytest.approx(0.1)
    with pytest.raises(UsageError, match="pairs are pending"):
        lineage.measure(node.id, compared("race 16", Verdict.UNDECIDED, 0.1))


def test_a_verdict_is_final(tmp_path: Path) -> None:
    lineage = planted(tmp_path)
    node = grow(lineage, "a", 10)
    lineage.judge(node.id, Verdict.REJECTED, "p = 0.4")
    assert lineage.judge(node.id, Verdict.REJECTED, "again").judged.reason == "p = 0.4"
    with pytest.raises(UsageError, match=r"rejected already \(p = 0\.4\)"):
        lineage.judge(node.id, Verdict.ACCEPTED, "p = 0.001")
    with pytest.raises(UsageError, match="its trial is over"):
        lineage.measure(node.id, compared("confirm", Verdict.ACCEPTED, 0.1))
    with pytest.raises(UsageError, match="survived ends no trial"):
        lineage.judge(node.id, Verdict.SURVIVED, "")
    assert lineage.champion().id == "n0"


def test_only_a_child_of_the_champion_can_become_one(tmp_path: Path) -> None:
    lineage = planted(tmp_path)
    one, other = grow(lineage, "a", 10), grow(lineage, "b", 20)
    lineage.judge(one.id, Verdict.ACCEPTED, "")
    with pytest.raises(UsageError, match="compared with n0 and the champion is n1 by now"):
        lineage.judge(other.id, Verdict.ACCEPTED, "")
    third = grow(lineage, "c", 20, parent=one.id)
    lineage.judge(third.id, Verdict.ACCEPTED, "")
    assert [node.id for node in lineage.path(third.id)] == ["n0", "n1", "n3"]


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("scaffold.yaml", "name: [", "scaffold.yaml: not valid YAML"),
        ("log.j2", "{{ nothing }}", "log.j2 line 1 does not render"),
    ],
)
def test_a_revision_that_does_not_load_is_a_node_with_its_error(
    tmp_path: Path, name: str, text: str, error: str
) -> None:
    lineage = planted(tmp_path)
    broken = lineage.grow("a", "n0", {**START, name: text}, reasons="bold", reviewer="x")
    assert error in broken.grown.error
    assert str(tmp_path) not in broken.grown.error
    assert broken.grown.version == ""
    with pytest.raises(UsageError, match="n1 cannot be accepted"):
        lineage.judge(broken.id, Verdict.ACCEPTED, "")
    mended = lineage.grow(
        "b", "n0", showing(5), reasons="mended", reviewer="x", continues=broken.id
    )
    assert (mended.grown.continues, mended.grown.error) == ("n1", "")


def test_a_continuation_keeps_to_what_was_declared(tmp_path: Path) -> None:
    lineage = planted(tmp_path)
    lineage.declare(DECLARED)
    assert lineage.declared() == DECLARED
    with pytest.raises(UsageError, match="declared reviewer = heuristic"):
        lineage.declare(Declared(rule=Rule(), world="concentration", reviewer="human"))
    assert lineage.plant(START).id == "n0"
    with pytest.raises(UsageError, match="continued with another scaffold"):
        lineage.plant(showing(3))


def test_an_unknown_node_names_those_there_are(tmp_path: Path) -> None:
    lineage = planted(tmp_path)
    with pytest.raises(UsageError, match="no node 'n7'; there are: n0 to n0"):
        lineage.node("n7")
    with pytest.raises(UsageError, match="no node 'n7'"):
        grow(lineage, "a", 3, parent="n7")
    with pytest.raises(UsageError, match="is empty"):
        Lineage(tmp_path / "other").champion()


def test_the_tree_is_readable(tmp_path: Path) -> None:
    lineage = planted(tmp_path)
    one, two = grow(lineage, "a", 10), grow(lineage, "b", 20)
    three = grow(lineage, "c", 5, parent=one.id)
    lineage.measure(two.id, compared("race 8", Verdict.ELIMINATED, -0.05))
    lineage.judge(two.id, Verdict.ELIMINATED, "")
    lineage.measure(one.id, compared("confirm", Verdict.ACCEPTED, 0.123, p=0.0004))
    lineage.judge(one.id, Verdict.ACCEPTED, "")
    versions = [node.grown.version for node in lineage.nodes()]
    assert tree_text(lineage.nodes()).split("\n") == [
        f"n0 {versions[0]} start",
        f"├─ n1 {versions[1]} accepted +0.123 (p = 0.0004): show 10 lines *",
        f"│  └─ {three.id} {versions[3]} open: show 5 lines",
        f"└─ n2 {versions[2]} eliminated -0.050: show 20 lines",
    ]


def test_a_torn_last_line_never_happened(tmp_path: Path) -> None:
    lineage = planted(tmp_path)
    grow(lineage, "a", 10)
    path = tmp_path / "lineage" / LINEAGE
    path.write_bytes(path.read_bytes()[:-40])
    assert [node.id for node in lineage.nodes()] == ["n0"]
    assert grow(lineage, "a", 10).id == "n1"


_LOOP = """
import sys
from pathlib import Path
sys.path[:0] = {path!r}
from test_lineage import *
lineage = Lineage(Path({folder!r}))
lineage.declare(DECLARED)
lineage.plant(START)
for number in range(1, 6):
    champion = lineage.champion().id
    known = lineage.in_slot(f"revision {{number}}")
    node = known or grow(lineage, f"revision {{number}}", number, parent=champion)
    if node.judged is None:
        lineage.measure(node.id, compared("race 8", Verdict.SURVIVED, 0.1))
        lineage.measure(node.id, compared("confirm", Verdict.ACCEPTED, 0.1, p=0.01))
        lineage.judge(node.id, Verdict.ACCEPTED if number % 2 else Verdict.REJECTED, "")
print("done")
"""


@pytest.mark.slow
def test_a_loop_killed_at_any_record_neither_loses_nor_doubles_a_node(tmp_path: Path) -> None:
    folder = tmp_path / "lineage"
    here = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
    code = _LOOP.format(path=here, folder=str(folder))
    records = folder / LINEAGE
    killed = 0
    for kill_at in range(1, 20, 3):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        _wait_for_lines(records, kill_at, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
    assert killed >= 3
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert finished.stdout == b"done\n"
    lineage = Lineage(folder)
    assert [node.id for node in lineage.nodes()] == [f"n{number}" for number in range(6)]
    assert _lines(records) == 2 + 5 * 4
    assert lineage.champion().grown.slot == "revision 5"
    assert [node.id for node in lineage.path("n5")] == ["n0", "n1", "n3", "n5"]


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _wait_for_lines(path: Path, lines: int, process: subprocess.Popen) -> None:
    end = time.monotonic() + 60
    while _lines(path) < lines and process.poll() is None:
        assert time.monotonic() < end
        os.sched_yield()


# Folders from strangers


@pytest.mark.parametrize("odd", ["link", "hard link", "pipe", "folder", "other name", "too large"])
def test_a_folder_that_holds_more_than_a_scaffold_is_refused(tmp_path: Path, odd: str) -> None:
    folder = tmp_path / "scaffold"
    write_files(START, folder)
    secret = tmp_path / "secret"
    secret.write_text("secret")
    target = folder / "hooks.py"
    if odd == "link":
        target.symlink_to(secret)
    elif odd == "hard link":
        target.hardlink_to(secret)
    elif odd == "pipe":
        os.mkfifo(target)
    elif odd == "folder":
        target.mkdir()
    elif odd == "other name":
        (folder / "notes").write_text("x")
    else:
        target.write_text("#" * 100_000)
    with pytest.raises(ScaffoldError) as caught:
        read_files(folder)
    assert "secret" not in str(caught.value)


def test_a_folder_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "scaffold"
    write_files(START, folder)
    write_files(showing(3), folder)
    assert read_files(folder) == START
    with pytest.raises(UnicodeEncodeError):
        write_files({"log.j2": "\udcff"}, tmp_path / "broken")
    assert not (tmp_path / "broken").exists()


def test_a_diff_names_files_that_come_and_go() -> None:
    new = {**START, "hooks.py": "x = 1\n"}
    assert diff_files(START, new) == "--- /dev/null\n+++ b/hooks.py\n@@ -0,0 +1 @@\n+x = 1"
    assert diff_files(new, START).startswith("--- a/hooks.py\n+++ /dev/null")
    assert diff_files(START, START) == ""
    assert files_digest(START) != files_digest(new)
