"""From settings to a gated checkpoint with its card: corpus, training, evaluation, gate, again."""

import hashlib
import platform
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import torch
from transformers import Qwen2ForCausalLM

from automem.agent.scaffold import Scaffold
from automem.seeds import derive
from automem.world import World
from automem_learners.pretrain.card import Attempt, Card, Unjudged, read_attempts, write_card
from automem_learners.pretrain.corpus import CorpusPlan, CorpusSource, Teacher, make_corpus
from automem_learners.pretrain.drills import DrillPlan, recall_drills
from automem_learners.pretrain.evaluation import KindScore, evaluate
from automem_learners.pretrain.gate import GatePlan, Table, Verdict
from automem_learners.pretrain.model import (
    ModelShape,
    build_model,
    load_model,
    parameter_count,
    save_model,
)
from automem_learners.pretrain.play import Played
from automem_learners.pretrain.training import Progress, TrainingPlan, train
from automem_learners.pretrain.trees import Conversation

UNJUDGED = "unjudged.json"
SAVED_DTYPE = torch.bfloat16
"""Rounded once, before the gate: what is measured is what is shipped, in every engine."""


class Settings(msgspec.Struct, frozen=True):
    """Everything that decides the model."""

    make_world: Callable[..., World]
    teacher: Teacher
    players: tuple[tuple[float, Teacher], ...]
    scaffold: Scaffold
    corpus: CorpusPlan
    drills: DrillPlan
    held_out_games: int
    shape: ModelShape
    training: TrainingPlan
    gate: GatePlan
    attempts: int
    seed: int
    processes: int
    start: Path | None = None
    """A checkpoint's folder to go on from, its card's attempts counted."""


