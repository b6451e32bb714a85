"""What both loops came to: arms, the 2 x 2, the knowledge that revisions brought. Plain data."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from automem.errors import UsageError
from automem.loops.arm_results import ArmResult, differences
from automem.loops.knowledge_lineage import ClassedText
from automem.loops.stage import Played
from automem.trace.statistics import crossed_interval, estimate

RESULTS = "results-of-both.json"
SCHEMA = 1
START = "v0"
"""The starting scaffold with the base in both roles: what every arm is compared with."""


class Effect(msgspec.Struct, frozen=True):
    """A difference of progression."""

    name: str
    mean: float
    interval: tuple[float, float] | None
    """95 %: over training seeds and decks (`crossed_interval`), for the arms without training were
    played once and all seeds share their luck; the bootstrap's over decks where nothing in it was
    trained; None for one training seed, and where all came to the same."""
    values: list[float]
    """One for each training seed; one in all where nothing was trained."""
    fell_back: tuple[int, ...] = ()
    """Places in `values` where a gate had accepted nothing, so that the base played in a trained
    arm's place."""


class Square(msgspec.Struct, frozen=True):
    """The 2 x 2 of structure and training."""

    corners: tuple[str, str, str, str]
    """Names of the arms: start, evolved, start trained, evolved trained."""
    effects: list[Effect]


class RunResults(msgspec.Struct, frozen=True, kw_only=True):
    """`results-of-both.json`."""

    schema: int = SCHEMA
    commit: str
    created: float
    seconds: float
    """Of the call that came to the end; calls before it left out."""
    world: str
    base: str
    versions: dict[str, str]
    """Arm of the start and of each accepted version to the scaffold's version."""
    nodes: dict[str, str]
    """The same to the node of the lineage."""
    report_seeds: tuple[int, int]
    """First and last."""
    training_seeds: tuple[int, ...]
    arms: list[ArmResult]
    square: Square | None
    """None where nothing was accepted, or the start was not trained on."""
    knowledge: dict[str, list[ClassedText]]
    """Node of the lineage to what it added."""


def square_of(
    played: Mapping[str, Mapping[int, Played]], corners: tuple[str, str, str, str]
) -> Square | None:
    """The effects of structure, of training, and of both; None where a corner is missing."""
    if any(name not in played for name in corners):
        return None
    start, evolved, start_trained, evolved_trained = (_by_seed(played[name]) for name in corners)
    base, better = start[-1], evolved[-1]
    alone = differences(better, base)
    sides = [played[name] for name in corners[2:]]
    seeds = list(start_trained)
    on_start, on_evolved = ([s for s in seeds if side[s].fell_back] for side in sides)
    either = [*on_start, *on_evolved]
    gaps = {seed: differences(evolved_trained[seed], start_trained[seed]) for seed in seeds}
    found = estimate(alone)
    return Square(
        corners,
        [
            Effect("structure", found.mean or 0.0, found.ci95, [found.mean or 0.0]),
            _effect("training on v0", _against(start_trained, base), on_start),
            _effect("training on the evolved", _against(evolved_trained, better), on_evolved),
            _effect("structure, given training", gaps, either),
            _effect("both", _against(evolved_trained, base), on_evolved),
            _effect("more than the sum", _against(gaps, alone), either),
        ],
    )


def _against(
    trained: Mapping[int, Sequence[float]], base: Sequence[float]
) -> dict[int, list[float]]:
    return {seed: differences(row, base) for seed, row in trained.items()}


def _effect(name: str, rows: Mapping[int, Sequence[float]], fell_back: Sequence[int]) -> Effect:
    """`rows`: training seed to differences by deck."""
    values = [sum(row) / len(row) for row in rows.values()]
    return Effect(
        name,
        sum(values) / len(values),
        crossed_interval(list(rows.values())),
        values,
        tuple(place for place, seed in enumerate(rows) if seed in fell_back),
    )


def _by_seed(played: Mapping[int, Played]) -> dict[int, list[float]]:
    """Training seed to progression by deck, decks in order."""
    return {
        seed: [found.progressions[deck] for deck in sorted(found.progressions)]
        for seed, found in played.items()
    }


def write_results(folder: Path, results: RunResults) -> None:
    """Whole or not at all."""
    path = folder / RESULTS
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(msgspec.to_builtins(results, str_keys=True), indent=1) + "\n")
    os.replace(temporary, path)


def read_results(folder: Path) -> RunResults:
    """UsageError where there are none."""
    try:
        return msgspec.json.decode((folder / RESULTS).read_bytes(), type=RunResults)
    except FileNotFoundError:
        raise UsageError(f"{folder} has no {RESULTS}: automem run is not finished there") from None
