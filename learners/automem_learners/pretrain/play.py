"""Games played through the real `AgentSession`, many at a time, in one process, nothing on record.

For making training data and for calibration, where thousands of short games are needed and none
has to survive a death; everything else goes through `automem.rollout`.
"""

import asyncio
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from automem.agent.recorder import MemoryRecorder
from automem.agent.roles import AgentOptions, Roles
from automem.agent.scaffold import Scaffold
from automem.agent.session import AgentSession
from automem.memory.sandbox import Quota, Sandbox
from automem.trace.events import (
    SCHEMA,
    CommitSource,
    Committed,
    EpisodeStarted,
    Event,
    Outcome,
)
from automem.world import World, progression_of


@dataclass(frozen=True, slots=True)
class Game:
    """What is to be played."""

    world: World
    seed: int
    replicate: int
    scaffold: Scaffold
    roles: Roles
    run_seed: int = 0
    options: AgentOptions | None = None

    @property
    def name(self) -> str:
        return f"{self.seed}-{self.replicate}"


@dataclass(frozen=True, slots=True)
class Played:
    """What came of it."""

    seed: int
    replicate: int
    progression: float
    steps: int
    invalid: int
    """Actions that were not legal, fallbacks included."""
    fallbacks: int
    events: list[Event]


async def play(game: Game, folder: Path) -> Played:
    """One game in a memory directory of its own."""
    world = game.world
    recorder = MemoryRecorder()
    sandbox = Sandbox.open(folder, Quota())
    try:
        session = AgentSession(
            _spec(game), game.scaffold, game.roles, sandbox, recorder, game.options
        )
        await session.start()
        observation, info = world.reset(seed=game.seed)
        outcome = Outcome(progression=progression_of(info))
        invalid = steps = 0
        while not outcome.is_final and steps < world.max_steps:
            action = await session.step(observation, outcome)
            observation, reward, terminated, truncated, info = world.step(action)
            steps += 1
            invalid += bool(info.get("invalid_action"))
            outcome = Outcome(
                progression=progression_of(info),
                reward=reward,
                terminated=terminated,
                truncated=truncated,
                action=action,
            )
        await session.close(outcome, observation)
    finally:
        sandbox.close()
    fallbacks = sum(
        isinstance(event, Committed) and event.source is CommitSource.FALLBACK
        for event in recorder.events
    )
    return Played(
        game.seed, game.replicate, outcome.progression, steps, invalid, fallbacks, recorder.events
    )


async def play_all(
    games: Iterable[Game],
    concurrency: int,
    on_played: Callable[[Played], None] | None = None,
) -> list[Played]:
    """Play them, `concurrency` at a time; results in the order of `games`."""
    gate = asyncio.Semaphore(concurrency)
    with tempfile.TemporaryDirectory(prefix="automem-games-") as root:

        async def one(index: int, game: Game) -> Played:
            async with gate:
                played = await play(game, Path(root) / str(index))
            if on_played is not None:
                on_played(played)
            return played

        tasks = [one(index, game) for index, game in enumerate(games)]
        return list(await asyncio.gather(*tasks))


def _spec(game: Game) -> EpisodeStarted:
    world = game.world
    return EpisodeStarted(
        schema=SCHEMA,
        episode=game.name,
        world=type(world).__name__,
        seed=game.seed,
        replicate=game.replicate,
        run_seed=game.run_seed,
        max_steps=world.max_steps,
        policy="",
        scaffold=game.scaffold.digest,
        instruction=world.instruction,
        fallback_action=world.fallback_action,
    )
