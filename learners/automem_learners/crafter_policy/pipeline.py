"""From settings to a checkpoint with its card: corpus, training, held-out games, the table.

One training, reported as it comes out: there is no gate here and nothing is trained again until it
looks better. The table is played on seeds that no corpus draws from.
"""

import platform
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import torch

from automem.agent.scaffold import Scaffold
from automem.seeds import seeds_from
from automem.world import World
from automem_learners.crafter_policy.corpus import CorpusSource, CrafterCorpusPlan, make_corpus
from automem_learners.crafter_policy.table import Arm, Row, lines, play_table
from automem_learners.crafter_policy.tokenizer import crafter_tokenizer
from automem_learners.pretrain.corpus import Teacher
from automem_learners.pretrain.evaluation import KindScore, evaluate
from automem_learners.pretrain.model import (
    ModelShape,
    build_model,
    load_model,
    parameter_count,
    save_model,
)
from automem_learners.pretrain.pipeline import SAVED_DTYPE, weights_digest
from automem_learners.pretrain.training import Progress, TrainingPlan, train

TABLE_FILE = "table.json"


class TablePlan(msgspec.Struct, frozen=True):
    """How the table is played."""

    episodes: int = 30
    seeds: str = "report"
    """Range of the seeds."""
    max_steps: int = 500
    threads: int = 2


class Settings(msgspec.Struct, frozen=True):
    """Everything that decides the model and its table."""

    make_world: Callable[..., World]
    teacher: Teacher
    players: tuple[tuple[float, Teacher], ...]
    scaffold: Scaffold
    corpus: CrafterCorpusPlan
    held_out_games: int
    shape: ModelShape
    training: TrainingPlan
    arms: tuple[Arm, ...]
    table: TablePlan
    seed: int
    processes: int


class PolicyCard(msgspec.Struct, frozen=True):
    """`card.json`."""

    command: str
    parameters: int
    weights_sha256: str
    scaffold: str
    corpus_routines: int
    corpus_seconds: float
    trained_tokens: int
    training_seconds: float
    machine: str
    torch_version: str
    corpus: CrafterCorpusPlan
    training: TrainingPlan
    shape: ModelShape
    held_out: dict[str, KindScore]
    table: TablePlan
    rows: list[Row]


