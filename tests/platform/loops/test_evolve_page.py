"""The lineage on a page and in a tree: hostile text stays text."""

from pathlib import Path

import pytest
from msgspec.structs import replace
from rich.console import Console
from support.evolve_parts import RULE, START, ListReviewer, make_evolution, showing

from automem.loops.evolve_page import lineage_section
from automem.loops.evolve_results import detectable_gain, results_of
from automem.loops.evolve_tree import print_node
from automem.loops.lineage import Lineage
from automem.loops.reviewers.interface import ReviewRequest, Revision, Toolbox

HOSTILE = "<script>alert(1)</script> [bold]not bold[/bold]"


class Loud(ListReviewer):
    """Gives reasons that would like to be more than text."""

    async def review(self, request: ReviewRequest, toolbox: Toolbox) -> Revision:
        self.asked.append(request)
        files = showing(10) if len(self.asked) == 1 else {**START, "scaffold.yaml": "name: ["}
        return Revision(files=files, reasons=HOSTILE, reviewer="loud", knowledge=(HOSTILE,))


def test_what_a_reviewer_wrote_is_text_on_the_page_and_on_the_terminal(tmp_path: Path) -> None:
    loop = make_evolution(tmp_path, reviewer=Loud({}))
    loop.run()
    nodes = loop.lineage.nodes()
    page = lineage_section(results_of(loop.lineage, "model", 1.0), nodes)
    assert "<script>" not in page
    assert page.count("&lt;script&gt;") >= 3
    assert "confirm: " in page
    assert "not valid YAML" in page
    console = Console(width=120, record=True, file=(tmp_path / "out").open("w"))
    for node in nodes:
        print_node(node, console)
    told = console.export_text()
    assert HOSTILE in told
    assert "+  - {name: cards.txt, purpose: card rank, show_last: 10}" in told


def test_the_gain_that_could_have_been_seen_shrinks_with_quieter_games(tmp_path: Path) -> None:
    assert detectable_gain(RULE, []) is None
    make_evolution(tmp_path, {"revision 1, attempt 1": 20}).run()
    node, *_ = [node for node in Lineage(tmp_path).nodes() if node.measured]
    look = node.measured[-1]

    def seen(spread: float) -> float:
        pairs = {
            task: [(seed, 0.5 + spread * (-1) ** at, 0.5) for at, (seed, *_) in enumerate(rows)]
            for task, rows in look.pairs.items()
        }
        noisy = replace(node, measured=(replace(look, pairs=pairs),))
        gain = detectable_gain(RULE, [noisy])
        assert gain is not None
        return gain

    assert seen(0.0) == RULE.minimum_gain  # nothing but what was declared as too little
    assert seen(0.4) == pytest.approx(2 * seen(0.2))
    assert seen(0.2) > RULE.minimum_gain
