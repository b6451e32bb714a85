"""The complete episodes of some runs, by the names that reviewers use for them."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from automem.errors import UsageError
from automem.suggest import did_you_mean
from automem.trace.query import run_names
from automem.trace.summary import finished_episodes


class Place(msgspec.Struct, frozen=True):
    """Where an episode is."""

    run: Path
    run_name: str
    """As the tables' column `run` has it."""
    episode: str

    def table(self, name: str) -> Path:
        """The Parquet file of one of its tables."""
        return self.run / "tables" / name / f"{self.episode}.parquet"


class Episodes:
    """Names are the episodes' own, with `run/` before them where several runs have one."""

    def __init__(self, runs: Sequence[Path]) -> None:
        places = [
            Place(run, name, episode)
            for name, run in run_names(runs).items()
            for episode in finished_episodes(run)
        ]
        counts: dict[str, int] = {}
        for place in places:
            counts[place.episode] = counts.get(place.episode, 0) + 1
        self.by_name = {
            place.episode
            if counts[place.episode] == 1
            else f"{place.run_name}/{place.episode}": place
            for place in places
        }
        self.runs = list(runs)

    def find(self, name: str) -> Place:
        """UsageError names the nearest ones."""
        if name not in self.by_name:
            guess = did_you_mean(name, self.by_name) or "; list_episodes has them all"
            raise UsageError(f"no complete episode {name!r}{guess}")
        return self.by_name[name]

    def name_of(self, run_name: str, episode: str) -> str:
        """By which an episode of the tables goes."""
        return episode if episode in self.by_name else f"{run_name}/{episode}"
