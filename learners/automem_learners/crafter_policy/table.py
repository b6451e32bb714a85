"""Who reaches what in Crafter: the policy beside the players it has to be compared with.

All arms play the same seeds with the same cap, through the same session. Failures do not occur in
this process; an episode always counts with what it reached.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from automem.agent.roles import AgentOptions, RoleBinding, Roles
from automem.agent.scaffold import Scaffold
from automem.engine.protocol import Sampling
from automem.engine.render import ApproximateCounter, ChatRenderer
from automem.engine.scripted import Player, ScriptedEngine
from automem.engine.transformers import TransformersEngine
from automem.trace.statistics import Estimate, estimate, paired_difference
from automem.world import World
from automem_learners.pretrain.play import Game, Played, play_all

CONTEXT = 768
"""Tokens: several times what the scaffold's prompts take."""
_MAX_TOKENS = 40
"""Of an answer; the longest of the teacher's has about twenty."""


class Arm(msgspec.Struct, frozen=True):
    """One player at the table."""

    name: str
    scaffold: Scaffold
    player: Player | None = None
    """None: the model."""
    temperature: float = 1.0
    memory: str = "files"
    """As in `AgentOptions`."""


class Row(msgspec.Struct, frozen=True):
    """What an arm reached."""

    name: str
    progression: Estimate
    difference: Estimate
    """Of this arm minus the first one, paired by seed."""
    steps: float
    """Mean per episode."""
    invalid: float
    """Share of actions that were none."""
    fallbacks: float
    """Share of steps at which no action was committed."""
    values: list[float]
    """Progression by seed, in the order of the seeds."""


def play_table(
    arms: Sequence[Arm],
    make_world: Callable[[], World],
    seeds: Sequence[int],
    model: Path | None,
    threads: int = 2,
    on_row: Callable[[Row], None] = lambda row: None,
) -> list[Row]:
    """Play every arm; `model` is the folder of the one that arms without a player stand for."""
    return asyncio.run(_play_table(arms, make_world, seeds, model, threads, on_row))


async def _play_table(
    arms: Sequence[Arm],
    make_world: Callable[[], World],
    seeds: Sequence[int],
    model: Path | None,
    threads: int,
    on_row: Callable[[Row], None],
) -> list[Row]:
    rows: list[Row] = []
    engine: TransformersEngine | None = None
    if model is not None:
        engine = TransformersEngine(
            str(model), max_batch=len(seeds), context_tokens=CONTEXT, threads=threads
        )
    try:
        for arm in arms:
            binding = _binding(arm, engine, model)
            options = AgentOptions(memory=arm.memory)
            games = [
                Game(make_world(), seed, 0, arm.scaffold, Roles(binding, binding), 0, options)
                for seed in seeds
            ]
            row = _row(arm.name, await play_all(games, len(games)), rows[0] if rows else None)
            rows.append(row)
            on_row(row)
    finally:
        if engine is not None:
            await engine.close()
    return rows


def _binding(arm: Arm, engine: TransformersEngine | None, model: Path | None) -> RoleBinding:
    if arm.player is not None:
        return RoleBinding(ScriptedEngine(arm.player), ApproximateCounter())
    assert engine is not None, "an arm without a player needs a model"
    assert model is not None, "an arm without a player needs a model"
    renderer = ChatRenderer(str(model))
    return RoleBinding(
        engine=engine,
        counter=renderer,
        renderer=renderer,
        sampling=Sampling(temperature=arm.temperature, max_tokens=_MAX_TOKENS),
        context_tokens=CONTEXT,
    )


def _row(name: str, played: Sequence[Played], first: Row | None) -> Row:
    values = [game.progression for game in played]
    steps = sum(game.steps for game in played)
    return Row(
        name=name,
        progression=estimate(values),
        difference=paired_difference(values, first.values if first else values),
        steps=round(steps / len(played), 1),
        invalid=round(sum(game.invalid for game in played) / steps, 4),
        fallbacks=round(sum(game.fallbacks for game in played) / steps, 4),
        values=values,
    )


def lines(rows: Sequence[Row]) -> list[str]:
    """A Markdown table."""
    found = ["| player | progression | 95 % interval | minus the first | steps | no action |"]
    found.append("| --- | --- | --- | --- | --- | --- |")
    for number, row in enumerate(rows):
        result, gap = row.progression, row.difference
        low, high = result.ci95 or (0.0, 0.0)
        gap_low, gap_high = gap.ci95 or (0.0, 0.0)
        minus = f"{gap.mean or 0:+.3f} ({gap_low:+.3f} to {gap_high:+.3f})" if number else ""
        found.append(
            f"| {row.name} | {result.mean or 0:.3f} | {low:.3f} to {high:.3f} | {minus} "
            f"| {row.steps:.0f} | {row.invalid + row.fallbacks:.1%} |"
        )
    return found
