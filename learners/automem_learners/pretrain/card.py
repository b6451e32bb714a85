"""The card of a base model: how it was made and what was measured, as data and as text."""

from pathlib import Path

import msgspec

from automem_learners.pretrain.corpus import CorpusPlan
from automem_learners.pretrain.evaluation import KindScore
from automem_learners.pretrain.gate import PlayerScore, Verdict
from automem_learners.pretrain.model import ModelShape
from automem_learners.pretrain.training import TrainingPlan


class Attempt(msgspec.Struct, frozen=True):
    """One training and what the gate said of it."""

    seed: int
    is_continued: bool
    """From the weights of the attempt before; else from scratch."""
    learning_rate: float
    corpus_routines: int
    tokens: int
    seconds: float
    passed: bool = False
    difference: float = 0.0
    """Mean of base - teacher."""
    interval: tuple[float, float] = (0.0, 0.0)
    greedy: float = 0.0
    """Progression of the greedy base, which must be below that of the sampled one."""


class Unjudged(msgspec.Struct, frozen=True):
    """A training whose gate is still to come: what a stopped `automem pretrain` goes on from."""

    settings: str
    """Digest of what decides the weights."""
    before: list[Attempt]
    trained: Attempt


class Card(msgspec.Struct, frozen=True):
    """`card.json`."""

    parameters: int
    weights_sha256: str
    scaffold: str
    """Version of the scaffold it was gated on."""
    command: str
    retrainings: int
    """Trainings after the first: as often did the gate refuse."""
    attempts: list[Attempt]
    trained_tokens: int
    training_seconds: float
    """Both over all attempts."""
    tokens_per_s: float
    machine: str
    torch_version: str
    training: TrainingPlan
    corpus: CorpusPlan
    shape: ModelShape
    held_out: dict[str, dict[str, KindScore]]
    verdict: Verdict


def write_card(card: Card, folder: Path) -> None:
    """Write `card.json` and `README.md` beside the checkpoint."""
    data = msgspec.json.format(msgspec.json.encode(card), indent=2)
    (folder / "card.json").write_bytes(data + b"\n")
    (folder / "README.md").write_text(_text(card), encoding="utf-8")


def read_card(folder: Path) -> Card:
    """The card of a checkpoint's folder."""
    return msgspec.json.decode((folder / "card.json").read_bytes(), type=Card)


class _History(msgspec.Struct, frozen=True):
    attempts: list[Attempt]


def read_attempts(folder: Path) -> list[Attempt]:
    """The attempts on the card of a checkpoint's folder."""
    return msgspec.json.decode((folder / "card.json").read_bytes(), type=_History).attempts


def _text(card: Card) -> str:
    verdict = card.verdict
    low, high = verdict.interval
    return f"""\
# The small base model

Qwen2 architecture, {card.parameters:,} parameters, bfloat16, a word-level tokenizer with bytes for
the rest. It plays Concentration, and nothing else: behaviour-cloned from a scripted player that
acts well on what is in its context and keeps memory badly *by design*, across random scaffold
variants.
It exists to show the mechanism of learning memory on a laptop; it is no evidence for what large
models gain.

Made by `{card.command}`, {card.retrainings} retrainings:
{card.trained_tokens / 1e6:.1f} million tokens in {card.training_seconds:.0f} s at
{card.tokens_per_s:,.0f} tokens/s ({card.machine}).

## In play

{verdict.plan.games} decks of 40 cards, seed range `calibrate`, scaffold `{card.scaffold}`,
{verdict.plan.replicates} games a deck; mean and standard error over decks.

| player | progression | illegal flips |
| --- | --- | --- |
{_row("base, temperature 1", verdict.base)}
{_row(f"base, greedy ({verdict.plan.greedy_games} decks, one game each)", verdict.greedy)}
{_row("its scripted teacher", verdict.teacher)}

Gate: {verdict.plan.level:.0%} interval of base - teacher within +-{verdict.plan.margin}:
[{low:+.4f}, {high:+.4f}], {"passed" if verdict.passed else "NOT passed"}.

## Habits

Share of first answers, by what the teacher would call them.

| habit | base | teacher |
| --- | --- | --- |
{_habits(verdict)}

## Held out

Divergence from the teacher (nats a token), and probability missed where the teacher is certain.

| conversations | log | consult | commit |
| --- | --- | --- | --- |
{_held_out(card)}

The weights' SHA-256 is `{card.weights_sha256}`; `card.json` holds every number.
"""


def _row(name: str, score: PlayerScore) -> str:
    result = score.progression
    return f"| {name} | {result.mean or 0:.3f} +- {result.se or 0:.3f} | {score.illegal:.2%} |"


def _habits(verdict: Verdict) -> str:
    names = sorted(set(verdict.base.habits) | set(verdict.teacher.habits))
    return "\n".join(
        f"| {name} | {verdict.base.habits.get(name, 0):.3f} "
        f"| {verdict.teacher.habits.get(name, 0):.3f} |"
        for name in names
    )


def _held_out(card: Card) -> str:
    return "\n".join(
        f"| {name} | "
        + " | ".join(
            f"{score.divergence:.4f} ({score.certain_error:.2%})" for score in kinds.values()
        )
        + " |"
        for name, kinds in card.held_out.items()
    )
