"""What the revisions of a lineage added: classed from its start, kept, shown."""

from pathlib import Path

import pytest

from automem import cli
from automem.agent.scaffold_files import SCHEMA, read_files
from automem.config import scaffold_path
from automem.loops.gate import Rule, Verdict
from automem.loops.knowledge_lineage import (
    ClassedText,
    classed_nodes,
    keep_passages,
    kept_passages,
)
from automem.loops.lineage import Declared, Lineage

WORDS = frozenset(["illegal", "flip", "owl"])
START = read_files(scaffold_path("embedded"))


@pytest.fixture
def lineage(tmp_path: Path) -> Lineage:
    """n1 says something of the game, n2 says more of it, n3 is no scaffold."""
    lineage = Lineage(tmp_path)
    lineage.declare(Declared(rule=Rule(), world="concentration", reviewer="list"))
    lineage.plant(START)
    worded = START[SCHEMA].replace("notes.txt}", "notes.txt, purpose: an illegal flip}")
    first = {**START, SCHEMA: worded}
    lineage.grow("a", "n0", first, reasons="", reviewer="list")
    lineage.judge("n1", Verdict.ACCEPTED, "it is")
    second = {**first, "plan.j2": START["plan.j2"] + "no illegal flip\n"}
    lineage.grow("b", "n1", second, reasons="", reviewer="list")
    lineage.grow("c", "n1", {SCHEMA: "name: ["}, reasons="", reviewer="list")
    return lineage


def test_what_was_accepted_on_the_way_excuses_nothing(lineage: Lineage) -> None:
    found = classed_nodes(lineage, WORDS)
    assert {node: [str(each.kind) for each in added] for node, added in found.items()} == {
        "n1": ["undeclared"],
        "n2": ["undeclared"],
    }


def test_what_is_kept_is_shown_with_the_lineage(
    lineage: Lineage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert kept_passages(tmp_path) == {}
    keep_passages(tmp_path, classed_nodes(lineage, WORDS))
    words = ("flip", "illegal")
    assert kept_passages(tmp_path)["n2"] == [
        ClassedText("plan.j2", "no illegal flip", "undeclared", words)
    ]
    assert cli.main(["lineage", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "undeclared, plan.j2: no illegal flip (flip, illegal)" in printed
