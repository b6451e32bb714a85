"""The report's drawings: inline SVG, coloured by the page's CSS variables, so that they follow
light and dark. Every text that comes from outside is escaped; nothing is loaded from anywhere.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from markupsafe import Markup, escape

from automem.report_parts.gather import ArmData, Strip
from automem.trace.statistics import Estimate

WIDTH = 1000
"""Of the wide drawings, in their own units; CSS stretches them."""


def nice_ceiling(value: float) -> float:
    """The next of 1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10 times a power of ten: an axis's end."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    for factor in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10):
        if value <= factor * power * (1 + 1e-9):
            return float(factor * power)
    return 10 * power


def interval_bar(estimate: Estimate, top: float, colour: int) -> Markup:
    """A bar from 0 to the mean with its 95 % interval, on an axis from 0 to `top`."""
    if estimate.mean is None:
        return Markup('<svg class="bar" viewBox="0 0 100 12" aria-hidden="true"></svg>')

    def x(value: float) -> float:
        return round(min(1.0, max(0.0, value / top)) * 100, 2)

    parts = [
        '<rect class="track" x="0" y="2" width="100" height="8" rx="1"/>',
        f'<rect class="c{colour}" x="0" y="2" width="{x(estimate.mean)}" height="8" rx="1"/>',
    ]
    if estimate.ci95 is not None and estimate.ci95[0] < estimate.ci95[1]:
        low, high = (x(value) for value in estimate.ci95)
        parts.append(f'<path class="whisker" d="M{low} 6H{high}M{low} 3.2V8.8M{high} 3.2V8.8"/>')
    return Markup(
        '<svg class="bar" viewBox="0 0 100 12" preserveAspectRatio="none" aria-hidden="true">'
        + "".join(parts)
        + "</svg>"
    )


def reference_mark(value: float, top: float) -> Markup:
    """A reference point on the same axis: a mark, no bar."""
    x = round(min(1.0, max(0.0, value / top)) * 100, 2)
    return Markup(
        '<svg class="bar" viewBox="0 0 100 12" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="track" x="0" y="2" width="100" height="8" rx="1"/>'
        f'<path class="mark" d="M{x} 1V11"/></svg>'
    )


def seeds_plot(arms: Sequence[ArmData], colours: Sequence[int], top: float) -> Markup:
    """Progression of each episode over its seed, a column per seed; each arm's mean as a line."""
    seeds = sorted({row["seed"] for arm in arms for row in arm.rows})
    if not seeds:
        return Markup("")
    left, right, height, foot = 46, 10, 250, 34
    column = (WIDTH - left - right) / len(seeds)

    def x(place: float) -> float:
        return round(left + (place + 0.5) * column, 1)

    def y(value: float) -> float:
        return round(10 + (1 - value / top) * (height - 20), 1)

    parts = [_grid(top, y, left, WIDTH - right)]
    every = max(1, math.ceil((7 * len(str(seeds[-1])) + 16) / column))
    for place, seed in enumerate(seeds):
        if place % every == 0:
            parts.append(f'<text class="tick" x="{x(place)}" y="{height + 16}">{seed}</text>')
    parts.append(f'<text class="tick" x="{WIDTH / 2}" y="{height + foot}">seed</text>')
    spread = min(0.6, 14 * len(arms) / column) / max(1, len(arms))
    radius = max(2.2, min(5.0, column / 3))
    places = {seed: place for place, seed in enumerate(seeds)}
    for number, (arm, colour) in enumerate(zip(arms, colours, strict=True)):
        if arm.progression.mean is not None:
            mean = y(arm.progression.mean)
            parts.append(f'<path class="mean s{colour}" d="M{left} {mean}H{WIDTH - right}"/>')
        offset = (number - (len(arms) - 1) / 2) * spread
        for row in arm.rows:
            centre = x(places[row["seed"]] + offset)
            title = escape(
                f"{arm.arm.name}, seed {row['seed']}: {row['progression']:.3f} ({row['stop']})"
            )
            failed = " failed" if row["failed"] else ""
            parts.append(
                f'<circle class="dot c{colour}{failed}" cx="{centre}" cy="{y(row["progression"])}" '
                f'r="{radius:.1f}"><title>{title}</title></circle>'
            )
    return Markup(
        f'<svg class="wide" viewBox="0 0 {WIDTH} {height + foot + 6}" role="img" '
        f'aria-label="progression per seed">{"".join(parts)}</svg>'
    )


def _grid(top: float, y: Callable[[float], float], left: float, right: float) -> str:
    lines = []
    for number in range(5):
        value = top * number / 4
        lines.append(f'<path class="grid" d="M{left} {y(value)}H{right}"/>')
        lines.append(f'<text class="tick end" x="{left - 8}" y="{y(value) + 4}">{value:.3g}</text>')
    return "".join(lines)


def strip(strip: Strip, longest: int, most_bytes: int, colour: int) -> Markup:
    """An episode over its steps: memory as an area, progression as a line, reading operations as
    ticks above and writing ones below. `longest` and `most_bytes` set the axes."""
    bins = len(strip.reached)
    if bins == 0:
        return Markup('<svg class="strip" viewBox="0 0 1000 64" aria-hidden="true"></svg>')
    width = 1000 * min(1.0, (strip.steps + 1) / longest)
    edges = [round(number * width / bins, 1) for number in range(bins + 1)]
    middles = [round((one + other) / 2, 1) for one, other in pairwise(edges)]
    memory = _staircase(strip.memory_bytes, edges, most_bytes)
    return Markup(
        '<svg class="strip" viewBox="0 0 1000 64" preserveAspectRatio="none" aria-hidden="true">'
        f'<path class="grid" d="M0 12H{edges[-1]}"/>'
        f'<polygon class="memory" points="0,52 {memory} {edges[-1]},52"/>'
        f'<polyline class="reached s{colour}" points="{_staircase(strip.reached, edges, 1.0)}"/>'
        f'<path class="base" d="M0 52H{edges[-1]}"/>'
        f"{_ticks(strip.reads, middles, 'read', 1, 9)}"
        f"{_ticks(strip.writes, middles, 'write', 55, 63)}</svg>"
    )


def _staircase(values: Sequence[float], edges: Sequence[float], top: float) -> str:
    """Points of a line that holds each value over its bin; equal neighbours are drawn as one."""
    points: list[str] = []
    last = None
    for number, value in enumerate(values):
        if value != last:
            y = round(52 - 40 * value / (top or 1), 1)
            if points:
                points.append(f"{edges[number]},{points[-1].partition(',')[2]}")
            points.append(f"{edges[number]},{y}")
            last = value
    points.append(f"{edges[-1]},{points[-1].partition(',')[2]}")
    return " ".join(points)


def _ticks(counts: Sequence[int], xs: Sequence[float], name: str, top: int, bottom: int) -> str:
    most = max(counts, default=0)
    by_strength: dict[int, list[str]] = {}
    for x, count in zip(xs, counts, strict=True):
        if count:
            strength = math.ceil(3 * count / most)
            by_strength.setdefault(strength, []).append(f"M{x} {top}V{bottom}")
    return "".join(
        f'<path class="{name} strength{strength}" d="{"".join(lines)}"/>'
        for strength, lines in sorted(by_strength.items())
    )
