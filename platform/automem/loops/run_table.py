"""The results of both loops for people: on the terminal, and as a section of the report."""

from collections.abc import Sequence

from markupsafe import Markup
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from automem.loops.arm_results import ArmResult
from automem.loops.results_table import FELL_BACK, arms_table, fallbacks, points
from automem.loops.run_results import START, Effect, RunResults, Square
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
            f"Trained arms: mean over {seeds} training seeds with Student's 95 % interval, given "
            f"these games; minus {START}, and in the effects of training: over training seeds and "
            "games, since the arms without training were played once."
            if seeds > 1
            else "Trained arms: one training seed, so no interval over trainings."
            if seeds
            else "Nothing was trained."
        ),
        f"Conditional on one base model, {results.base}, and one evolution of the scaffold.",
    ]
    lines += fallbacks(results.arms)
    if len(results.versions) == 1:
        lines.append("The structure loop accepted nothing, so there is no evolved scaffold here.")
    return lines


def _square(square: Square) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="structure and training", title_justify="left")
    table.add_column("effect")
    for name in ("difference", "95 % interval", "each training seed"):
        table.add_column(name, justify="right")
    for effect in square.effects:
        table.add_row(
            effect.name, f"{effect.mean:+.3f}", _interval(effect.interval), _values(effect)
        )
    return table


def _values(effect: Effect) -> str:
    """Each training seed's, where there are several, marked where a gate accepted nothing."""
    if len(effect.values) < 2:
        return ""
    return " ".join(
        f"{value:+.3f}{FELL_BACK * (place in effect.fell_back)}"
        for place, value in enumerate(effect.values)
    )


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
        "<th>mean</th><th>95 % interval</th><th>minus {}</th><th>95 % interval</th>"
        "<th>each training seed</th></tr></thead><tbody>"
    ).format(f"{top:g}", START)
    parts = [head, rows, Markup("</tbody></table></div>")]
    if results.square is not None:
        parts.append(_square_html(results.square))
    parts += [Markup("<p>{}</p>").format(line) for line in notes(results)]
    if results.knowledge:
        parts.append(_knowledge_html(results))
    return Markup("").join([*parts, Markup("</section>")])


def _row(arm: ArmResult, number: int, top: float) -> Markup:
    shown = Estimate(arm.mean, None, arm.interval, 0)
    interval = "–" if arm.interval is None else f"{arm.interval[0]:.3f} – {arm.interval[1]:.3f}"
    difference = "" if arm.difference is None else f"{arm.difference:+.3f}"
    cells = [f"{arm.mean:.3f}", interval, difference, _interval(arm.difference_interval)]
    return Markup('<tr><th scope="row">{}</th><td class="axis">{}</td>{}</tr>').format(
        arm.name,
        charts.interval_bar(shown, top, number % 6),
        Markup("").join(Markup('<td class="n">{}</td>').format(cell) for cell in cells)
        + Markup('<td class="n seeds">{}</td>').format(points(arm)),
    )


def _square_html(square: Square) -> Markup:
    rows = [
        (effect.name, f"{effect.mean:+.3f}", _interval(effect.interval) or "–", _values(effect))
        for effect in square.effects
    ]
    names = ("effect", "difference", "95 % interval", "each training seed")
    return _table_html("Structure and training", names, rows, "n")


def _knowledge_html(results: RunResults) -> Markup:
    rows = [
        (node, each.kind, each.where, f"{each.text} ({', '.join(each.words)})"
         if each.words else each.text)
        for node, found in results.knowledge.items()
        for each in found
    ]  # fmt: skip
    return _table_html("What revisions added", ("version", "kind", "where", "text"), rows)


def _table_html(
    title: str, names: Sequence[str], rows: Sequence[Sequence[str]], kind: str = ""
) -> Markup:
    head = Markup("").join(Markup("<th>{}</th>").format(name) for name in names)
    body = Markup("").join(
        Markup('<tr><th scope="row">{}</th>{}</tr>').format(
            first,
            Markup("").join(Markup('<td class="{}">{}</td>').format(kind, cell) for cell in cells),
        )
        for first, *cells in rows
    )
    return Markup(
        '<h3>{}</h3><div class="scroll"><table class="{}"><thead><tr>{}</tr></thead>'
        "<tbody>{}</tbody></table></div>"
    ).format(title, "results figures" if kind else "", head, body)
