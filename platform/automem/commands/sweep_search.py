"""A search over points: Optuna proposes them (`sweep=optuna`), the sweep's launcher plays them.

Promise: the study lies in the sweep's folder (`study.log`), so the same command with the same
`run.dir` goes on with it; a point that fails is told to Optuna as failed and does not stop the
search. What is maximised is a figure of one run: it finds settings, it proves nothing about them;
play the best again on other seeds.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import (
    ChoiceSweep,
    IntervalSweep,
    Override,
    RangeSweep,
)

from automem.cli import FAILED, INTERRUPTED
from automem.commands.sweep import Launch, Outcome, Playable, Point, launcher, root_of, tell
from automem.config import parse_overrides
from automem.errors import UsageError
from automem.suggest import no_such
from automem.trace.metrics import BY_NAME
from automem.trace.summary import write_summary

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import Trial

STUDY_FILE = "study.log"
Played = tuple[Playable | None, Path, str, Outcome]
OF_THE_RUN = ("steps_per_s", "platform_ms_per_step")
DIRECTIONS = ("maximize", "minimize")


def play_search(
    overrides: list[str], settings: Mapping[str, Any], make_point: Callable[[list[str]], Point]
) -> int:
    """Play `sweep.trials` points; the exit code of the first one that did not end well."""
    if settings["direction"] not in DIRECTIONS:
        raise UsageError(no_such("sweep.direction", str(settings["direction"]), DIRECTIONS))
    known = ["progression", *OF_THE_RUN, *BY_NAME]
    if settings["metric"] not in known:
        raise UsageError(no_such("sweep.metric", str(settings["metric"]), known))
    fixed, space = split(overrides)
    launch = launcher(dict(settings))
    root = root_of(make_point([*fixed, *first_of(space)]))
    study = _study(root, settings)
    done = len(study.get_trials(deepcopy=False))
    played: list[Played] = []
    while done < settings["trials"]:
        count = min(settings["parallel"], settings["trials"] - done)
        played += _batch(study, count, fixed, space, root, settings, launch, make_point)
        done += count
        if any(outcome.code == INTERRUPTED for *_, outcome in played):
            break
    code = tell(played, root) if played else 0
    _tell_best(study, settings)
    return code


def split(overrides: list[str]) -> tuple[list[str], dict[str, "BaseDistribution"]]:
    """What is the same in every point, and what is searched over. UsageError where nothing is."""
    fixed, space = [], {}
    for item in parse_overrides(overrides):
        if item.is_sweep_override():
            space[item.get_key_element()] = distribution(item)
        else:
            fixed.append(str(item.input_line))
    if not space:
        raise UsageError(
            "sweep=optuna has nothing to search over: give a key several values, such as "
            "engine.sampling.temperature='interval(0.2,1.5)' or scaffold=embedded,v0"
        )
    return fixed, space


def distribution(item: Override) -> "BaseDistribution":
    """Optuna's name for what an override sweeps over."""
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    swept = item.value()
    if isinstance(swept, ChoiceSweep):
        return CategoricalDistribution(list(item.sweep_string_iterator()))
    if not _has_values(swept):
        raise UsageError(f"{item.input_line}: there is nothing between these bounds")
    if isinstance(swept, RangeSweep):
        values = [float(value) for value in swept.range()]
        if all(value.is_integer() for value in values):
            step = int(values[1] - values[0]) if len(values) > 1 else 1
            return IntDistribution(int(values[0]), int(values[-1]), step=step)
        step_size = values[1] - values[0] if len(values) > 1 else None
        return FloatDistribution(values[0], values[-1], step=step_size)
    if isinstance(swept, IntervalSweep) and swept.start is not None and swept.end is not None:
        return FloatDistribution(float(swept.start), float(swept.end))
    raise UsageError(f"{item.input_line}: expected a,b,c or range(a,b) or interval(a,b)")


def _has_values(swept: Any) -> bool:
    """Optuna's distributions grow from a low bound to a high one."""
    if isinstance(swept, RangeSweep):
        return any(True for _ in swept.range()) and (swept.step or 1) > 0
    return not isinstance(swept, IntervalSweep) or (swept.start or 0.0) <= (swept.end or 0.0)


def first_of(space: Mapping[str, "BaseDistribution"]) -> list[str]:
    """One point of the space, to check a configuration by."""
    from optuna.distributions import CategoricalDistribution

    words = []
    for key, found in space.items():
        value: Any = found.choices[0] if isinstance(found, CategoricalDistribution) else found.low  # type: ignore[attr-defined]
        words.append(f"{key}={value}")
    return words


def _study(root: Path, settings: Mapping[str, Any]) -> "Study":
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    root.mkdir(parents=True, exist_ok=True)
    return optuna.create_study(
        study_name="sweep",
        storage=JournalStorage(JournalFileBackend(str(root / STUDY_FILE))),
        sampler=optuna.samplers.TPESampler(seed=settings["seed"]),
        direction=settings["direction"],
        load_if_exists=True,
    )


def _batch(
    study: "Study",
    count: int,
    fixed: list[str],
    space: dict[str, "BaseDistribution"],
    root: Path,
    settings: Mapping[str, Any],
    launch: Launch,
    make_point: Callable[[list[str]], Point],
) -> list[Played]:
    """Propose so many points, play them, and tell what they reached."""
    from optuna.trial import TrialState

    trials = [study.ask(fixed_distributions=space) for _ in range(count)]
    jobs, asked = [], []
    played: list[Played] = []
    for trial in trials:
        words = [f"{key}={value}" for key, value in trial.params.items()]
        run_dir, name = root / f"{trial.number:03d}", " ".join(words)
        try:
            jobs.append((make_point([*fixed, *words]), run_dir, name))
            asked.append(trial)
        except UsageError as error:
            study.tell(trial, state=TrialState.FAIL)
            played.append((None, run_dir, name, Outcome(FAILED, f"failed: {error}")))
    for place, outcome in launch(jobs):
        point, run_dir, name = jobs[place]
        _tell(
            study, asked[place], _figure(run_dir, settings["metric"]) if not outcome.code else None
        )
        played.append((point, run_dir, name, outcome))
    return played


def _tell(study: "Study", trial: "Trial", value: float | None) -> None:
    from optuna.trial import TrialState

    if value is None:
        study.tell(trial, state=TrialState.FAIL)
    else:
        study.tell(trial, value)


def _figure(run_dir: Path, metric: str) -> float | None:
    """A run's figure; None where it has none."""
    summary = write_summary(run_dir)
    if metric in OF_THE_RUN:
        figure: float | None = summary[metric]
        return figure
    mean: float | None = {**summary["metrics"], "progression": summary["progression"]}[metric][
        "mean"
    ]
    return mean


def _tell_best(study: "Study", settings: Mapping[str, Any]) -> None:
    done = [trial for trial in study.get_trials(deepcopy=False) if trial.value is not None]
    if not done:
        print("no point reached anything", file=sys.stderr)
        return
    words = " ".join(f"{key}={value}" for key, value in study.best_params.items())
    print(
        f"best:    {words} ({settings['metric']} {study.best_value:.3f} in {len(done)} points; "
        "it is the best of several, so play it again on other seeds)"
    )
