"""An experiment's results for people: the arms, the rounds, the paper's metrics, one sentence."""

from collections.abc import Sequence
from typing import Any

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from automem.loops.arm_results import BASELINE, ArmResult
from automem.loops.collection import Staleness
from automem.loops.experiment import Results
from automem.trace.metrics import BY_NAME

METRICS = (
    "redundant_writes",
    "empty_searches",
    "unproductive_actions",
    "invalid_actions",
    "context_tokens_per_step",
)
"""The paper's, before and after."""
FELL_BACK = "*"
"""Behind the figure of a training whose gate accepted nothing."""


def print_results(results: Results, console: Console) -> None:
    """Arms against the base, what each round came to, metrics, and how to read it all."""
    seeds = len(results.training_seeds)
    console.print(arms_table(f"{results.world}: progression", results.arms, seeds))
    console.print(_metrics(results))
    for seed, rounds in results.rounds.items():
        for found in rounds:
            gain = found["gain"]
            told = "no comparison" if gain is None else f"gain {gain:+.3f}"
            verdict = found["verdict"] or "nothing trained"
            if "staleness" in found:
                told += "; " + msgspec.convert(found["staleness"], Staleness, strict=False).told()
            console.print(
                Text(
                    f"training seed {seed}, round {found['round']}: {found['turns']} turns, "
                    f"{verdict}, {told} ({found['reason']})",
                    style="dim",
                )
            )
    console.print(Text(sentence(results)))


def sentence(results: Results) -> str:
    """What was compared, and on what it depends."""
    first, last = results.report_seeds
    seeds = len(results.training_seeds)
    unit = (
        f"Trained arms: mean over {seeds} training seeds with Student's 95 % interval, given these "
        f"games; minus {BASELINE}, which was played once: over training seeds and games. "
        if seeds > 1
        else "One training seed: trained arms have no interval over trainings. "
    )
    lines = [
        f"{unit}Others: one run, bootstrap over {last - first + 1} games (seeds {first} to {last}, "
        "the same for all arms). Differences are paired by game. Conditional on one base model, "
        f"{results.base}.",
        *fallbacks(results.arms),
    ]
    return "\n".join(lines)


def fallbacks(arms: Sequence[ArmResult]) -> list[str]:
    """A line that explains the mark, where a training seed has it."""
    told = [
        f"{arm.name}: training seed{'s' * (len(arm.fell_back) > 1)} "
        f"{', '.join(map(str, arm.fell_back))}"
        for arm in arms
        if arm.fell_back
    ]
    if not told:
        return []
    return [
        f"{FELL_BACK} The gate accepted nothing there, so the base keeps memory, and that counts "
        f"({'; '.join(told)})."
    ]


def figures(arms: Sequence[ArmResult]) -> dict[str, Any]:
    """The arms as a tracker's summary: each with its interval, and every training seed's value."""
    return {
        "arms": {arm.name: _figures(arm) for arm in arms},
        "by_seed": [
            {"arm": arm.name, "training_seed": seed, "mean": found.mean, **_bounds(found.ci95),
             "games": found.n}
            for arm in arms
            for seed, found in arm.by_training_seed.items()
            if seed >= 0
        ],
    }  # fmt: skip


def _figures(arm: ArmResult) -> dict[str, Any]:
    is_trained = -1 not in arm.by_training_seed
    only = next(iter(arm.by_training_seed.values()), None)
    return {
        "mean": arm.mean,
        **_bounds(arm.interval),
        "n": len(arm.by_training_seed) if is_trained or only is None else only.n,
        "of": "training seeds" if is_trained else "games",
        "gain": arm.difference,
        **_bounds(arm.difference_interval, "gain_"),
        "failed": arm.failed,
    }


def _bounds(interval: tuple[float, float] | None, of: str = "") -> dict[str, float | None]:
    low, high = interval or (None, None)
    return {f"{of}low95": low, f"{of}high95": high}


def arms_table(
    title: str, arms: Sequence[ArmResult], training_seeds: int, baseline: str = BASELINE
) -> Table:
    """Arms beside the baseline."""
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    table.add_column("arm")
    for name in ("mean", "95 % interval", f"minus {baseline}", "95 % interval", "ratio", "failed"):
        table.add_column(name, justify="right", no_wrap=True)
    if training_seeds > 1:
        table.add_column("each training seed")
    for arm in arms:
        cells = [
            arm.name,
            f"{arm.mean:.3f}",
            _interval(arm.interval),
            "" if arm.difference is None else f"{arm.difference:+.3f}",
            _interval(arm.difference_interval, signed=True),
            _ratio(arm, baseline),
            str(arm.failed) if arm.failed else "",
        ]
        if training_seeds > 1:
            cells.append(points(arm))
        table.add_row(*cells)
    return table


def _metrics(results: Results) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="what they do", title_justify="left")
    table.add_column("arm")
    shown = [name for name in METRICS if any(arm.metrics.get(name) for arm in results.arms)]
    for name in shown:
        table.add_column(BY_NAME[name].title.lower(), justify="right")
    for arm in results.arms:
        table.add_row(arm.name, *(_metric(name, arm) for name in shown))
    return table


def _metric(name: str, arm: ArmResult) -> str:
    value = arm.metrics.get(name)
    if value is None:
        return ""
    return f"{value:.1%}" if BY_NAME[name].unit == "share" else f"{value:,.0f}"


def points(arm: ArmResult) -> str:
    """Each training seed's mean, marked where the base kept memory."""
    return " ".join(
        f"{found.mean or 0.0:.3f}{FELL_BACK * (seed in arm.fell_back)}"
        for seed, found in arm.by_training_seed.items()
        if seed >= 0
    )


def _ratio(arm: ArmResult, baseline: str) -> str:
    if arm.name == baseline or not arm.ratios:
        return ""
    return f"{sum(arm.ratios) / len(arm.ratios):.2f}"


def _interval(bounds: tuple[float, float] | None, signed: bool = False) -> str:
    if bounds is None:
        return ""
    form = "+.3f" if signed else ".3f"
    return f"{bounds[0]:{form}} to {bounds[1]:{form}}"
