"""The results of both loops for people: on the terminal, and as a section of the report."""

from collections.abc import Sequence

from markupsafe import Markup
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from automem.loops.experiment import ArmResult
from automem.loops.results_table import arms_table
from automem.loops.run_results import START, RunResults, Square
from automem.report_parts import charts
from automem.trace.statistics import Estimate


def print_results(results: RunResults, console: Console) -> None:
    """Arms beside the start, the 2 x 2, what revisions added, and how to read it all."""
    seeds = len(results.training_seeds)
    console.print(arms_table(f"{results.world}: progression", results.arms, seeds, START))
    if results.square is not None:
        console.print(_square(results.square))
    if results.knowledge:
        console.print(_knowledge(results))
    for line in notes(results):
        console.print(Text(line))


def notes(results: RunResults) -> list[str]:
    """What was compared, on what it depends, what is missing."""
    first, last = results.report_seeds
    count, seeds = last - first + 1, len(results.training_seeds)
    lines = [
        f"{count} games of the range report (seeds {first} to {last}), the same for all arms; "
        "differences are paired by game. Arms without training: bootstrap over games. "
        + (
            f"Trained arms: mean over {seeds} training seeds with Student's 95 % interval."
            if seeds > 1
            else "Trained arms: one training seed, so no interval over trainings."
            if seeds
            else "Nothing was trained."
        ),
        f"Conditional on one base model, {results.base}, and one evolution of the scaffold.",
    ]
    if len(results.versions) == 1:
        lines.append("The structure loop accepted nothing, so there is no evolved scaffold here.")
    return lines


def _square(square: Square) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="structure and training", title_justify="left")
    table.add_column("effect")
    for name in ("difference", "95 % interval", "each training seed"):
        table.add_column(name, justify="right")
    for effect in square.effects:
        points = " ".join(f"{value:+.3f}" for value in effect.values)
        table.add_row(
            effect.name,
            f"{effect.mean:+.3f}",
            _interval(effect.interval),
            points if len(effect.values) > 1 else "",
        )
    return table


def _knowledge(results: RunResults) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="what revisions added", title_justify="left")
    for name in ("version", "kind", "where", "text"):
        table.add_column(name)
    for node, found in results.knowledge.items():
        for each in found:
            words = f" ({', '.join(each.words)})" if each.words else ""
            table.add_row(node, each.kind, each.where, Text(each.text + words))
    return table


def _interval(bounds: tuple[float, float] | None) -> str:
    return "" if bounds is None else f"{bounds[0]:+.3f} to {bounds[1]:+.3f}"


def report_section(results: RunResults) -> Markup:
    """A plot of every arm with its interval, and the 2 x 2, as HTML for `write_report`."""
    highs = [(arm.interval or (0.0, arm.mean))[1] for arm in results.arms]
    top = min(1.0, charts.nice_ceiling(max([*highs, 0.0])))
    rows = Markup("").join(_row(arm, number, top) for number, arm in enumerate(results.arms))
    head = Markup(
        "<section><h2>Both loops <small>progression; trained arms: mean over training seeds"
        '</small></h2><div class="scroll"><table class="results"><thead><tr><th>arm</th>'
        '<th class="axis"><span>0</span><span>progression, 95 % interval</span><span>{}</span></th>'
        "<th>mean</th><th>95 % interval</th><th>minus {}</th><th>each training seed</th></tr>"
        "</thead><tbody>"
    ).format(f"{top:g}", START)
    parts = [head, rows, Markup("</tbody></table></div>")]
    if results.square is not None:
        parts.append(_square_html(results.square))
    parts += [Markup("<p>{}</p>").format(line) for line in notes(results)]
    return Markup("").join([*parts, Markup("</section>")])


def _row(arm: ArmResult, number: int, top: float) -> Markup:
    shown = Estimate(arm.mean, None, arm.interval, 0)
    interval = "–" if arm.interval is None else f"{arm.interval[0]:.3f} – {arm.interval[1]:.3f}"
    difference = "" if arm.difference is None else f"{arm.difference:+.3f}"
    cells = [f"{arm.mean:.3f}", interval, difference, _points(arm)]
    return Markup('<tr><th scope="row">{}</th><td class="axis">{}</td>{}</tr>').format(
        arm.name,
        charts.interval_bar(shown, top, number % 6),
        Markup("").join(Markup('<td class="n">{}</td>').format(cell) for cell in cells),
    )


def _points(arm: ArmResult) -> str:
    found = [e.mean or 0.0 for seed, e in arm.by_training_seed.items() if seed >= 0]
    return " ".join(f"{value:.3f}" for value in found)


def _square_html(square: Square) -> Markup:
    rows = Markup("").join(
        Markup('<tr><th scope="row">{}</th><td class="n">{}</td><td class="n">{}</td></tr>').format(
            effect.name, f"{effect.mean:+.3f}", _interval(effect.interval) or "–"
        )
        for effect in square.effects
    )
    return Markup(
        '<h3>Structure and training</h3><div class="scroll"><table class="results"><thead><tr>'
        "<th>effect</th><th>difference</th><th>95 % interval</th></tr></thead><tbody>{}</tbody>"
        "</table></div>"
    ).format(rows)


def report_runs(results: RunResults) -> Sequence[tuple[str, str]]:
    """(name, run folder) of one run per arm: the first training seed's."""
    return [(arm.name, arm.runs[0]) for arm in results.arms if arm.runs]
