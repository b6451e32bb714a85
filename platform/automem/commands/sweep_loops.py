"""Sweeps over a whole loop: `automem proficiency -m selector=provenance,outcome` and its like.

Promise: every point is checked before the first one starts; each has a folder of its own, and the
same command with the same `run.dir` goes on with all of them. A grid only: what `sweep=optuna`
searches over is rollouts.
"""

import shlex
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from automem.cli import load
from automem.commands.compare import compare, has_figures
from automem.commands.play import shortest
from automem.commands.sweep import Outcome, ending, expand, play_grid
from automem.commands.table import Row
from automem.config import compose
from automem.errors import UsageError


@dataclass(frozen=True, slots=True)
class LoopPoint:
    """One loop, as its command carries it out; see `automem.commands.sweep.Playable`."""

    command: str
    overrides: list[str]
    config: DictConfig
    config_dir: str | None

    def play(self, run_dir: Path, title: str, is_shown: bool = True) -> Outcome:
        """Begin it or go on with it."""
        place = str(run_dir).replace("\\", "\\\\").replace("'", "\\'")
        words = [word for word in self.overrides if not word.startswith("run.dir=")]
        tree = ["--config-dir", self.config_dir] if self.config_dir else []
        with ending() as end:
            end.outcome = Outcome(load(self.command)([*words, f"run.dir='{place}'", *tree]))
        return end.outcome

    def row(self, run_dir: Path, title: str, outcome: Outcome) -> Row:
        """The figure that `automem compare` has for it."""
        value = compare([run_dir])[0].metric.mean if has_figures(run_dir) else None
        return Row(title, None, outcome.note, value)

    def again(self, run_dir: Path) -> str:
        """The command that goes on with it."""
        return f"automem {self.command} run.dir={shlex.quote(str(shortest(run_dir)))}"


def play_loops(
    command: str,
    options: Namespace,
    compose_point: Callable[[list[str], str | None], DictConfig],
    check: Callable[[DictConfig, str | None], object],
) -> int:
    """Play every combination; the exit code of the first that did not end well. `options`: the
    command's own (`overrides`, `config_dir`, `show`); `compose_point`: a point's configuration;
    `check`: UsageError for whatever is wrong with it."""
    overrides, config_dir = options.overrides, options.config_dir
    chosen = [word for word in overrides if word.partition("=")[0].startswith("sweep")]
    settings: Any = OmegaConf.to_container(
        compose("sweep_settings", chosen, config_dir).sweep, resolve=True
    )
    if settings["sweeper"] != "grid":
        raise UsageError(
            f"automem {command} -m plays every combination: sweep=local or sweep=ray; "
            f"sweep={settings['name']} searches over rollouts (automem rollout -m)"
        )
    points = []
    for words in expand(overrides):
        config = compose_point(words, config_dir)
        check(config, config_dir)
        points.append(LoopPoint(command, words, config, config_dir))
    if options.show:
        for point in points:
            print(OmegaConf.to_yaml(point.config, resolve=True), end="---\n")
        return 0
    return play_grid(points, settings)
