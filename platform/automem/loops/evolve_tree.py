"""The lineage for people: the tree, and all that is known of a node."""

from collections.abc import Sequence

from automem.loops.lineage import Node


def tree_text(nodes: Sequence[Node]) -> str:
    """The tree for people: a line per node, children beneath their parent, the champion starred."""
    crowned = [node for node in nodes if node.is_accepted]
    lines: list[str] = []

    def add(node: Node, lead: str, branch: str) -> None:
        star = " *" if crowned and node is crowned[-1] else ""
        lines.append(f"{lead}{branch}{line_of(node)}{star}")
        below = [child for child in nodes if child.grown.parent == node.id]
        inner = lead + {"": "", "├─ ": "│  ", "└─ ": "   "}[branch]
        for child in below:
            add(child, inner, "└─ " if child is below[-1] else "├─ ")

    for node in nodes:
        if not node.grown.parent:
            add(node, "", "")
    return "\n".join(lines)


def line_of(node: Node) -> str:
    """`n2 embedded@51c0… rejected +0.012 (p = 0.21): show the last ten lines`."""
    words = [node.id, node.grown.version or "(does not load)"]
    words.append(node.judged.verdict if node.judged else "open" if node.grown.parent else "start")
    if node.gain is not None:
        p = node.measured[-1].comparison.p
        words.append(f"{node.gain:+.3f}" + (f" (p = {p:.4f})" if p is not None else ""))
    reason = (node.grown.error or node.grown.reasons).strip().split("\n")[0]
    return " ".join(words) + (f": {reason}" if reason else "")
