"""The scripted player: its decisions, its notes in a real session, and what it reaches."""

from pathlib import Path

import pytest

from automem.agent.recorder import MemoryRecorder
from automem.agent.roles import AgentOptions, RoleBinding, Roles
from automem.agent.scaffold import load_scaffold
from automem.agent.session import AgentSession
from automem.engine.protocol import GenerateRequest
from automem.engine.render import ApproximateCounter
from automem.engine.scripted import ScriptedEngine
from automem.memory.ops import OpStatus
from automem.memory.sandbox import Quota, Sandbox
from automem.trace.events import (
    SCHEMA,
    CommitSource,
    Committed,
    EpisodeStarted,
    OpDone,
    Outcome,
    Turn,
)
from automem_envs.crafter import CrafterPlayer, CrafterWorld
from automem_envs.crafter.decide import decide
from automem_envs.crafter.notes import recall, write_position, write_step
from automem_envs.crafter.recipes import Recipe, read_recipes
from automem_envs.crafter.sight import VITALS, Sight, Thing
from automem_envs.crafter.walking import Known

SCAFFOLD = Path(__file__).parents[3] / "conf" / "scaffold" / "v0"


class Listening:
    """Passes every request on and keeps it with its reply."""

    def __init__(self) -> None:
        self._player = CrafterPlayer()
        self.heard: list[tuple[GenerateRequest, str]] = []

    def reply(self, request: GenerateRequest) -> str:
        text = self._player.reply(request)
        self.heard.append((request, text))
        return text


async def play(
    folder: Path, seed: int, max_steps: int, memory: str = "files"
) -> tuple[Listening, MemoryRecorder, Sandbox, Outcome]:
    """An episode of the starting scaffold, without anything but session and world."""
    world, player, recorder = CrafterWorld(max_steps), Listening(), MemoryRecorder()
    binding = RoleBinding(engine=ScriptedEngine(player), counter=ApproximateCounter())
    scaffold = load_scaffold(SCAFFOLD)
    sandbox = Sandbox.open(folder / "memory", Quota())
    spec = EpisodeStarted(
        schema=SCHEMA,
        episode=f"crafter-{seed}-0",
        world="crafter",
        seed=seed,
        replicate=0,
        run_seed=0,
        max_steps=max_steps,
        policy="scripted",
        scaffold=scaffold.digest,
        instruction=world.instruction,
        fallback_action=world.fallback_action,
    )
    roles = Roles(memory=binding, gameplay=binding)
    session = AgentSession(spec, scaffold, roles, sandbox, recorder, AgentOptions(memory=memory))
    await session.start()
    text, info = world.reset(seed=seed)
    outcome = Outcome(progression=info["progression"])
    while not outcome.is_final:
        text, reward, terminated, truncated, info = world.step(await session.step(text, outcome))
        outcome = Outcome(
            progression=info["progression"],
            reward=reward,
            terminated=terminated,
            truncated=truncated,
        )
    await session.close(outcome, text)
    return player, recorder, sandbox, outcome


def known(sight: Sight, before: list[str] | None = None, done: set[str] | None = None) -> Known:
    """What the player knows with these notes before the present."""
    instruction = CrafterWorld().instruction
    return Known(
        sight=sight,
        recalled=recall([*(before or [write_position((0, 0))]), write_step("Noop", sight)]),
        done=done or set(),
        places={},
        goal=None,
        avoid=None,
        recipes=read_recipes(instruction),
    )


def sight(
    facing: str = "grass",
    things: tuple[Thing, ...] = (),
    inventory: dict[str, int] | None = None,
    is_asleep: bool = False,
    **vitals: int,
) -> Sight:
    return Sight(
        things, facing, "south", {**dict.fromkeys(VITALS, 9), **vitals}, inventory or {}, is_asleep
    )


BUSY = {"place plant", "collect sapling", "place stone"}


@pytest.mark.parametrize(
    ("seen", "action"),
    [
        (sight("zombie"), "Do"),
        (sight(things=(Thing("zombie", 1, "west"),)), "Move West"),
        (sight("water", drink=4), "Do"),
        (sight("cow", food=4), "Do"),
        (sight("tree"), "Do"),
        (sight("lava", inventory={"stone": 1}), "Place Stone"),
        (sight(is_asleep=True), "Sleep"),
        (sight(inventory={"wood": 5}), "Place Table"),
        (sight("table", (Thing("table", 1, "south"),), {"wood": 3}), "Make Wood Pickaxe"),
        (sight(things=(Thing("tree", 2, "east"),)), "Move East"),
    ],
)
def test_what_the_player_does(seen: Sight, action: str) -> None:
    assert decide(known(seen, done=BUSY)) == action


@pytest.mark.parametrize("side", ["north", "east", "south", "west"])
def test_it_never_walks_into_lava_that_it_sees(side: str) -> None:
    seen = sight("grass", (Thing("lava", 1, side), Thing("tree", 3, side)))
    assert decide(known(seen, done=BUSY)) != f"Move {side.capitalize()}"


def test_costs_are_read_from_the_instruction() -> None:
    recipes = read_recipes(CrafterWorld().instruction)
    assert recipes["make stone sword"] == Recipe({"wood": 1, "stone": 1}, ("table",))
    assert recipes["make iron pickaxe"].beside == ("table", "furnace")
    assert {name.split()[0] for name in recipes} == {"make", "place"}


async def test_it_plays_by_its_notes_without_a_single_refused_operation(tmp_path: Path) -> None:
    player, recorder, sandbox, outcome = await play(tmp_path, seed=42, max_steps=150)
    operations = [event for event in recorder.events if isinstance(event, OpDone)]
    assert {event.result.status for event in operations} <= {
        OpStatus.OK,
        OpStatus.EMPTY,
        OpStatus.UNCHANGED,
    }
    assert not any(event.malformed for event in recorder.events if isinstance(event, Turn))
    commits = [event for event in recorder.events if isinstance(event, Committed)]
    assert {event.source for event in commits} == {CommitSource.MODEL}
    calls_per_step = len(player.heard) / len(commits)
    assert calls_per_step < 3.5
    assert outcome.progression >= 8 / 22
    assert "wood pickaxe" in sandbox.read_text("progress.txt")
    assert "tree" in sandbox.read_text("map.txt")
    assert len(sandbox.read_text("actions.txt").splitlines()) <= 16


async def test_its_replies_depend_on_the_request_alone(tmp_path: Path) -> None:
    player, *_ = await play(tmp_path, seed=43, max_steps=60)
    fresh = CrafterPlayer()
    for request, text in reversed(player.heard):
        assert fresh.reply(request) == text


async def test_without_memory_it_still_plays(tmp_path: Path) -> None:
    _, recorder, _, outcome = await play(tmp_path, seed=42, max_steps=60, memory="none")
    assert not any(isinstance(event, OpDone) for event in recorder.events)
    assert outcome.progression > 0
