"""Recipes of the proficiency loop: what data is made, how it is picked, how it is trained on.

A recipe is data: a decider chooses it, the ledger keeps it, a person reads it. Promise:
`read_recipe` refuses unknown fields and impossible values with the field's name and the nearest
right one, before anything is played. What a selector's settings and a training's fields may be is
the trainer's to say (`Trainer.check`), for it alone knows them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from automem.errors import UsageError
from automem.suggest import no_such
from automem.tracker import Tracker


def _require(is_right: bool, field: str, expected: str, got: object) -> None:
    if not is_right:
        raise UsageError(f"{field} must be {expected}, got {got!r}")


class DataRecipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which turns are learned from."""

    source: Literal["fresh", "reuse", "all"] = "fresh"
    """`fresh`: new episodes by the champion; `reuse`: those of the round before; `all`: new ones
    and every earlier round's."""
    episodes: int = 96
    """New episodes, where there are any."""
    episode_share: float = 1.0
    """Share of the episodes that turns may come from: the best by progression."""
    selector: str = "provenance"
    """A name in `conf/selector/`."""
    settings: dict[str, Any] = {}
    """Changes to the selector's settings: dotted key to value."""
    amount: int = 0
    """Turns at most; 0: as many as the selector finds."""

    def __post_init__(self) -> None:
        _require(self.episodes >= 1, "data.episodes", "at least 1", self.episodes)
        share = self.episode_share
        _require(0 < share <= 1, "data.episode_share", "above 0 and at most 1", share)
        _require(self.amount >= 0, "data.amount", "0 (no limit) or more", self.amount)


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One round's plan."""

    data: DataRecipe = DataRecipe()
    trainings: tuple[dict[str, Any], ...] = ({},)
    """One or two: changes to the training recipe of `conf/learner/`, each a contender."""
    start: Literal["base", "champion"] = "base"
    """What training goes on from: a fresh adapter, or the champion's."""

    def __post_init__(self) -> None:
        count = len(self.trainings)
        _require(1 <= count <= 2, "trainings", "one or two configurations", count)


class Selected(msgspec.Struct, frozen=True, kw_only=True):
    """What a selection came to."""

    folder: str
    turns: int
    verdict: str
    """The selection report's sentence."""
    kinds: dict[str, int] = {}
    """Selected turns by kind."""
    considered: int = 0


class Weighed(msgspec.Struct, frozen=True, tag="weighed"):
    """What importance weights of stale turns came to."""

    turns: int
    """Selected turns that were given one."""
    mean: float
    """Their mean weight."""
    truncated: int
    """Weights that were cut off."""


class Specialist(msgspec.Struct, frozen=True, kw_only=True):
    """A trained adapter version."""

    name: str
    path: str
    """Folder that engines load."""
    is_adapter: bool = True
    """Else a whole model: full fine-tuning."""
    steps: int
    conversations: int
    last_loss: float
    tokens_per_s: float
    seconds: float


class Trainer(Protocol):
    """What turns traces into specialists; plugged in by `_target_`, since the learners stand on the
    platform and not the other way round. Every call goes on where a killed one stopped, and does
    nothing where its folder already holds the result."""

    def check(self, recipe: Recipe, start: Specialist | None = None) -> None:
        """UsageError for settings that the selector or the training do not have, or with which
        training could not go on from `start`."""
        ...

    def select(self, runs: Sequence[Path], data: DataRecipe, folder: Path, seed: int) -> Selected:
        """Pick turns of these runs; 0 turns is an answer, not an error."""
        ...

    def weigh(
        self,
        selected: Selected,
        lags: Mapping[str, int],
        champion: Specialist,
        truncation: float,
    ) -> Weighed:
        """Weight the selected turns of these runs (folder to lag) by their probability under the
        champion over that under the version that made them, cut off at `truncation`: `train` then
        counts them so much beside other turns. UsageError where traces have no probabilities."""
        ...

    def train(
        self,
        selected: Selected,
        training: Mapping[str, Any],
        folder: Path,
        seed: int,
        start: Specialist | None,
        tracker: Tracker,
    ) -> Specialist:
        """A specialist from the selected turns."""
        ...


def read_recipe(fields: Mapping[str, Any], name: str = "recipe") -> Recipe:
    """A recipe from plain data; UsageError names what is wrong with it."""
    _check_names(Recipe, fields, name)
    data = fields.get("data")
    if isinstance(data, Mapping):
        _check_names(DataRecipe, data, f"{name}.data")
    try:
        return msgspec.convert(dict(fields), Recipe)
    except (msgspec.ValidationError, UsageError) as error:
        raise UsageError(f"{name}: {error}") from None


def _check_names(kind: type[msgspec.Struct], fields: Mapping[str, Any], name: str) -> None:
    for field in fields:
        if field not in kind.__struct_fields__:
            raise UsageError(no_such(f"field of {name}", str(field), kind.__struct_fields__))
