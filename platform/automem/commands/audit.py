"""`automem audit`: is forgotten what was deleted? Facts are planted in memory, deleted, asked for.

Promise: everything that can be checked is checked first; the same command with the same `run.dir`
goes on where it was stopped or killed. Exit code 1 where the audit's own controls fail.
"""

import asyncio
import shlex
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich import box
from rich.table import Table

from automem.audit.experiment import Audit, Results, Settings
from automem.cli import FAILED, INTERRUPTED, PENDING, say_error
from automem.commands.arguments import Parser
from automem.commands.loop_config import begun_or_new, built, struct_of, teller
from automem.commands.plan import RUNS, fresh_dir, spec_from
from automem.commands.play import CONFIG_FILE, shortest
from automem.commands.table import wide_console
from automem.errors import InfrastructureError, UsageError
from automem.loops.begun import BEGUN
from automem.rollout.run_dir import RUN_FILE, locked
from automem.trace.statistics import Estimate

EXAMPLES = [
    "automem audit experiment=embedded                  # before and after training, with controls",
    "automem audit experiment=embedded specialist=shipped audit.trains=false  # only this one",
    "automem audit experiment=embedded audit.episodes=8 audit.repeats=1     # a quick look",
    "automem audit run.dir=runs/20260101-120000-audit    # go on with it",
]


def main(argv: list[str]) -> int:
    """See the module's docstring."""
    parser = Parser(
        "audit",
        "Plant facts in memory, delete them, and see how they survive. Keys: conf/audit.yaml.",
        EXAMPLES,
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="see below")
    parser.add_argument("--config-dir", metavar="DIR", help="your own tree, searched first")
    parser.add_argument("--show", action="store_true", help="print the configuration and stop")
    options = parser.parse_intermixed_args(argv)
    config = begun_or_new("audit", "facts", options.overrides, options.config_dir)
    if options.show:
        print(OmegaConf.to_yaml(config, resolve=True), end="")
        return 0
    plain: Any = OmegaConf.to_container(config, resolve=True)
    template = spec_from(config, options.config_dir)
    settings = struct_of(Settings, plain["audit"], "audit")
    # What this world has no value for is the source's own default.
    source = built({k: v for k, v in plain["facts"].items() if v is not None}, "facts")
    if source.world != template.world.name:
        raise UsageError(
            f"facts are those of {source.world}, the world is {template.world.name}: choose "
            f"env={source.world}, or facts of your own (automem.audit.facts.FactSource)"
        )
    if not plain["trainer"].get("base_model"):
        raise UsageError("an audit needs a model: choose engine=transformers or engine=vllm")
    trainer = built(plain["trainer"], "trainer", is_recursive=False)
    folder = (
        Path(config.run.dir).expanduser().resolve() if config.run.dir else fresh_dir(RUNS, "audit")
    )
    again = f"automem audit run.dir={shlex.quote(str(shortest(folder)))}"
    try:
        with locked(folder):
            if (folder / RUN_FILE).exists():
                raise UsageError(f"{folder} holds a run of automem rollout: choose another run.dir")
            if not (folder / BEGUN).exists():  # what it was begun with is kept
                OmegaConf.save(config, folder / CONFIG_FILE)
            audit = Audit(
                template, source, trainer, settings, folder, teller(folder), plain["trainer"]
            )
            results = asyncio.run(audit.run())
    except InfrastructureError as error:
        say_error(f"{error}\nGo on with: {again}")
        return PENDING
    except KeyboardInterrupt:
        say_error(f"stopped; nothing is lost. Go on with: {again}")
        return INTERRUPTED
    show(results)
    print(f"Written: {shortest(folder)}/results.json, answers-*.jsonl")
    return FAILED if results.verdict.startswith("the audit") else 0


def show(results: Results) -> None:
    """The table, and the verdict."""
    table = Table(box=box.SIMPLE_HEAD)
    columns = (
        "model",
        "variant",
        "FULL",
        "DEL-ON",
        "retrieved",
        "artefact",
        "unexplained",
        "DEL-OFF",
    )
    for column in columns:
        table.add_column(column, justify="left" if column in columns[:2] else "right")
    for arm in results.arms:
        for row in arm.rates:
            cells = (
                row.full,
                row.del_on,
                row.retrieved,
                row.artefact,
                row.unexplained,
                row.parametric,
            )
            table.add_row(arm.name, row.variant, *(_cell(cell) for cell in cells))
    wide_console().print(table)
    weights = Table(box=box.SIMPLE_HEAD, title="in the weights of the memory role")
    for column in ("model", "symbol first", "advantage (nats)", "p", "flagged"):
        weights.add_column(column, justify="left" if column == "model" else "right")
    for arm in results.arms:
        leak = arm.leak
        is_flagged = "yes" if leak.is_flagged else "no"
        weights.add_row(
            arm.name, _cell(leak.first), f"{leak.advantage:+.3f}", f"{leak.p:.4f}", is_flagged
        )
    wide_console().print(weights)
    print(
        f"{results.facts} facts; chance: {results.chance:.3f} of an answer, "
        f"{1 / results.arms[0].leak.symbols:.3f} of a symbol that comes first.\n{results.verdict}"
    )


def _cell(value: Estimate) -> str:
    if value.mean is None or value.ci95 is None:
        return "-" if value.mean is None else f"{value.mean:.2f}"
    return f"{value.mean:.2f} ({value.ci95[0]:.2f}-{value.ci95[1]:.2f})"


__all__ = ["main", "show"]
