"""`automem crafter-policy`: train the small Crafter policy, and report what it reaches."""

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automem.engine.models import resolve
from automem.errors import UsageError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from automem_learners.crafter_policy.pipeline import Settings

SCRIPTS = "scripts"
"""Value of `only_table` that leaves the model out."""
HELP = """\
usage: automem crafter-policy [key=value ...]

Clones the scripted Crafter player, made forgetful, into a small model on real Crafter text; then
plays it beside its teacher, careful and memoryless players and the full scripted player. Laid out
for half an hour on two idle cores. Keys: conf/crafter-policy.yaml.

examples:
  automem crafter-policy
  automem crafter-policy run.dir=runs/tiny corpus.games=8 training.seconds=60 table.episodes=2
  automem crafter-policy only_table=crafter_small # play the table with the shipped policy
  automem crafter-policy only_table=FOLDER     # or with that of a folder
  automem crafter-policy only_table=scripts    # the scripted arms alone, without any model
"""


def main(argv: list[str]) -> int:
    """Run the command."""
    if any(argument in ("-h", "--help") for argument in argv):
        print(HELP)
        return 0
    # Threads that wait must sleep, not spin: on a busy machine spinning costs ten times the work.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from automem.config import compose

    config = compose("crafter-policy", argv)
    checkpoint = _checkpoint(config.only_table) if config.only_table else None
    from automem_learners.crafter_policy.pipeline import Pipeline
    from automem_learners.crafter_policy.table import lines

    pipeline = Pipeline(_settings(config), _report)
    if config.only_table:
        _report(lines(pipeline.table(checkpoint)))
        return 0
    folder = _folder(config)
    card = pipeline.run(folder, command=f"automem crafter-policy {' '.join(argv)}".strip())
    _report(["", *lines(card.rows), f"\nwritten to {folder} (card.json, README.md)"])
    print(f"play with it: automem rollout experiment=crafter_small engine.model={folder}")
    return 0


def _folder(config: "DictConfig") -> Path:
    if config.run.dir:
        folder = Path(config.run.dir).expanduser()
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"run.dir={config.run.dir} is a file; give a folder")
        return folder
    return Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-crafter-policy"


def _checkpoint(name: str) -> Path | None:
    """The folder of the policy that plays; None for `scripts`."""
    if name == SCRIPTS:
        return None
    folder = Path(resolve(name)).expanduser()
    if not (folder / "config.json").is_file():
        raise UsageError(
            f"only_table={name}: expected the folder of a checkpoint (config.json), "
            f"crafter_small (the shipped one), or {SCRIPTS}"
        )
    return folder


def _settings(config: "DictConfig") -> "Settings":
    """Hydra ends here: plain data and constructors from now on."""
    import msgspec
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    from automem.agent.scaffold import load_scaffold
    from automem.config import scaffold_path
    from automem_learners.crafter_policy.corpus import CrafterCorpusPlan
    from automem_learners.crafter_policy.pipeline import Settings, TablePlan
    from automem_learners.crafter_policy.table import Arm
    from automem_learners.pretrain.model import ModelShape
    from automem_learners.pretrain.training import TrainingPlan

    plain: Any = OmegaConf.to_container(config, resolve=True)
    make_world: Callable[..., Any] = partial(_make_world, plain["env"]["world"])
    arms = tuple(
        Arm(
            name=str(arm["name"]),
            scaffold=load_scaffold(scaffold_path(arm.get("scaffold") or plain["scaffold"])),
            player=instantiate(arm["player"]) if arm.get("player") else None,
            temperature=float(arm.get("temperature", 1.0)),
            memory=str(arm.get("memory", "files")),
        )
        for arm in plain["arms"]
    )
    return Settings(
        make_world=make_world,
        teacher=instantiate(plain["teacher"]),
        players=tuple(
            (float(entry["weight"]), instantiate(entry["player"])) for entry in plain["players"]
        ),
        scaffold=load_scaffold(scaffold_path(plain["scaffold"])),
        corpus=msgspec.convert(plain["corpus"], CrafterCorpusPlan),
        held_out_games=int(plain["held_out_games"]),
        shape=msgspec.convert(plain["shape"], ModelShape),
        training=msgspec.convert(plain["training"], TrainingPlan),
        arms=arms,
        table=msgspec.convert(plain["table"], TablePlan),
        seed=int(plain["run"]["seed"]),
        processes=int(plain["run"]["processes"]),
    )


def _make_world(world: dict[str, Any], **changes: Any) -> Any:
    """A world of the env's own configuration, with `changes` (the cap)."""
    from hydra.utils import instantiate

    return instantiate(world | changes)


def _report(lines: Sequence[str] | str) -> None:
    for line in [lines] if isinstance(lines, str) else lines:
        print(line, flush=True)
