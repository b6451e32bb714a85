"""`automem failures`: where a run's failures hide, as a table, as JSON, or in its report."""

import shlex
from pathlib import Path

import msgspec
from markupsafe import Markup
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from automem.commands.arguments import Parser
from automem.commands.play import shortest
from automem.commands.table import wide_console
from automem.report import write_report
from automem.trace.failure_tries import LEVELS
from automem.trace.failures import Cluster, Example, Failures, Options, failures
from automem.trace.query import find_runs

_FORM_CHARS = 64
_TOP = 12


def main(argv: list[str]) -> int:
    """See the module's docstring."""
    standard = Options()
    levels = "; ".join(f"{name}: {meaning}" for name, meaning in LEVELS.items())
    parser = Parser(
        "failures",
        "Clusters of failed stretches, how scattered they are, and whether a filter learned from\n"
        "them would hold anything. What counts as failed: docs/failures.md.",
        [
            "automem failures runs/first",
            "automem failures runs/first runs/second --level shape --top 30",
            "automem failures runs/first --json > failures.json",
            "automem failures runs/first --report       # writes report.html again, with them",
        ],
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run, or of a sweep")
    parser.add_argument("--level", default=standard.level, metavar="NAME", help=levels)
    parser.add_argument("--top", type=int, default=_TOP, metavar="N", help="clusters shown")
    parser.add_argument(
        "--patience", type=int, default=standard.patience, metavar="STEPS",
        help="without a gain, after which an episode is stalled",
    )  # fmt: skip
    parser.add_argument(
        "--support", type=int, default=standard.support, metavar="N",
        help="failed stretches from which on a filter would hold a form",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="everything, as JSON")
    parser.add_argument("--report", action="store_true", help="write report.html with a section")
    options = parser.parse_args(argv)
    if options.top < 1:
        parser.error(f"--top must be at least 1, got {options.top}")
    runs = find_runs(options.runs)
    found = failures(runs, Options(options.level, options.patience, options.support))
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(found), indent=1).decode())
    else:
        print_failures(found, options.top, wide_console())
    if options.report:
        path = write_report(runs, section=report_section(found, options.top))
        if not options.json:
            print(f"written: {shlex.quote(str(shortest(path)))}")
    return 0


def print_failures(found: Failures, top: int, console: Console) -> None:
    """Signs, clusters with their examples, how scattered they are, and the verdict."""
    console.print(escape(_head(found)))
    _print_signs(found, console)
    if found.clusters:
        _print_clusters(found, top, console)
        _print_scatter(found, console)
    console.print(escape(found.verdict), style="bold")


def _head(found: Failures) -> str:
    share = found.failed_steps / found.steps if found.steps else 0.0
    return (
        f"{found.episodes:,} episodes, {found.steps:,} steps; {found.failed_steps:,} steps "
        f"({share:.0%}) show a sign of failure, in {found.stretches:,} stretches"
    )


def _print_signs(found: Failures, console: Console) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("sign")
    for name in ("stretches", "steps", "longest"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("what it is")
    for sign in found.signs:
        if sign.stretches:
            counts = (sign.stretches, sign.steps, sign.longest)
            table.add_row(sign.sign, *(f"{count:,}" for count in counts), sign.meaning)
    console.print(table)


def _print_clusters(found: Failures, top: int, console: Console) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("", justify="right", no_wrap=True)
    for name in ("sign", "form"):
        table.add_column(name, no_wrap=True)
    for name in ("stretches", "episodes", "steps", "covered", "fails"):
        table.add_column(name, justify="right", no_wrap=True)
    shown = list(enumerate(found.clusters[:top], 1))
    for number, cluster in shown:
        table.add_row(
            str(number),
            cluster.sign,
            escape(_short(cluster.form)),
            f"{cluster.stretches:,}",
            f"{cluster.episodes:,}",
            f"{cluster.steps:,}",
            f"{cluster.covered:.0%}",
            _fails(cluster),
        )
    console.print(table)
    # Not in the table, which would cut off what is there to be copied.
    console.print("look at")
    for number, cluster in shown:
        for place, example in enumerate(cluster.examples):
            line = f"{'' if place else number:>4}  {command(example)}"
            console.print(line, style="dim", soft_wrap=True, markup=False, highlight=False)
    console.print()
    more = len(found.clusters) - top
    if more > 0:
        console.print(f"[dim]… and {more:,} more forms; --top N or --json shows them[/dim]\n")


def _print_scatter(found: Failures, console: Console) -> None:
    table = Table(title="How scattered they are", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("told apart by")
    for name in SCATTER_COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for cells in scatter_cells(found):
        table.add_row(*cells)
    console.print(table)


SCATTER_COLUMNS = (
    "forms", "singletons", "their mass", "top ten", "frequent", "filter holds", "catches", "wrongly"
)  # fmt: skip


def scatter_cells(found: Failures) -> list[list[str]]:
    """Rows of the table of levels."""
    return [
        [
            one.level,
            f"{one.forms:,}",
            f"{one.singletons:,}",
            f"{one.singleton_mass:.0%}",
            f"{one.top_mass:.0%}",
            f"{one.frequent:,}",
            f"{one.kept:,}" if one.kept else "nothing",
            _share(one.caught),
            _share(one.wrong),
        ]
        for one in found.scatter
    ]


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def _fails(cluster: Cluster) -> str:
    return "–" if cluster.tries is None else f"{cluster.failed:,} of {cluster.tries:,}"


def _short(text: str) -> str:
    return text if len(text) <= _FORM_CHARS else text[: _FORM_CHARS - 1] + "…"


def command(example: Example) -> str:
    """What shows the first step of an example."""
    run = shlex.quote(str(shortest(Path(example.run))))
    return f"automem show {run} {example.episode} --step {example.step}"


def report_section(found: Failures, top: int = _TOP) -> Markup:
    """The same for a report."""
    rows = Markup("").join(
        Markup(
            "<tr><th scope='row'>{}<small>{}</small></th><td class='n'>{}</td><td class='n'>{}</td>"
            "<td class='n'>{}</td><td class='n'>{}</td><td>{}</td></tr>"
        ).format(
            _short(cluster.form),
            cluster.sign,
            f"{cluster.stretches:,}",
            f"{cluster.steps:,}",
            f"{cluster.covered:.0%}",
            _fails(cluster),
            Markup("<br>").join(
                Markup("<code>{}</code>").format(command(example)) for example in cluster.examples
            ),
        )
        for cluster in found.clusters[:top]
    )
    levels = Markup("").join(
        Markup("<tr><th scope='row'>{}</th>{}</tr>").format(
            name, Markup("").join(Markup("<td class='n'>{}</td>").format(cell) for cell in cells)
        )
        for name, *cells in scatter_cells(found)
    )
    heads = Markup("").join(Markup("<th>{}</th>").format(name) for name in SCATTER_COLUMNS)
    return Markup(
        "<section><h2>Where failures hide</h2><p>{}. {}</p>"
        "<div class='scroll'><table class='results'><thead><tr><th>form</th><th>stretches</th>"
        "<th>steps</th><th>covered</th><th>fails</th><th>look at</th></tr></thead>"
        "<tbody>{}</tbody></table></div><div class='scroll'><table class='results'><thead><tr>"
        "<th>told apart by</th>{}</tr></thead><tbody>{}</tbody></table></div></section>"
    ).format(_head(found), found.verdict, rows, heads, levels)
