"""A memory gate is part of what is served: episodes of a version run the version's gate."""

from pathlib import Path

from support.plain_gate import save_gate
from support.served_policy import Table, make_served_spec, play, serving

from automem.config import scaffold_path
from automem.engine.scripted import ScriptedEngine
from automem.registry import Registry
from automem.rollout.chain import read_events
from automem.trace.events import Gated
from automem_envs.concentration.players import PerfectMemoryPlayer


async def test_a_served_episode_runs_the_gate_of_its_version(tmp_path: Path) -> None:
    spec = make_served_spec(tmp_path)
    registry = Registry(Path(spec.settings.registry))
    gate = save_gate(tmp_path / "gate", (1, 0, 0, 1, 0, 0))
    version = registry.publish("scripted", scaffold_path("embedded"), gate_folder=gate)
    registry.promote(version.name)
    async with serving(spec, ScriptedEngine(PerfectMemoryPlayer())) as server:
        episode = await server.create(world="concentration", max_steps=4)
        table = Table()
        await play(server, episode["id"], table, lambda _: None)
        directory = server.context.episodes.store.directory("local", episode["id"])
        gates = [event for event in read_events(directory) if isinstance(event, Gated)]
    assert [(each.log, each.by) for each in gates] == [("skip", version.gate)] * 4