class Pipeline:
    """See the module's docstring."""

    def __init__(self, settings: Settings, report: Callable[[str], None]) -> None:
        self._settings = settings
        self._report = report
        self._started = time.perf_counter()

    def run(self, folder: Path, command: str) -> Card:
        """Attempts until one passes; the last one's checkpoint and card are in `folder`.

        Each attempt goes on from the weights of the one before, on games of its own. A training
        that was stopped before its verdict is judged when `run` is called again."""
        settings = self._settings
        unjudged = self._unjudged(folder)
        model, attempts = self._start(folder, unjudged)
        for _ in range(settings.attempts):
            seed = settings.seed + len(attempts)
            if unjudged is None:
                trained = self._train(model, folder, seed, is_continued=bool(attempts))
                unjudged = Unjudged(self._digest(), list(attempts), trained)
                (folder / UNJUDGED).write_bytes(msgspec.json.encode(unjudged))
            trained, unjudged = unjudged.trained, None
            scores = self._evaluate(folder, seed)
            verdict = self._judge(folder)
            attempts.append(
                msgspec.structs.replace(
                    trained,
                    passed=verdict.passed,
                    difference=verdict.difference.mean or 0.0,
                    interval=verdict.interval,
                    greedy=verdict.greedy.progression.mean or 0.0,
                )
            )
            card = self._card(folder, command, attempts, scores, verdict)
            write_card(card, folder)
            (folder / UNJUDGED).unlink()
            if verdict.passed:
                break
        return card

    def _unjudged(self, folder: Path) -> Unjudged | None:
        """What an earlier run of the same settings left in `folder` without a verdict."""
        try:
            found = msgspec.json.decode((folder / UNJUDGED).read_bytes(), type=Unjudged)
        except FileNotFoundError:
            return None
        if found.settings != self._digest():
            return None
        self._say(f"seed {found.trained.seed}: trained before; its verdict is still to come")
        return found

    def _digest(self) -> str:
        """Of what decides the weights."""
        settings = self._settings
        parts = (
            settings.corpus,
            settings.drills,
            settings.shape,
            settings.training,
            settings.scaffold.version,
        )
        named = (*parts, settings.seed, str(settings.start))
        return hashlib.sha256(msgspec.json.encode(named)).hexdigest()[:16]

    def _start(
        self, folder: Path, unjudged: Unjudged | None
    ) -> tuple[Qwen2ForCausalLM, list[Attempt]]:
        """A fresh model, or the one to go on from with its history."""
        settings = self._settings
        if unjudged is not None:
            return load_model(folder), unjudged.before
        if settings.start is None:
            return build_model(settings.shape, settings.seed), []
        return load_model(settings.start), read_attempts(settings.start)

    def _train(
        self, model: Qwen2ForCausalLM, folder: Path, seed: int, is_continued: bool
    ) -> Attempt:
        settings = self._settings
        practised = 0
        started = time.perf_counter()
        if not is_continued and settings.drills.first:
            practised = self._practise(model, seed)
        drilled = time.perf_counter() - started
        self._say(f"seed {seed}: playing {settings.corpus.games} games for the corpus")
        corpus = self._corpus(seed, settings.corpus)
        drills = recall_drills(settings.drills, settings.drills.mixed, derive("mixed", seed))
        corpus += drills
        nodes = sum(len(conversation.tokens) for conversation in corpus)
        self._say(f"{len(corpus)} routines, {nodes / 1e6:.2f} M tokens; training")
        plan = settings.training
        if is_continued:
            plan = msgspec.structs.replace(plan, learning_rate=plan.continued_learning_rate)
        started = time.perf_counter()
        tokens = train(model, corpus, plan, seed, self._on_progress)
        save_model(model, folder, SAVED_DTYPE)
        return Attempt(
            seed=seed,
            is_continued=is_continued,
            learning_rate=plan.learning_rate,
            corpus_routines=len(corpus),
            tokens=practised + tokens,
            seconds=drilled + time.perf_counter() - started,
        )

    def _practise(self, model: Qwen2ForCausalLM, seed: int) -> int:
        """Recall alone, before there are games; the number of tokens seen."""
        settings = self._settings
        drills = recall_drills(settings.drills, settings.drills.first, derive("first", seed))
        nodes = sum(len(conversation.tokens) for conversation in drills)
        self._say(f"seed {seed}: {len(drills)} recall drills, {nodes / 1e6:.2f} M tokens first")
        plan = msgspec.structs.replace(
            settings.training,
            learning_rate=settings.drills.learning_rate,
            batch_tokens=settings.drills.batch_tokens,
            final_share=0.05,
            epochs=1.0,
        )
        return train(model, drills, plan, seed, self._on_progress)

    def _evaluate(self, folder: Path, seed: int) -> dict[str, dict[str, KindScore]]:
        """The saved model on games that no attempt trains on."""
        model = load_model(folder)
        scores = {name: evaluate(model, part) for name, part in self._held_out(seed).items()}
        for name, kinds in scores.items():
            parts = [
                f"{kind} {score.divergence:.4f} ({score.certain_error:.2%} missed)"
                for kind, score in kinds.items()
            ]
            self._say(f"{name}: divergence " + ", ".join(parts))
        return scores

    def _judge(self, folder: Path) -> Verdict:
        settings = self._settings
        table = Table(settings.make_world, settings.teacher, settings.scaffold, settings.gate)
        self._games = 0
        verdict = table.judge(folder, self._on_played)
        for score in (verdict.base, verdict.greedy, verdict.teacher):
            self._say(
                f"{score.name:>8}: progression {score.progression.mean or 0:.4f} "
                f"+- {score.progression.se or 0:.4f}, illegal flips {score.illegal:.2%}"
            )
        low, high = verdict.interval
        self._say(
            f"base - teacher {verdict.difference.mean or 0:+.4f}, "
            f"interval [{low:+.4f}, {high:+.4f}]: " + ("passed" if verdict.passed else "not passed")
        )
        return verdict

    def _card(
        self,
        folder: Path,
        command: str,
        attempts: list[Attempt],
        scores: dict[str, dict[str, KindScore]],
        verdict: Verdict,
    ) -> Card:
        settings = self._settings
        tokens = sum(attempt.tokens for attempt in attempts)
        seconds = sum(attempt.seconds for attempt in attempts)
        return Card(
            parameters=parameter_count(load_model(folder)),
            weights_sha256=weights_digest(folder),
            scaffold=settings.scaffold.version,
            command=command,
            retrainings=len(attempts) - 1,
            attempts=attempts,
            trained_tokens=tokens,
            training_seconds=round(seconds, 1),
            tokens_per_s=round(tokens / seconds, 1),
            machine=f"{platform.machine()}, {torch.get_num_threads()} threads, CPU",
            torch_version=str(torch.__version__),
            training=settings.training,
            corpus=settings.corpus,
            shape=settings.shape,
            held_out=scores,
            verdict=verdict,
        )

    def _corpus(self, seed: int, plan: CorpusPlan) -> list[Conversation]:
        settings = self._settings
        source = CorpusSource(
            make_world=settings.make_world,
            teacher=settings.teacher,
            players=settings.players,
            scaffold=settings.scaffold,
            plan=plan,
            seed=seed,
        )
        return make_corpus(source, settings.processes)

    def _held_out(self, seed: int) -> dict[str, list[Conversation]]:
        """Games never trained on: on the shipped scaffold, and on variants never seen."""
        base = msgspec.structs.replace(
            self._settings.corpus,
            games=self._settings.held_out_games,
            is_held_out=True,
            kept_share=0.25,
        )
        shares = {"shipped scaffold": 1.0, "held-out variants": 0.0}
        return {
            name: self._corpus(seed, msgspec.structs.replace(base, shipped_share=share))
            for name, share in shares.items()
        }

    def _on_progress(self, progress: Progress) -> None:
        if progress.step % 50 == 0 or progress.step == progress.steps:
            self._say(
                f"step {progress.step}/{progress.steps}  divergence {progress.loss:.4f}  "
                f"{progress.tokens_per_s:,.0f} tokens/s"
            )

    def _on_played(self, player: str, _: Played) -> None:
        self._games += 1
        if self._games % 100 == 0:
            self._say(f"{self._games} games played ({player})")

    def _say(self, text: str) -> None:
        self._report(f"{time.perf_counter() - self._started:6.0f} s  {text}")


def weights_digest(folder: Path) -> str:
    """SHA-256 of the checkpoint's weights."""
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
