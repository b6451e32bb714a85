"""`automem rollout`: play episodes, once or (`-m`) once for each point of a sweep.

Promise: everything that can be checked is checked before the first episode starts, for every point
of a sweep; a point that fails does not stop the others.
"""

import shlex
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from automem.cli import FAILED
from automem.commands.arguments import Parser
from automem.commands.plan import fresh_dir, new_run_dir, spec_from
from automem.commands.play import broken_off, close, cut_short, exit_code, play_new, shortest
from automem.commands.table import Row, print_table
from automem.config import compose, groups, parse_overrides, scaffolds
from automem.errors import AutoMemError, InfrastructureError, UsageError
from automem.rollout.spec import RolloutSpec
from automem.trace.summary import write_summary

EXAMPLES = [
    "automem rollout                                  # the embedded game by the small model",
    "automem rollout env=crafter engine=scripted rollout.workers=2",
    "automem rollout env=crafter engine=openai engine.base_url=http://127.0.0.1:8000/v1 \\",
    "    engine.model=Qwen/Qwen2.5-32B-Instruct rollout.seeds=[42,43]",
    "automem rollout experiment=embedded tracker=wandb run.dir=runs/first",
    "automem rollout -m env=crafter,concentration engine=scripted run.seed='range(0,3)'",
    "automem rollout --config-dir ~/my-conf experiment=mine --show",
]


@dataclass(frozen=True, slots=True)
class Point:
    """One run to be played: checked, not yet started."""

    overrides: list[str]
    config: DictConfig
    spec: RolloutSpec


def main(argv: list[str]) -> int:
    """See the module's docstring."""
    parser = Parser("rollout", "Play episodes and write their traces, summary and report.", [])
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="see below")
    parser.add_argument("-m", "--multirun", action="store_true", help="sweep: a=1,2 b='range(0,3)'")
    parser.add_argument("--config-dir", metavar="DIR", help="your own tree, searched first")
    parser.add_argument("--config-name", metavar="NAME", default="config", help="root of the tree")
    parser.add_argument("--show", action="store_true", help="print the configuration and stop")
    if any(word in ("-h", "--help") for word in argv):
        parser.epilog = help_text(_config_dir_of(argv))
    options = parser.parse_intermixed_args(argv)

    def point(overrides: list[str]) -> Point:
        config = compose(options.config_name, overrides, options.config_dir)
        return Point(overrides, config, spec_from(config, options.config_dir))

    if options.show:
        config = compose(options.config_name, options.overrides, options.config_dir)
        print(OmegaConf.to_yaml(config, resolve=True), end="")
        return 0
    if options.multirun:
        return _sweep([point(each) for each in expand(options.overrides)])
    return _single(point(options.overrides))


def help_text(config_dir: str | None = None) -> str:
    """Examples, and what there is to choose from."""
    lines = ["examples:", *(f"  {example}" for example in EXAMPLES), "", "choices:"]
    choices = {**groups(config_dir), "scaffold": sorted(scaffolds(config_dir))}
    lines += [f"  {group}=  {', '.join(names)}" for group, names in choices.items()]
    lines += ["", "`automem rollout --show` prints every key with its value."]
    return "\n".join(lines)


def expand(overrides: Sequence[str]) -> list[list[str]]:
    """The points of a sweep: every combination of `a=1,2`, `choice(...)` and `range(...)`."""
    try:
        [points] = BasicSweeper.split_arguments(parse_overrides(overrides), max_batch_size=None)
    except HydraException as error:
        raise UsageError(f"cannot sweep over this: {error}") from error
    return points


def _single(point: Point) -> int:
    run_dir = new_run_dir(point.config)
    try:
        return close(play_new(point.spec, run_dir, point.config), run_dir)
    except InfrastructureError as error:
        return broken_off(error, run_dir)
    except KeyboardInterrupt:
        return cut_short(run_dir)


def _sweep(points: list[Point]) -> int:
    """Play every point in a folder of its own; one table at the end."""
    swept = _swept_keys(points)
    base = points[0].config.run.dir
    root = Path(base).expanduser().resolve() if base else fresh_dir(Path("multirun"), "sweep")
    rows, codes = [], []
    for number, point in enumerate(points):
        name = " ".join(word for word in point.overrides if word.partition("=")[0] in swept)
        run_dir = root / f"{number:03d}"
        print(f"[{number + 1}/{len(points)}] {name or 'the same'} → {run_dir}", file=sys.stderr)
        try:
            result = play_new(point.spec, run_dir, point.config, title=name)
        except KeyboardInterrupt:
            return cut_short(run_dir)
        except InfrastructureError as error:
            codes.append(broken_off(error, run_dir))
            rows.append(Row(f"{number:03d} {name}", write_summary(run_dir), str(error)))
        except AutoMemError as error:
            codes.append(FAILED)
            rows.append(Row(f"{number:03d} {name}", None, f"failed: {error}"))
        except Exception as error:  # noqa: BLE001 - one broken point must not cost the others
            traceback.print_exc()
            codes.append(FAILED)
            rows.append(Row(f"{number:03d} {name}", None, f"failed: {error!r}"))
        else:
            codes.append(exit_code(result, run_dir))
            rows.append(Row(f"{number:03d} {name}", write_summary(run_dir)))
            if result.interrupted:
                break
    print_table(rows)
    here = shlex.quote(str(shortest(root)))
    print(f"written: {here}, one folder for each run")
    print(
        f'next:    automem query {here} "select run, avg(progression) from episodes group by run"'
    )
    return next((code for code in codes if code), 0)


def _swept_keys(points: list[Point]) -> set[str]:
    """Keys that differ between points."""
    values: dict[str, set[str]] = {}
    for point in points:
        for word in point.overrides:
            values.setdefault(word.partition("=")[0], set()).add(word)
    return {key for key, words in values.items() if len(words) > 1}


def _config_dir_of(argv: Sequence[str]) -> str | None:
    for number, word in enumerate(argv):
        if word.startswith("--config-dir="):
            return word.partition("=")[2]
        if word == "--config-dir" and number + 1 < len(argv):
            return argv[number + 1]
    return None
