"""What both loops came to: arms, the 2 x 2, the knowledge that revisions brought. Plain data."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from automem.errors import UsageError
from automem.loops.experiment import ArmResult
from automem.loops.knowledge import Classed
from automem.loops.stage import Played
from automem.trace.statistics import paired_difference, t_interval

RESULTS = "results-of-both.json"
SCHEMA = 1
START = "v0"
"""The starting scaffold with the base in both roles: what every arm is compared with."""


class Effect(msgspec.Struct, frozen=True):
    """A difference of progression."""

    name: str
    mean: float
    interval: tuple[float, float] | None
    """95 %: Student's over training seeds, or the bootstrap's over decks where nothing in it was
    trained; None for one training seed."""
    values: list[float]
    """One for each training seed; one in all where nothing was trained."""


class Square(msgspec.Struct, frozen=True):
    """The 2 x 2 of structure and training."""

    corners: tuple[str, str, str, str]
    """Names of the arms: start, evolved, start trained, evolved trained."""
    effects: list[Effect]


class ClassedText(msgspec.Struct, frozen=True):
    """A passage that a revision added."""

    where: str
    text: str
    kind: str
    """`structure`, `declared`, `undeclared`."""
    words: tuple[str, ...]
    """The world's own words in it."""

    @classmethod
    def of(cls, classed: Classed) -> "ClassedText":
        passage = classed.passage
        return cls(passage.where, passage.text, str(classed.kind), classed.words)


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
    seeds = list(start_trained)
    base, better = start[-1], evolved[-1]
    alone = paired_difference(better, base)
    gaps = {
        "training on v0": [_gap(start_trained[s], base) for s in seeds],
        "training on the evolved": [_gap(evolved_trained[s], better) for s in seeds],
        "structure, given training": [_gap(evolved_trained[s], start_trained[s]) for s in seeds],
        "both": [_gap(evolved_trained[s], base) for s in seeds],
        "more than the sum": [
            _gap(evolved_trained[s], start_trained[s]) - (alone.mean or 0.0) for s in seeds
        ],
    }
    effects = [Effect("structure", alone.mean or 0.0, alone.ci95, [alone.mean or 0.0])]
    effects += [
        Effect(name, sum(values) / len(values), t_interval(values), values)
        for name, values in gaps.items()
    ]
    return Square(corners, effects)


def _by_seed(played: Mapping[int, Played]) -> dict[int, list[float]]:
    """Training seed to progression by deck, decks in order."""
    return {
        seed: [found.progressions[deck] for deck in sorted(found.progressions)]
        for seed, found in played.items()
    }


def _gap(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return sum(one - other for one, other in zip(ours, theirs, strict=True)) / len(theirs)


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
