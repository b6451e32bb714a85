"""What an arm of an experiment came to: its figures beside the baseline's, training by training.

Promise: every arm is paired with the baseline by deck; a trained arm's figure is a mean over its
training seeds, and a seed whose gate accepted nothing stays in it, with the base in memory. Not
covered: playing (`experiment`, `run`), and how it is shown (`results_table`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from automem.errors import UsageError
from automem.loops.stage import Played
from automem.seeds import SeedRange, seed_range
from automem.trace.statistics import Estimate, crossed_interval, estimate, t_interval

BASELINE = "base"
"""Name of the arm that every other is compared with."""


class ArmResult(msgspec.Struct, frozen=True, kw_only=True):
    """One arm: a mean over training seeds (or over decks, for an arm that is not trained)."""

    name: str
    mean: float
    interval: tuple[float, float] | None
    """95 %: Student's over training seeds, given these decks, or the bootstrap's over decks; None
    for one seed, and where all came to the same."""
    by_training_seed: dict[int, Estimate]
    """Over decks; key -1 for an arm that is not trained."""
    difference: float | None = None
    """Mean over training seeds of the mean paired difference to the base."""
    difference_interval: tuple[float, float] | None = None
    """95 %: over training seeds and decks (`crossed_interval`), since the base was played once;
    the bootstrap's over decks where nothing or one seed was trained."""
    fell_back: tuple[int, ...] = ()
    """Training seeds whose gate accepted nothing: the base keeps memory there, and counts."""
    ratios: list[float] = []
    """Progression over the base's, per training seed."""
    failed: int = 0
    metrics: dict[str, float | None] = {}
    """Means over training seeds."""
    runs: list[str] = []
    """Run directories, relative to the experiment's folder."""


def arm_result(
    name: str,
    played: Mapping[str, Mapping[int, Played]],
    folder: Path,
    baseline: str = BASELINE,
) -> ArmResult:
    """What an arm came to beside the baseline. `played`: training seed to what was reached, key -1
    for an arm that is not trained; run folders are told relative to `folder`."""
    mine, base = played[name], played[baseline][-1]
    decks = sorted(base.progressions)
    values = {seed: [p.progressions[deck] for deck in decks] for seed, p in mine.items()}
    theirs = [base.progressions[deck] for deck in decks]
    by_seed = {seed: estimate(found) for seed, found in values.items()}
    rows = {seed: differences(found, theirs) for seed, found in values.items()}
    means = [found.mean or 0.0 for found in by_seed.values()]
    gaps = [sum(row) / len(row) for row in rows.values()]
    is_trained = -1 not in mine
    only = next(iter(by_seed))
    base_mean = sum(theirs) / len(theirs)
    names = {metric for found in mine.values() for metric in found.summary["metrics"]}
    return ArmResult(
        name=name,
        mean=sum(means) / len(means),
        interval=_over_trainings(means) if is_trained else by_seed[only].ci95,
        fell_back=tuple(seed for seed, found in mine.items() if found.fell_back),
        by_training_seed=by_seed,
        difference=None if name == baseline else sum(gaps) / len(gaps),
        difference_interval=None
        if name == baseline
        else crossed_interval(list(rows.values()))
        if len(rows) > 1
        else estimate(rows[only]).ci95,
        ratios=[mean / base_mean for mean in means] if base_mean else [],
        failed=sum(found.summary["failed"] for found in mine.values()),
        metrics={metric: _mean_metric(metric, mine) for metric in sorted(names)},
        runs=[str(found.run_dir.relative_to(folder)) for found in mine.values()],
    )


def differences(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Deck by deck."""
    return [one - other for one, other in zip(ours, theirs, strict=True)]


def _over_trainings(means: Sequence[float]) -> tuple[float, float] | None:
    """Student's interval; none where all are the same, as where every gate accepted nothing."""
    return t_interval(means) if max(means) > min(means) else None


def _mean_metric(metric: str, played: Mapping[int, Played]) -> float | None:
    values = [found.summary["metrics"][metric]["mean"] for found in played.values()]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def check_training_seeds(seeds: Sequence[int]) -> None:
    """UsageError where one cannot be a seed, or is there twice."""
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"training_seeds names a seed twice: {list(seeds)}")
    if any(seed < 0 for seed in seeds):
        raise UsageError(f"training_seeds must be 0 or more, got {min(seeds)}")


def check_games(games: int, least: int, name: str) -> None:
    """UsageError where there are no such decks."""
    most = len(seed_range(SeedRange.REPORT))
    if not least <= games <= most:
        raise UsageError(f"{name} must be at least {least} and at most {most:,}, got {games}")


def slug(name: str) -> str:
    """A folder's name for an arm."""
    return "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())


def report_runs(arms: Sequence[ArmResult], folder: Path) -> list[tuple[str, Path]]:
    """(name, run directory) of one run per arm; of a trained one the first training that the gate
    accepted, named with its seed, since the arm's figure is a mean over all of them."""
    found = []
    for arm in arms:
        runs = dict(zip(arm.by_training_seed, arm.runs, strict=True))
        own = {seed: run for seed, run in runs.items() if seed not in arm.fell_back}
        if own:
            seed = next(iter(own))
            name = arm.name if seed < 0 else f"{arm.name}, training seed {seed}"
            found.append((name, folder / own[seed]))
    return found