class Pipeline:
    """See the module's docstring."""

    def __init__(self, settings: Settings, report: Callable[[str], None]) -> None:
        self._settings = settings
        self._report = report
        self._started = time.perf_counter()

    def run(self, folder: Path, command: str) -> PolicyCard:
        """Train, judge, and leave checkpoint and card in `folder`."""
        settings = self._settings
        self._say(f"playing {settings.corpus.games} games for the corpus")
        began = time.perf_counter()
        corpus = make_corpus(self._source(settings.corpus), settings.processes)
        corpus_seconds = time.perf_counter() - began
        nodes = sum(len(conversation.tokens) for conversation in corpus)
        self._say(f"{len(corpus)} routines, {nodes / 1e6:.2f} M tokens; training")
        model = build_model(settings.shape, settings.seed)
        began = time.perf_counter()
        tokens = train(model, corpus, settings.training, settings.seed, self._on_progress)
        training_seconds = time.perf_counter() - began
        save_model(model, folder, SAVED_DTYPE, crafter_tokenizer())
        card = PolicyCard(
            command=command,
            parameters=parameter_count(model),
            weights_sha256=weights_digest(folder),
            scaffold=settings.scaffold.version,
            corpus_routines=len(corpus),
            corpus_seconds=round(corpus_seconds, 1),
            trained_tokens=tokens,
            training_seconds=round(training_seconds, 1),
            machine=f"{platform.machine()}, {torch.get_num_threads()} threads, CPU",
            torch_version=str(torch.__version__),
            corpus=settings.corpus,
            training=settings.training,
            shape=settings.shape,
            held_out=self._held_out(folder),
            table=settings.table,
            rows=[],
        )
        write_card(card, folder)  # what is trained is kept, even where the table is interrupted
        card = msgspec.structs.replace(card, rows=self.table(folder))
        write_card(card, folder)
        return card

    def table(self, folder: Path | None) -> list[Row]:
        """Play every arm with the model in `folder`; without one, those that need none."""
        settings = self._settings
        plan = settings.table
        rows = play_table(
            [arm for arm in settings.arms if folder is not None or arm.player is not None],
            lambda: settings.make_world(max_steps=plan.max_steps),
            seeds_from(plan.seeds, plan.episodes),
            folder,
            plan.threads,
            lambda row: self._say(
                f"{row.name}: {row.progression.mean or 0:.3f} +- {row.progression.se or 0:.3f}"
            ),
        )
        return rows

    def _held_out(self, folder: Path) -> dict[str, KindScore]:
        """How close the saved model is to its teacher in games it was not trained on."""
        settings = self._settings
        plan = msgspec.structs.replace(
            settings.corpus, games=settings.held_out_games, is_held_out=True, plan_share=0.1
        )
        scores = evaluate(load_model(folder), make_corpus(self._source(plan), settings.processes))
        for kind, score in scores.items():
            self._say(
                f"held out, {kind}: divergence {score.divergence:.4f}, "
                f"{score.certain_error:.2%} missed"
            )
        return scores

    def _source(self, plan: CrafterCorpusPlan) -> CorpusSource:
        settings = self._settings
        return CorpusSource(
            make_world=settings.make_world,
            teacher=settings.teacher,
            players=settings.players,
            scaffold=settings.scaffold,
            plan=plan,
            seed=settings.seed,
        )

    def _on_progress(self, progress: Progress) -> None:
        if progress.step % 50 == 0 or progress.step == progress.steps:
            self._say(
                f"step {progress.step}/{progress.steps}  divergence {progress.loss:.4f}  "
                f"{progress.tokens_per_s:,.0f} tokens/s"
            )

    def _say(self, text: str) -> None:
        self._report(f"{time.perf_counter() - self._started:6.0f} s  {text}")


def write_card(card: PolicyCard, folder: Path) -> None:
    """Write `card.json` and `README.md` beside the checkpoint."""
    data = msgspec.json.format(msgspec.json.encode(card), indent=1)
    (folder / "card.json").write_bytes(data + b"\n")
    (folder / "README.md").write_text(readme(card), encoding="utf-8")


def read_card(folder: Path) -> PolicyCard:
    """The card of a checkpoint's folder."""
    return msgspec.json.decode((folder / "card.json").read_bytes(), type=PolicyCard)


def readme(card: PolicyCard) -> str:
    """The text of the checkpoint's `README.md`."""
    table = "\n".join(lines(card.rows)) if card.rows else "Not played yet."
    held_out = "\n".join(
        f"| {kind} | {score.divergence:.4f} | {score.certain_error:.2%} |"
        for kind, score in card.held_out.items()
    )
    return f"""\
# The small Crafter policy

Qwen2 architecture, {card.parameters:,} parameters, bfloat16, a tokenizer of Crafter's phrases. It
plays Crafter from its real text, and nothing else: cloned from a scripted player with forgetful
habits by design. It exists so that the loops can be run on a world of the paper on a laptop; it is
no evidence for what large models reach or gain.

Made by `{card.command}`: {card.corpus_routines:,} routines played in {card.corpus_seconds:.0f} s,
{card.trained_tokens / 1e6:.1f} million tokens trained in {card.training_seconds:.0f} s
({card.machine}).

## In play

{card.table.episodes} episodes each, the first of the seed range `{card.table.seeds}`, at most
{card.table.max_steps} steps; 95 % bootstrap intervals over seeds, differences paired by seed.

{table}

## Held out

Divergence from the teacher (nats a token), and probability missed where it is certain.

| turns | divergence | missed |
| --- | --- | --- |
{held_out}

The weights' SHA-256 is `{card.weights_sha256}`; `card.json` holds every number.
"""
