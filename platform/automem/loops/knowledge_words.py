"""The words of a world: what a passage of a scaffold that speaks of the task speaks in.

From the world itself (instruction, actions, and a `vocabulary` where it has one, such as the names
in its data files: a weak player's games never show most of them) and from finished games (what was
seen and done). Promise: games are read from their tables, which `automem gc` keeps, and from their
journals where there are no tables yet. Not covered: words that a world neither lists nor shows.
"""

from collections.abc import Iterable
from pathlib import Path

import pyarrow.parquet as parquet
from hydra.utils import instantiate

from automem.loops.knowledge import words_in
from automem.rollout.chain import iter_events
from automem.rollout.spec import WorldSpec
from automem.trace.events import Blob, Committed, Observed

MOST_EPISODES = 8
"""Of a run whose words are read: more say little that is new."""


def words_of_world(spec: WorldSpec) -> frozenset[str]:
    """What a world says of itself."""
    world = instantiate(spec.target, _convert_="all")
    try:
        listed = [world.actions] if isinstance(world.actions, str) else world.actions
        said = [
            world.instruction,
            world.fallback_action,
            *listed,
            *getattr(world, "vocabulary", ()),
        ]
        return frozenset(words_in("\n".join(map(str, said))))
    finally:
        world.close()


def words_of_runs(runs: Iterable[Path]) -> frozenset[str]:
    """What was seen and done in the first games of each run."""
    found: set[str] = set()
    for run in runs:
        episodes = sorted(path for path in (run / "episodes").glob("*") if path.is_dir())
        for episode in episodes[:MOST_EPISODES]:
            table = run / "tables" / "steps" / f"{episode.name}.parquet"
            texts = _texts_of_table(table) if table.is_file() else _texts_of_journal(episode)
            found |= words_in("\n".join(dict.fromkeys(texts)))
    return frozenset(found)


def _texts_of_table(path: Path) -> list[str]:
    steps = parquet.read_table(path, columns=["observation", "action"])
    return [text for name in steps.column_names for text in steps[name].to_pylist() if text]


def _texts_of_journal(episode: Path) -> list[str]:
    """Texts longer than a line are blobs, and blobs hold prompts as well: only those that an
    observation names count."""
    blobs: dict[str, str] = {}
    texts: list[str] = []
    for event in iter_events(episode):
        match event:
            case Blob():
                blobs[event.digest] = event.text
            case Observed():
                texts.append(blobs.get(event.observation, event.observation))
            case Committed():
                texts.append(event.action)
    return texts
