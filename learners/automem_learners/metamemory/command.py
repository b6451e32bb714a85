"""`automem metamemory`: learn when remembering is worth its tokens, and show what that saves."""

import os
import shlex
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automem.errors import InfrastructureError, UsageError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from automem.rollout.spec import RolloutSpec
    from automem_learners.metamemory.experiment import Plan

HELP = """\
usage: automem metamemory [key=value ...] [--config-dir DIR] [--show]

Trains a small gate that decides at each step how much memory work is done (LOG and consulting:
none, one model call, all), with RLlib: an offline start from recorded traces, then PPO over real
sessions. Plays it beside always, never and other rules. Keys: conf/metamemory.yaml.

examples:
  automem metamemory experiment=embedded              # five training seeds, the shipped specialist
  automem metamemory experiment=embedded training_seeds=[0] curve=[] evaluation.games=8
  automem metamemory env=crafter engine=scripted      # Crafter by its scripted player
  automem metamemory run.dir=runs/20260101-120000-metamemory      # go on with it
  automem rollout experiment=embedded specialist=shipped agent.gate=GATE    # play with a gate
"""
RESULTS = "results.json"


def main(argv: list[str]) -> int:
    """Run the command."""
    if any(argument in ("-h", "--help") for argument in argv):
        print(HELP)
        return 0
    # Threads that wait must sleep, not spin: on a busy machine spinning costs ten times the work.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from omegaconf import OmegaConf

    from automem.cli import INTERRUPTED, PENDING, say_error
    from automem.commands.loop_config import begun_or_new
    from automem.commands.plan import RUNS, fresh_dir
    from automem.rollout.run_dir import locked

    overrides, config_dir, is_shown = _arguments(argv)
    config = begun_or_new("metamemory", "practice", overrides, config_dir)
    if is_shown:
        print(OmegaConf.to_yaml(config, resolve=True), end="")
        return 0
    parts = Parts(config, config_dir)
    asked = config.run.dir
    folder = Path(asked).expanduser().resolve() if asked else fresh_dir(RUNS, "metamemory")
    again = f"automem metamemory run.dir={shlex.quote(str(folder))}"
    try:
        with locked(folder):
            return run(parts, folder)
    except InfrastructureError as error:
        say_error(f"{error}\nGo on with: {again}")
        return PENDING
    except KeyboardInterrupt:
        say_error(f"stopped; nothing is lost. Go on with: {again}")
        return INTERRUPTED


class Parts:
    """The configuration as plain data, checked; UsageError for whatever is wrong with it."""

    def __init__(self, config: "DictConfig", config_dir: str | None = None) -> None:
        from omegaconf import OmegaConf

        from automem.commands.plan import spec_from
        from automem.rollout.guarded_world import check_world

        self.config = config
        plain: Any = OmegaConf.to_container(config, resolve=True)
        self.template: RolloutSpec = spec_from(config, config_dir)
        check_world(self.template.world)
        if self.template.agent.get("gate"):
            raise UsageError("agent.gate is what this command varies: leave it empty")
        self.practice, self.practice_name = _practice(self.template, plain)
        adapter = self.template.memory.adapter
        self.policy = f"{plain['engine']['name']}" + (f" + {adapter}" if adapter else "")
        self.plan = _plan(plain)


def _practice(template: "RolloutSpec", plain: dict[str, Any]) -> "tuple[RolloutSpec, str]":
    """Who plays while gates are trained, and what to call them."""
    import msgspec

    from automem.engine.build import build_engine
    from automem.rollout.spec import EngineSpec, RoleSpec

    player = plain["practice"]["player"]
    if player is None:
        return template, "the same engine as in the table"
    if "_target_" not in player:
        raise UsageError("practice.player needs a _target_, a scripted player; or null")
    target = {"_target_": "automem.engine.scripted.ScriptedEngine", "player": player}
    build_engine(target)  # what is wrong with it is told now
    role = RoleSpec(engine="practice")
    engines = {"practice": EngineSpec(target=target, placement="worker")}
    spec = msgspec.structs.replace(template, engines=engines, memory=role, gameplay=role, workers=0)
    settings = ", ".join(f"{key} {value}" for key, value in player.items() if key != "_target_")
    return spec, f"{player['_target_'].rpartition('.')[2]}({settings})"


def _plan(plain: dict[str, Any]) -> "Plan":
    from automem.commands.loop_config import struct_of, value_of
    from automem.loops.stage import read_arm
    from automem_learners.metamemory.experiment import Offline, Plan
    from automem_learners.metamemory.training import Recipe

    offline = struct_of(Offline, plain["offline"], "offline")
    controls = plain["evaluation"]["controls"] or {}
    for part, rules in (("offline.rules", offline.rules), ("evaluation.controls", controls)):
        for name, agent in rules.items():
            read_arm({"agent": agent or {}}, f"{part}.{name}")
            if not (agent or {}).get("gate"):
                raise UsageError(f"{part}.{name} names no rule: add gate: always, or another")
    return Plan(
        training_seeds=value_of(tuple[int, ...], plain["training_seeds"], "training_seeds"),
        price=value_of(float, plain["price"], "price"),
        curve=value_of(tuple[float, ...], plain["curve"], "curve"),
        margin=value_of(float, plain["margin"], "margin"),
        goal=value_of(float, plain["goal"], "goal"),
        games=value_of(int, plain["evaluation"]["games"], "evaluation.games"),
        controls=controls,
        offline=offline,
        recipe=struct_of(Recipe, plain["recipe"], "recipe"),
        parallel=value_of(int, plain["parallel"], "parallel"),
    )


def run(parts: Parts, folder: Path) -> int:
    """The whole experiment in its folder, which is ours; the exit code."""
    import msgspec
    from omegaconf import OmegaConf

    from automem.commands.loop_config import teller
    from automem.commands.play import CONFIG_FILE, shortest
    from automem.rollout.engines import SharedEngines
    from automem.rollout.ray_local import connected
    from automem.rollout.run_dir import RUN_FILE
    from automem_learners.metamemory.experiment import Experiment
    from automem_learners.metamemory.results import lines

    if (folder / RUN_FILE).exists():
        raise UsageError(f"{folder} holds a run of automem rollout: choose another run.dir")
    if not (folder / "recorded").exists():  # what it was begun with is kept
        OmegaConf.save(parts.config, folder / CONFIG_FILE)
    say = teller(folder)
    with ExitStack() as stack:
        stack.enter_context(connected())
        engines = stack.enter_context(SharedEngines()) if parts.template.workers else None
        experiment = Experiment(parts.plan, folder, parts.template, parts.practice, engines, say)
        results = experiment.run(parts.policy, parts.practice_name)
    data = msgspec.json.format(msgspec.json.encode(results), indent=1)
    (folder / RESULTS).write_bytes(data + b"\n")
    print("\n".join(["", *lines(results)]))
    here = shortest(folder)
    print(f"\nwritten: {here}/{RESULTS}, gates/*/gate, table/*")
    gate = f"{here}/gates/price-{results.price:g}-seed-{results.training_seeds[0]}/gate"
    print(
        f"play with one: automem rollout agent.gate={shlex.quote(gate)} (and the same env, engine)"
    )
    return 0


def _arguments(argv: list[str]) -> tuple[list[str], str | None, bool]:
    """Overrides, the user's own tree, and whether the configuration is only to be shown."""
    from automem.commands.arguments import Parser

    parser = Parser("metamemory", "Learn when to remember.", [])
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--config-dir")
    parser.add_argument("--show", action="store_true")
    options = parser.parse_intermixed_args(argv)
    return options.overrides, options.config_dir, options.show
