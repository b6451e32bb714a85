"""`automem rollout`: play episodes, once or (`-m`) once for each point of a sweep.

Promise: everything that can be checked is checked before the first episode starts, for every point
of a sweep; a point that fails does not stop the others.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from automem.agent.scaffold import load_scaffold
from automem.commands.arguments import Parser
from automem.commands.plan import new_run_dir, spec_from
from automem.commands.play import broken_off, close, cut_short, play_new
from automem.commands.sweep import Point, expand, play_grid
from automem.commands.sweep_search import first_of, play_search, split
from automem.config import compose, groups, scaffolds
from automem.errors import InfrastructureError, ScaffoldError, UsageError

EXAMPLES = [
    "automem rollout                                  # the embedded game by the small model",
    "automem rollout env=crafter engine=scripted rollout.workers=2",
    "automem rollout env=crafter engine=openai engine.base_url=http://127.0.0.1:8000/v1 \\",
    "    engine.model=Qwen/Qwen2.5-32B-Instruct rollout.seeds=[42,43]",
    "automem rollout experiment=embedded tracker=wandb run.dir=runs/first",
    "automem rollout -m env=crafter,concentration engine=scripted run.seed='range(0,3)'",
    "automem rollout -m sweep=ray scaffold=embedded,v0 run.seed=1,2    # some at a time, on Ray",
    "automem rollout -m sweep=optuna engine.sampling.temperature='interval(0.2,1.5)'",
    "automem rollout --config-dir ~/my-conf experiment=mine --show",
]


def main(argv: list[str]) -> int:
    """See the module's docstring."""
    options = _options(argv)
    if options.show:
        words = expand(options.overrides) if options.multirun else [options.overrides]
        configs = [compose(options.config_name, each, options.config_dir) for each in words]
        print("---\n".join(OmegaConf.to_yaml(each, resolve=True) for each in configs), end="")
        return 0
    if not options.multirun:
        return _single(points_of(argv)[0])
    settings = sweep_settings(options)
    if settings["sweeper"] == "optuna":
        return play_search(options.overrides, settings, partial(_point, options))
    return play_grid(points_of(argv), settings)


def points_of(argv: list[str]) -> list[Point]:
    """The runs that these arguments ask for, checked; UsageError says what is wrong with them."""
    options = _options(argv)
    if not options.multirun:
        return [_point(options, options.overrides)]
    if sweep_settings(options)["sweeper"] == "optuna":
        fixed, space = split(options.overrides)
        return [_point(options, [*fixed, *first_of(space)])]
    return [_point(options, each) for each in expand(options.overrides)]


def _point(options: argparse.Namespace, overrides: list[str]) -> Point:
    config = compose(options.config_name, overrides, options.config_dir)
    spec = spec_from(config, options.config_dir)
    try:
        load_scaffold(Path(spec.scaffold))
    except ScaffoldError as error:
        raise UsageError(f"scaffold={config.scaffold}: {error}") from error
    return Point(overrides, config, spec)


def sweep_settings(options: argparse.Namespace) -> dict[str, Any]:
    """How the points are chosen and played: the group `sweep`, the same for all of them."""
    words = [word for word in options.overrides if word.partition("=")[0].startswith("sweep")]
    tree = compose("sweep_settings", words, options.config_dir)
    plain: Any = OmegaConf.to_container(tree.sweep, resolve=True)
    return plain


def _options(argv: list[str]) -> argparse.Namespace:
    parser = Parser("rollout", "Play episodes and write their traces, summary and report.", [])
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="see below")
    parser.add_argument("-m", "--multirun", action="store_true", help="sweep: a=1,2 b='range(0,3)'")
    parser.add_argument("--config-dir", metavar="DIR", help="your own tree, searched first")
    parser.add_argument("--config-name", metavar="NAME", default="config", help="root of the tree")
    parser.add_argument("--show", action="store_true", help="print the configuration and stop")
    if any(word in ("-h", "--help") for word in argv):
        parser.epilog = help_text(_config_dir_of(argv))
    return parser.parse_intermixed_args(argv)


def help_text(config_dir: str | None = None) -> str:
    """Examples, and what there is to choose from."""
    lines = ["examples:", *(f"  {example}" for example in EXAMPLES), "", "choices:"]
    choices = {**groups(config_dir), "scaffold": sorted(scaffolds(config_dir))}
    lines += [f"  {group}=  {', '.join(names)}" for group, names in choices.items()]
    lines += ["", "`automem rollout --show` prints every key with its value."]
    return "\n".join(lines)


def _single(point: Point) -> int:
    run_dir = new_run_dir(point.config)
    try:
        return close(play_new(point.spec, run_dir, point.config), run_dir)
    except InfrastructureError as error:
        return broken_off(error, run_dir)
    except KeyboardInterrupt:
        return cut_short(run_dir)


def _config_dir_of(argv: Sequence[str]) -> str | None:
    for number, word in enumerate(argv):
        if word.startswith("--config-dir="):
            return word.partition("=")[2]
        if word == "--config-dir" and number + 1 < len(argv):
            return argv[number + 1]
    return None
