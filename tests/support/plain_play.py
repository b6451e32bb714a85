"""An episode of a world and a scripted player: session, sandbox and scaffold, nothing else."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from automem.agent.recorder import MemoryRecorder
from automem.agent.roles import AgentOptions, RoleBinding, Roles
from automem.agent.scaffold import load_scaffold
from automem.agent.session import AgentSession
from automem.engine.protocol import GenerateRequest
from automem.engine.render import ApproximateCounter
from automem.engine.scripted import ScriptedEngine
from automem.memory.ops import OpStatus
from automem.memory.sandbox import Quota, Sandbox
from automem.trace.events import SCHEMA, EpisodeStarted, OpDone, Outcome, Turn

SCAFFOLD = Path(__file__).parents[2] / "conf" / "scaffold" / "v0"


class Listening:
    """Passes every request on to a player and keeps it with its reply."""

    def __init__(self, player: Any) -> None:
        self._player = player
        self.heard: list[tuple[GenerateRequest, str]] = []

    def reply(self, request: GenerateRequest) -> str:
        text: str = self._player.reply(request)
        self.heard.append((request, text))
        return text


@dataclass
class Played:
    """How it went."""

    outcome: Outcome
    steps: int
    heard: list[tuple[GenerateRequest, str]]
    files: dict[str, str]
    refused: list[str]
    """Operations that were refused, and turns that held something malformed."""


async def play_plainly(
    world: Any, player: Any, folder: Path, seed: int = 0, memory: str = "files"
) -> Played:
    """Play `seed` to its end on the starting scaffold."""
    listening, recorder = Listening(player), MemoryRecorder()
    binding = RoleBinding(engine=ScriptedEngine(listening), counter=ApproximateCounter())
    scaffold = load_scaffold(SCAFFOLD)
    sandbox = Sandbox.open(folder / f"memory-{seed}", Quota())
    started = EpisodeStarted(
        schema=SCHEMA,
        episode=f"world-{seed}-0",
        world="world",
        seed=seed,
        replicate=0,
        run_seed=0,
        max_steps=world.max_steps,
        policy="scripted",
        scaffold=scaffold.digest,
        instruction=world.instruction,
        fallback_action=world.fallback_action,
    )
    roles = Roles(memory=binding, gameplay=binding)
    session = AgentSession(started, scaffold, roles, sandbox, recorder, AgentOptions(memory=memory))
    await session.start()
    text, info = world.reset(seed=seed)
    outcome = Outcome(progression=info["progression"])
    steps = 0
    while not outcome.is_final:
        text, reward, terminated, truncated, info = world.step(await session.step(text, outcome))
        outcome = Outcome(
            progression=info["progression"],
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            info=info,
        )
        steps += 1
    await session.close(outcome, text)
    files = {file.name: sandbox.read_text(file.name) for file in sandbox.listing()}
    refused = [
        str(event)
        for event in recorder.events
        if (isinstance(event, OpDone) and event.result.status is OpStatus.ERROR)
        or (isinstance(event, Turn) and event.malformed)
    ]
    return Played(outcome, steps, listening.heard, files, refused)
