"""The lineage as a section of a report: the table, and what is known of each node beneath it.

Promise: whatever a reviewer wrote (reasons, files, errors) is text on the page and nothing else.
"""

from collections.abc import Sequence

from markupsafe import Markup

from automem.loops.evolve_results import NodeResult, Results
from automem.loops.evolve_tree import look_text, sentence, spread
from automem.loops.lineage import Node

_HEAD = ("version", "from", "revision", "race", "confirmation", "p", "verdict")
_MAX_DIFF = 20_000
"""Characters of a diff that a page shows."""


def lineage_section(results: Results, nodes: Sequence[Node]) -> Markup:
    """HTML that stands between a report's replay and its figures."""
    head = Markup("").join(Markup("<th>{}</th>").format(name) for name in _HEAD)
    rows = Markup("").join(_row(node, results.champion) for node in results.nodes)
    details = Markup("").join(_details(node) for node in nodes if node.grown.parent)
    return Markup(
        '<section><h2>How the scaffold came about</h2><div class="scroll"><table>'
        "<thead><tr>{}</tr></thead><tbody>{}</tbody></table></div><p>{}</p>{}</section>"
    ).format(head, rows, sentence(results), details)


def _row(node: NodeResult, champion: str) -> Markup:
    cells = (
        node.parent,
        node.title or node.version,
        spread(node.race),
        spread(node.confirm),
        "" if node.p is None else f"{node.p:.4f}",
        node.verdict,
    )
    name = f"{node.id} *" if node.id == champion else node.id
    told = Markup("").join(Markup("<td>{}</td>").format(cell) for cell in cells)
    return Markup('<tr><th scope="row">{}</th>{}</tr>').format(name, told)


def _details(node: Node) -> Markup:
    grown = node.grown
    parts = [grown.reasons.strip()]
    parts += [f"after {grown.continues}, whose failure was shown"] if grown.continues else []
    parts += [f"knowledge of the task: {line}" for line in grown.knowledge]
    parts += [f"{look.label}: {look_text(look)}" for look in node.measured]
    parts += [f"{node.judged.verdict}: {node.judged.reason}"] if node.judged else []
    parts += ["", grown.diff[:_MAX_DIFF]]
    return Markup(
        '<details class="config"><summary>{}: {}</summary><pre>{}</pre></details>'
    ).format(node.id, grown.version or "does not load", "\n".join(parts))
