"""The lineage for people: the tree, the table of all nodes, and all that is known of one."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from automem.loops.evolve_results import Results, title_of, verdict_of
from automem.loops.knowledge_lineage import ClassedText
from automem.loops.lineage import Measured, Node
from automem.loops.reviewers.plain_text import printable
from automem.trace.statistics import Estimate

COLOURS = {"accepted": "green", "rejected": "red", "eliminated": "red", "open": "yellow"}


def tree_text(nodes: Sequence[Node]) -> str:
    """A line per node, children beneath their parent, the champion starred."""
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
    words = [node.id, node.grown.version or "(does not load)", verdict_of(node)]
    if node.gain is not None:
        p = node.measured[-1].comparison.p
        words.append(f"{node.gain:+.3f}" + (f" (p = {p:.4f})" if p is not None else ""))
    reason = node.grown.error.strip().partition("\n")[0] or title_of(node)
    return printable(" ".join(words) + (f": {reason}" if reason else ""))


def print_node(
    node: Node,
    console: Console,
    diff_lines: int | None = None,
    added: Sequence[ClassedText] = (),
) -> None:
    """Where it comes from, why it was proposed, its numbers, its end, its diff. `diff_lines`: at
    most so many lines of the diff; `added`: its passages, told structure from knowledge."""
    grown = node.grown
    verdict = verdict_of(node)
    head = Text(f"{node.id} ", style="bold")
    head.append(verdict, style=COLOURS.get(verdict, ""))
    head.append(f"  {grown.version or '(does not load)'}", style="dim")
    console.print(head)
    _say(
        console,
        "from",
        f"{grown.parent}, {grown.slot}, by {grown.reviewer}" if grown.parent else "",
    )
    _say(
        console,
        "after",
        f"{grown.continues}, whose failure it was shown" if grown.continues else "",
    )
    _say(console, "why", grown.reasons.strip())
    _say(console, "knowledge", "\n".join(grown.knowledge))
    _say(console, "added", "\n".join(each.told for each in added))
    _say(console, "error", grown.error)
    for look in node.measured:
        _say(console, look.label, look_text(look))
    _say(console, "verdict", f"{verdict}: {node.judged.reason}" if node.judged else "")
    _say(console, "cost", ", ".join(f"{_amount(v)} {name}" for name, v in grown.spent.items()))
    if grown.diff:
        lines = printable(grown.diff).split("\n")
        shown = lines if diff_lines is None else lines[:diff_lines]
        left = len(lines) - len(shown)
        console.print(Syntax("\n".join(shown), "diff", background_color="default", word_wrap=True))
        if left:
            console.print(Text(f"… {left} more lines: name the node to see them", style="dim"))
    console.print()


def _say(console: Console, name: str, text: str) -> None:
    if text:
        table = Table.grid(padding=(0, 1))
        table.add_column(width=11, style="dim")
        table.add_column()
        table.add_row(f"  {name}", Text(printable(text)))
        console.print(table)


def look_text(look: Measured) -> str:
    """A comparison in a line."""
    found = look.comparison
    pairs = sum(len(rows) for rows in look.pairs.values())
    ours = [ours for rows in look.pairs.values() for _, ours, _ in rows]
    theirs = [theirs for rows in look.pairs.values() for _, _, theirs in rows]
    means = ""
    if pairs:
        means = f"{sum(ours) / pairs:.3f} against {sum(theirs) / pairs:.3f}: "
    p = "" if found.p is None else f", p = {found.p:.5f} (needs {found.threshold or 0:.5f})"
    return f"{means}{spread(found.difference)} over {found.difference.n} seeds{p}: {found.verdict}"


def spread(found: Estimate | None) -> str:
    """A difference with its 95 % interval."""
    if found is None or found.mean is None:
        return ""
    return f"{found.mean:+.3f}" + (
        f" ({found.ci95[0]:+.3f} to {found.ci95[1]:+.3f})" if found.ci95 else ""
    )


def print_table(results: Results, console: Console) -> None:
    """Every node in a line, and how to read it."""
    table = Table(
        box=box.SIMPLE_HEAD, title=f"{results.world}: {results.reviewer}", title_justify="left"
    )
    for name in ("node", "from", "revision", "race", "confirmation", "p", "verdict"):
        table.add_column(name, justify="right" if name == "p" else "left")
    for node in results.nodes:
        star = " *" if node.id == results.champion else ""
        table.add_row(
            node.id + star,
            node.parent,
            node.title or node.version,
            spread(node.race),
            spread(node.confirm),
            "" if node.p is None else f"{node.p:.4f}",
            Text(node.verdict, style=COLOURS.get(node.verdict, "")),
        )
    console.print(table)
    console.print(Text(sentence(results)))


def sentence(results: Results) -> str:
    """What the loop came to, and what it could have seen."""
    rule, starts = results.rule, results.nodes[0]
    accepted = [node.id for node in results.nodes if node.verdict == "accepted"]
    came = f"{starts.id} to {results.champion}" if accepted else "nothing was accepted"
    sight = (
        f" A gain of {results.detectable_gain:.3f} would have been accepted with 80 % chance."
        if results.detectable_gain is not None
        else ""
    )
    return (
        f"* the champion: {came}. Differences are paired by seed; a confirmation is {rule.pairs} "
        f"fresh seeds, accepted at p <= {rule.alpha:g} / {rule.confirmations}, "
        f"{results.confirmations_used} of {rule.confirmations} used.{sight}"
    )


def _amount(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
