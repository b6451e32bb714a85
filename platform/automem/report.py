"""`report.html`: one run, or several side by side, as one page that opens anywhere.

Promise: the file holds everything it shows (no script, no font, no image from elsewhere; its own
content policy forbids them), reads in light and dark, and every text from worlds, models and
configuration is escaped. It opens with the replay of a moment where memory paid, if the runs have
one; then figures with intervals, reference points, seeds, metrics, episodes, failures and config.
"""

import importlib.metadata
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup

from automem.errors import StoreError, UsageError
from automem.references import Reference, references_for
from automem.report_parts import charts
from automem.report_parts.gather import Arm, ArmData, gather, shown_metrics
from automem.trace.metrics import Metric
from automem.trace.replay import Replay, find_replay_in
from automem.trace.statistics import Estimate

REPORT_FILE = "report.html"
_ASSETS = Path(__file__).parent / "assets" / "report"
_COLOURS = 6
"""Arms beyond so many share colours."""

_LEAST_SHARE = 0.05
"""End of a share's axis at least: a bar of hardly anything must not look like half."""


@dataclass(frozen=True, slots=True)
class WorldPart:
    """The arms that played one world, and what stands beside them."""

    world: str
    arms: list[tuple[int, ArmData]]
    """(colour, arm) pairs."""
    references: list[Reference]
    top: float
    """End of the progression axis."""
    metrics: list[Metric]
    absent: list[Metric]
    """Metrics that are 0 in every arm: one sentence for all of them."""

    def opened(self, told: ArmData | None) -> ArmData | None:
        """The arm whose episodes are unfolded: that of the replay, or the one that wrote most."""
        ours = [arm for _, arm in self.arms if arm.strips]
        if told in ours:
            return told
        return max(ours, key=lambda arm: arm.most_bytes, default=None)

    @property
    def longest(self) -> int:
        return max((s.steps + 1 for _, arm in self.arms for s in arm.strips), default=1)


def write_report(
    runs: Path | Sequence[Path | Arm],
    *,
    title: str = "",
    story: str = "",
    references: Sequence[Reference] | None = None,
    replay: Replay | None = None,
    out: Path | None = None,
    section: Markup | None = None,
) -> Path:
    """Write the report of one run directory, or of several as arms of one report, and return its
    path: `out`, or `report.html` in the run's folder (of the first, for several).

    `story` is a sentence that follows the replay, `section` HTML of this program's own that follows
    it. None for `replay`: the best in these runs; for `references`: those of `automem.references`
    that hold for each world and cap."""
    arms = [run if isinstance(run, Arm) else Arm(run.resolve().name, run)
            for run in ([runs] if isinstance(runs, Path) else runs)]  # fmt: skip
    if not arms:
        raise UsageError("a report needs at least one run")
    path = out or arms[0].run_dir / REPORT_FILE
    gathered = [gather(arm) for arm in arms]
    replay = replay or find_replay_in([data.arm.run_dir for data in gathered if data.rows])
    html = render(gathered, replay, title, story, references, section)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(html, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StoreError(f"cannot write {path}: {error}") from error
    return path


def render(
    arms: Sequence[ArmData],
    replay: Replay | None,
    title: str = "",
    story: str = "",
    references: Sequence[Reference] | None = None,
    section: Markup | None = None,
) -> str:
    """The page as text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_ASSETS),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=_number, count=_count, measure=_measure)
    worlds = _by_world(arms, references)
    return environment.get_template("report.html.j2").render(
        title=title or _title(arms),
        story=story,
        section=section or Markup(""),
        replay=replay,
        replay_arm=_arm_of(arms, replay),
        worlds=worlds,
        arms=arms,
        pending=sum(len(arm.pending) for arm in arms),
        failures=[(arm, episode, failure) for arm in arms for episode, failure in arm.failures],
        charts=charts,
        metric_top=_metric_top,
        style=Markup((_ASSETS / "style.css").read_text(encoding="utf-8")),
        version=importlib.metadata.version("automem"),
    )


def _title(arms: Sequence[ArmData]) -> str:
    worlds = sorted({arm.world for arm in arms if arm.world})
    what = ", ".join(worlds) or "nothing finished yet"
    return f"{arms[0].arm.name}: {what}" if len(arms) == 1 else f"{len(arms)} runs: {what}"


def _arm_of(arms: Sequence[ArmData], replay: Replay | None) -> ArmData | None:
    if replay is None:
        return None
    names = {str(arm.arm.run_dir): arm for arm in arms}
    names.update({arm.arm.run_dir.resolve().name: arm for arm in arms})
    return names.get(replay.run)


def _by_world(arms: Sequence[ArmData], references: Sequence[Reference] | None) -> list[WorldPart]:
    parts = []
    for world in dict.fromkeys(arm.world for arm in arms):
        ours = [arm for arm in arms if arm.world == world]
        caps = {arm.max_steps for arm in ours}
        if references is not None:
            beside = [r for r in references if r.world == world]
        else:
            beside = list({r: None for cap in caps for r in references_for(world, cap)})
        shown = [metric for metric in shown_metrics(ours) if _is_somewhere(metric, ours)]
        parts.append(
            WorldPart(
                world=world,
                arms=[(number % _COLOURS, arm) for number, arm in enumerate(ours)],
                references=sorted(beside, key=lambda r: r.value),
                top=_axis_end(ours, beside),
                metrics=shown,
                absent=[metric for metric in shown_metrics(ours) if metric not in shown],
            )
        )
    return parts


def _is_somewhere(metric: Metric, arms: Sequence[ArmData]) -> bool:
    return any(arm.metrics[metric.name].mean for arm in arms if arm.metrics)


def _axis_end(arms: Sequence[ArmData], references: Sequence[Reference]) -> float:
    values = [reference.value for reference in references]
    values += [row["progression"] for arm in arms for row in arm.rows]
    return min(1.0, charts.nice_ceiling(max(values, default=1.0)))


def _metric_top(part: WorldPart, metric: Metric) -> float:
    """End of a metric's axis over the arms of a world."""
    highs = [
        estimate.ci95[1] if estimate.ci95 else estimate.mean or 0.0
        for _, arm in part.arms
        if (estimate := arm.metrics.get(metric.name)) is not None
    ]
    top = charts.nice_ceiling(max(highs, default=0.0))
    return min(1.0, max(_LEAST_SHARE, top)) if metric.unit == "share" else top


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _measure(estimate: Estimate | None, unit: str) -> str:
    """A metric's mean in its unit."""
    if estimate is None or estimate.mean is None:
        return "–"
    mean = estimate.mean
    if unit == "share":
        if 0 < mean < 0.0005:
            return "< 0.1 %"
        return f"{100 * mean:.0f} %" if mean >= 0.1 or mean == 0 else f"{100 * mean:.1f} %"
    return f"{mean:,.0f}" if mean >= 100 else f"{mean:.1f}"


__all__ = ["REPORT_FILE", "Arm", "Reference", "render", "write_report"]
