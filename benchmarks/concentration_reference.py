"""Reference points of the embedded game: what memory habits alone are worth, in real sessions.

    python benchmarks/concentration_reference.py [--decks 200] [--model embedded] [--no-model]

Each player plays the same decks of the seed range `report` on the scaffold `embedded` (40 cards,
80 flips). Writes benchmarks/results/concentration_reference.json and prints the same table. The
scripted players take a minute on two cores, the model some more.
"""

import argparse
import asyncio
import json
import platform
import time
from pathlib import Path

import msgspec

from automem.agent.roles import AgentOptions, RoleBinding, Roles
from automem.agent.scaffold import load_scaffold
from automem.config import scaffold_path
from automem.engine.models import resolve
from automem.engine.protocol import Completion, Engine, GenerateRequest, Sampling
from automem.engine.render import ApproximateCounter, ChatRenderer, load_tokenizer
from automem.engine.scripted import Player, ScriptedEngine
from automem.engine.transformers import TransformersEngine
from automem.seeds import seeds_from
from automem.trace.statistics import estimate
from automem_envs.concentration import ConcentrationWorld
from automem_envs.concentration.players import (
    NoMemoryPlayer,
    PerfectMemoryPlayer,
    SloppyPlayer,
)
from automem_learners.pretrain.play import Game, play_all

RESULTS = Path(__file__).parent / "results" / "concentration_reference.json"
SCAFFOLD = "embedded"


def main() -> None:
    """Play, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--decks", type=int, default=200)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--no-model", action="store_true")
    options = parser.parse_args()
    rows = asyncio.run(play_everybody(options.decks, None if options.no_model else options.model))
    for row in rows:
        print(
            f"{row['player']:<38} {row['progression']:.4f} +- {row['se']:.4f}  "
            f"illegal {row['illegal']:.2%}  {row['games']} games, {row['seconds']:.0f} s"
        )
    RESULTS.parent.mkdir(exist_ok=True)
    facts = {
        "what": "progression of Concentration (40 cards, 80 flips), mean and standard error",
        "seeds": f"the first {options.decks} of the range report, one game each",
        "scaffold": load_scaffold(scaffold_path(SCAFFOLD)).version,
        "machine": f"{platform.machine()}, CPU",
        "rows": rows,
    }
    RESULTS.write_text(json.dumps(facts, indent=2) + "\n")
    print(f"written to {RESULTS}")


class TokenisedScript(ScriptedEngine):
    """A script that says its tokens too, so that a model can go on from its turns."""

    def __init__(self, player: Player, tokenizer: str) -> None:
        super().__init__(player)
        self._tokenizer = load_tokenizer(tokenizer)

    async def generate(self, request: GenerateRequest) -> Completion:
        """The script's reply, tokenised."""
        completion = await super().generate(request)
        ids = self._tokenizer.encode(completion.text, add_special_tokens=False)
        return msgspec.structs.replace(completion, token_ids=tuple(ids))


async def play_everybody(decks: int, model: str | None) -> list[dict[str, object]]:
    """One row for each player."""
    scripted: list[tuple[str, ScriptedEngine]] = [
        ("random flips (no memory at all)", ScriptedEngine(NoMemoryPlayer())),
        ("sloppy teacher (scripted)", ScriptedEngine(SloppyPlayer())),
        ("perfect memory (scripted)", ScriptedEngine(PerfectMemoryPlayer())),
    ]
    rows = []
    for name, script in scripted:
        rows.append(await play_one(name, RoleBinding(script, ApproximateCounter()), decks))
    if model is None:
        return rows
    folder = resolve(model)
    engine: Engine = TransformersEngine(folder, max_batch=64, context_tokens=1024)
    renderer = ChatRenderer(folder)

    def role(temperature: float) -> RoleBinding:
        sampling = Sampling(temperature=temperature, max_tokens=48)
        return RoleBinding(engine, renderer, renderer, None, sampling, 1024)

    try:
        rows.append(await play_one("base, temperature 1", role(1.0), decks))
        rows.append(await play_one("base, greedy", role(0.0), decks))
        blind = AgentOptions(memory="none")
        rows.append(await play_one("base without memory, temperature 1", role(1.0), decks, blind))
        perfect = RoleBinding(TokenisedScript(PerfectMemoryPlayer(), folder), renderer, renderer)
        rows.append(
            await play_one("perfect memory, the base acting", perfect, decks, actor=role(1.0))
        )
    finally:
        await engine.close()
    return rows


async def play_one(
    name: str,
    memory: RoleBinding,
    decks: int,
    options: AgentOptions | None = None,
    actor: RoleBinding | None = None,
) -> dict[str, object]:
    """Every deck once; one row."""
    started = time.perf_counter()
    scaffold = load_scaffold(scaffold_path(SCAFFOLD))
    roles = Roles(memory, actor or memory)
    games = [
        Game(ConcentrationWorld(), seed, 0, scaffold, roles, options=options)
        for seed in seeds_from("report", decks)
    ]
    played = await play_all(games, 64)
    result = estimate([game.progression for game in played])
    return {
        "player": name,
        "progression": round(result.mean or 0.0, 4),
        "se": round(result.se or 0.0, 4),
        "ci95": [round(end, 4) for end in result.ci95 or ()],
        "illegal": round(sum(g.invalid for g in played) / sum(g.steps for g in played), 4),
        "games": len(played),
        "seconds": round(time.perf_counter() - started, 1),
    }


if __name__ == "__main__":
    main()
