"""The platform's `Trainer`: traces in, a LoRA specialist out, by this package's parts.

Selection writes a folder (`automem select`'s), the dataset is `exact` (or `published`), training is
`fit`. Each step leaves its result in its folder and is not repeated where that is there.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from automem.config import compose
from automem.errors import AutoMemError, UsageError
from automem.loops.recipes import DataRecipe, Recipe, Selected, Specialist, Weighed
from automem.tracker import Tracker
from automem_learners import recipe as training_recipe
from automem_learners.adapters import AdapterVersion, check_start, check_targets
from automem_learners.base_model import find_base
from automem_learners.build import build_dataset
from automem_learners.dataset import CARD, Conversation, DataKind, Dataset, load_dataset
from automem_learners.importance import Present, lags_by_episode, weigh
from automem_learners.recipe import Recipe as TrainingRecipe
from automem_learners.recipe import Scaling, read_recipe, read_scaling
from automem_learners.select.run import select
from automem_learners.select.selection import REPORT, Selection, read_report, read_selection
from automem_learners.select.selector import Selector, read
from automem_learners.select.thinning import Thinning
from automem_learners.sft import fit

WEIGHED = "weighed.json"
"""What importance weights came to, in a dataset that has some."""


class SpecialistTrainer:
    """See the module's docstring; implements `automem.loops.recipes.Trainer`."""

    def __init__(
        self,
        base_model: str,
        recipe: Mapping[str, Any],
        scaling: Mapping[str, Any],
        *,
        dialect: str = "tags",
        data_kind: str = "exact",
        thin: Mapping[str, Any] | None = None,
        engine_max_rank: int | None = None,
        config_dir: str | None = None,
    ) -> None:
        """`recipe` and `scaling`: fields of the training recipe that a loop's recipe changes.
        UsageError for anything that could not be trained with."""
        self._base_model = base_model
        self._recipe = dict(recipe)
        self._scaling: Scaling = read_scaling(scaling)
        self._dialect = dialect
        self._kind = DataKind(data_kind)
        self._thin = dict(thin or {})
        self._engine_max_rank = engine_max_rank
        self._config_dir = config_dir
        self._base = find_base(base_model)
        self._training({}, 0)

    def check(self, recipe: Recipe, start: Specialist | None = None) -> None:
        """See `Trainer`."""
        read(Thinning, self._thin, "thin")
        self._selector(recipe.data)
        for training in recipe.trainings:
            made = self._training(training, 0)
            if start is not None:
                check_start(Path(start.path), made, self._base)

    def select(self, runs: Sequence[Path], data: DataRecipe, folder: Path, seed: int) -> Selected:
        """See `Trainer`."""
        if (folder / REPORT).is_file():
            report = read_report(folder)
        else:
            selector, config = self._selector(data)
            config["thin"] |= self._thin | {
                "at_most": data.amount,
                "episode_share": data.episode_share,
                "seed": seed,
            }
            thinning = read(Thinning, config["thin"], "thin")
            report = select(runs, selector, thinning, folder, config)
        return Selected(
            folder=str(folder),
            turns=report["selected"],
            verdict=report["verdict"],
            kinds={kind: row["selected"] for kind, row in report["kinds"].items()},
            considered=report["turns"],
        )

    def weigh(
        self,
        selected: Selected,
        lags: Mapping[str, int],
        champion: Specialist,
        truncation: float,
    ) -> Weighed:
        """See `Trainer`; the weights are in the dataset, their figures beside it."""
        if self._kind is not DataKind.EXACT:
            raise UsageError(
                "trainer.data_kind=published tokenises anew, and so knows no probabilities: set "
                "collection.stale=drop"
            )
        selection = Path(selected.folder)
        folder = _dataset_of(selection)
        kept = folder / WEIGHED
        if (folder / CARD).is_file() and kept.is_file():
            return msgspec.json.decode(kept.read_bytes(), type=Weighed)
        chosen = read_selection(selection)
        stale = lags_by_episode(lags, chosen.by_episode().keys())
        present = self._present(champion)
        outcome: list[Weighed] = []

        def adjust(rows: list[Conversation]) -> list[Conversation]:
            adjusted, weighed = weigh(rows, stale, present, truncation)
            outcome.append(weighed)
            folder.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(msgspec.json.encode(weighed))  # before the card, which comes last
            return adjusted

        self._build(chosen, folder, adjust)
        return outcome[0]

    def _present(self, champion: Specialist) -> Present:
        base = self._base if champion.is_adapter else find_base(champion.path)
        adapter = Path(champion.path) if champion.is_adapter else None
        return Present(base, adapter, self._training({}, 0).precision, self._scaling)

    def train(
        self,
        selected: Selected,
        training: Mapping[str, Any],
        folder: Path,
        seed: int,
        start: Specialist | None,
        tracker: Tracker,
    ) -> Specialist:
        """See `Trainer`."""
        version = fit(
            self._dataset(Path(selected.folder)),
            self._training(training, seed),
            self._base_model,
            folder,
            self._scaling,
            tracker,
            start=Path(start.path) if start is not None else None,
            engine_max_rank=self._engine_max_rank,
        )
        return _as_specialist(version, folder)

    def _dataset(self, selection: Path) -> Dataset:
        folder = _dataset_of(selection)
        if (folder / CARD).is_file():
            return load_dataset(folder)
        return self._build(read_selection(selection), folder)

    def _build(
        self,
        selection: Selection,
        folder: Path,
        adjust: Callable[[list[Conversation]], Iterable[Conversation]] = iter,
    ) -> Dataset:
        return build_dataset(
            selection,
            folder,
            base_model=self._base_model,
            kind=self._kind,
            dialect=self._dialect,
            adjust=adjust,
        )

    def _training(self, changes: Mapping[str, Any], seed: int) -> TrainingRecipe:
        fields = {**self._recipe, "seed": seed}
        lora = changes.get("lora")
        if isinstance(lora, Mapping) and isinstance(fields.get("lora"), Mapping):
            fields["lora"] = {**fields["lora"], **lora}
        fields.update({name: value for name, value in changes.items() if name != "lora"})
        if "lora" in changes and not isinstance(lora, Mapping):
            fields["lora"] = lora
        made = read_recipe(fields)
        training_recipe.check_rank(made, self._engine_max_rank)
        check_targets(self._base, made)
        return made

    def _selector(self, data: DataRecipe) -> tuple[Selector, dict[str, Any]]:
        """The selector, and the configuration that it was made from."""
        changes = [f"selector.{name}={_spelled(value)}" for name, value in data.settings.items()]
        config = compose(
            "select",
            [f"selector={data.selector}", f"engine.model={self._base_model}", *changes],
            self._config_dir,
        )
        plain: Any = OmegaConf.to_container(config, resolve=True)
        try:
            selector: Selector = instantiate(plain["selector"], _convert_="all")
        except InstantiationException as error:
            if isinstance(error.__cause__, AutoMemError):
                raise error.__cause__ from error
            raise UsageError(f"selector {data.selector}: {error}") from error
        return selector, {name: plain[name] for name in ("selector", "thin")}


def _dataset_of(selection: Path) -> Path:
    return selection.with_name(f"{selection.name}-dataset")


def _as_specialist(version: AdapterVersion, folder: Path) -> Specialist:
    return Specialist(
        name=version.name,
        path=str(folder / version.path),
        is_adapter=version.rank > 0,
        steps=version.steps,
        conversations=version.conversations,
        last_loss=version.last_loss,
        tokens_per_s=version.tokens_per_s,
        seconds=version.seconds,
    )


def _spelled(value: Any) -> str:
    """A value in Hydra's grammar: text is quoted, for a path may hold what the grammar uses."""
    if isinstance(value, str):
        return QuotedString(value, Quote.single).with_quotes()
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{name}:{_spelled(part)}" for name, part in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_spelled, value)) + "]"
    return msgspec.json.encode(value).decode()
