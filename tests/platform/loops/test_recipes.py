"""Recipes from plain data: what is wrong is named before anything is played."""

from typing import Any

import msgspec
import pytest

from automem.errors import UsageError
from automem.loops.recipes import DataRecipe, Recipe, read_recipe


def test_an_empty_recipe_is_the_defaults() -> None:
    assert read_recipe({}) == Recipe()


def test_a_recipe_is_data_and_comes_back_as_it_was() -> None:
    fields = {
        "data": {"source": "all", "episodes": 4, "settings": {"progress.horizon": 5}},
        "trainings": [{"learning_rate": 1e-3, "lora": {"targets": ["q_proj"]}}, {}],
        "start": "champion",
    }
    recipe = read_recipe(fields)
    assert recipe.data == DataRecipe(source="all", episodes=4, settings={"progress.horizon": 5})
    assert msgspec.json.decode(msgspec.json.encode(recipe), type=Recipe) == recipe


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"dat": {}}, "no field of r 'dat'; did you mean 'data'"),
        ({"training": [{}]}, "no field of r 'training'; did you mean 'trainings'"),
        ({"data": {"episode": 3}}, "no field of r.data 'episode'; did you mean 'episodes'"),
        ({"data": {"selecter": "all"}}, "'selecter'; did you mean 'selector'"),
        ({"data": {"episodes": 0}}, "r: data.episodes must be at least 1, got 0"),
        ({"data": {"episodes": 1.5}}, "$.data.episodes"),
        ({"data": {"episode_share": 0}}, "data.episode_share must be above 0 and at most 1"),
        ({"data": {"episode_share": 1.1}}, "data.episode_share"),
        ({"data": {"amount": -1}}, "data.amount must be 0 (no limit) or more, got -1"),
        ({"data": {"source": "freshly"}}, "$.data.source"),
        ({"data": {"settings": []}}, "$.data.settings"),
        ({"data": 3}, "$.data"),
        ({"trainings": []}, "trainings must be one or two configurations, got 0"),
        ({"trainings": [{}, {}, {}]}, "trainings must be one or two configurations, got 3"),
        ({"trainings": ["fast"]}, "$.trainings[0]"),
        ({"start": "best"}, "$.start"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_recipe_is_named(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as error:
        read_recipe(fields, "r")
    assert told in str(error.value)
