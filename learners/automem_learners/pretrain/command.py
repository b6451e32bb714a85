"""`automem pretrain`: make the small base model and its card.

Plays a corpus, trains, evaluates on held-out scaffold variants, gates in play; where the gate
fails, goes on from those weights on other games, and the card says how often. Prints what it does,
writes the checkpoint of the last attempt whatever the gate says, and exits 1 where none passed.
"""

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automem.errors import UsageError

if TYPE_CHECKING:
    from omegaconf import DictConfig

HELP = """\
usage: automem pretrain [key=value ...]

Trains the small base model from scratch: scripted play across random scaffold variants, then a gate
in play against its teacher; again where it fails. An attempt takes up to half an hour on two cores,
the shipped model took four. Keys: conf/pretrain.yaml.

examples:
  automem pretrain
  automem pretrain run.dir=runs/small corpus.games=100 training.epochs=1 gate.games=20
  automem pretrain run.seed=7 +teacher.write=0.5
"""


def main(argv: list[str]) -> int:
    """Run the command; 0 where the gate passed, else 1."""
    if any(argument in ("-h", "--help") for argument in argv):
        print(HELP)
        return 0
    # Threads that wait must sleep, not spin: on a busy machine spinning costs ten times the work.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from automem.config import compose

    config = compose("pretrain", argv)
    folder = _folder(config)
    from automem_learners.pretrain.pipeline import Pipeline

    pipeline = Pipeline(_settings(config), _report)
    card = pipeline.run(folder, command=f"automem pretrain {' '.join(argv)}".strip())
    print(f"\nwritten to {folder} (card.json, README.md)")
    print(f"play with it: automem rollout engine.model={folder}")
    return 0 if card.verdict.passed else 1


def _folder(config: "DictConfig") -> Path:
    if config.run.dir:
        folder = Path(config.run.dir).expanduser()
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"run.dir={config.run.dir} is a file; give a folder")
        return folder
    return Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-pretrain"


def _settings(config: "DictConfig") -> Any:
    """Hydra ends here: plain data and constructors from now on."""
    import msgspec
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    from automem.agent.scaffold import load_scaffold
    from automem.config import scaffold_path
    from automem_learners.pretrain.corpus import CorpusPlan
    from automem_learners.pretrain.drills import DrillPlan
    from automem_learners.pretrain.gate import GatePlan
    from automem_learners.pretrain.model import ModelShape
    from automem_learners.pretrain.pipeline import Settings
    from automem_learners.pretrain.training import TrainingPlan

    plain: Any = OmegaConf.to_container(config, resolve=True)
    world = {key: value for key, value in plain["env"]["world"].items() if key != "max_steps"}
    make_world: Callable[..., Any] = partial(_make_world, world)
    return Settings(
        make_world=make_world,
        teacher=instantiate(plain["teacher"]),
        players=tuple(
            (float(entry["weight"]), instantiate(entry["player"])) for entry in plain["players"]
        ),
        scaffold=load_scaffold(scaffold_path(plain["scaffold"])),
        corpus=msgspec.convert(plain["corpus"], CorpusPlan),
        drills=msgspec.convert(plain["drills"], DrillPlan),
        held_out_games=int(plain["held_out_games"]),
        shape=msgspec.convert(plain["shape"], ModelShape),
        training=msgspec.convert(plain["training"], TrainingPlan),
        gate=msgspec.convert(plain["gate"], GatePlan),
        attempts=int(plain["attempts"]),
        seed=int(plain["run"]["seed"]),
        processes=int(plain["run"]["processes"]),
        start=Path(plain["start"]) if plain["start"] else None,
    )


def _make_world(world: dict[str, Any], **changes: Any) -> Any:
    """A world of the env's own configuration, with `changes` (the deck's size)."""
    from hydra.utils import instantiate

    return instantiate(world | changes)


def _report(lines: Sequence[str] | str) -> None:
    for line in [lines] if isinstance(lines, str) else lines:
        print(line, flush=True)
