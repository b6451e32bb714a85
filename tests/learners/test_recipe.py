"""Recipes and scaling: plain data in, or a message that says what is wrong."""

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from automem.config import conf_dir, groups
from automem.errors import UsageError
from automem_learners.recipe import (
    Lora,
    Recipe,
    Scaling,
    check_rank,
    read_recipe,
    read_scaling,
)


@pytest.mark.parametrize("option", groups()["learner"])
def test_every_shipped_learner_reads(option: str) -> None:
    with initialize_config_dir(str(conf_dir()), version_base=None):
        composed = compose(overrides=[f"+learner={option}"])
        config = OmegaConf.to_container(composed, resolve=True)
    learner = config["learner"]
    assert set(learner["recipe"]) == set(Recipe.__struct_fields__)
    assert set(learner["scaling"]) == set(Scaling.__struct_fields__)
    read_recipe(learner["recipe"])
    read_scaling(learner["scaling"])


def test_the_published_recipes_are_the_papers() -> None:
    """FACTS.md, Loop 2: rank:alpha:dropout:lr:epochs:batch:accumulation:cutoff:schedule:warmup."""
    for name, expected in {
        "crafter": (256, 512, 4, 16, "attention"),
        "minihack": (128, 256, 3, 8, "all"),
        "nethack": (256, 512, 1, 16, "all"),
    }.items():
        with initialize_config_dir(str(conf_dir()), version_base=None):
            config = compose(overrides=[f"+learner=published_{name}"])
        learner = OmegaConf.to_container(config, resolve=True)["learner"]
        recipe, scaling = read_recipe(learner["recipe"]), read_scaling(learner["scaling"])
        assert recipe.lora is not None
        lora = recipe.lora
        batch = recipe.conversations_per_step
        assert (lora.rank, lora.alpha, recipe.epochs, batch, lora.targets) == expected
        assert (lora.dropout, recipe.learning_rate, recipe.max_tokens) == (0.0, 5e-5, 16384)
        assert (recipe.schedule, recipe.warmup, recipe.clip) == ("cosine", 0.05, 1.0)
        assert (recipe.precision, scaling.zero_stage) == ("bf16", 3)


@pytest.mark.parametrize(
    ("fields", "answer"),
    [
        ({"epoch": 3}, "no field of recipe 'epoch'; did you mean 'epochs'?"),
        ({"lora": {"rang": 3}}, "no field of recipe.lora 'rang'; did you mean 'rank'?"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"epochs": "many"}, "recipe: Expected `int`, got `str` - at `$.epochs`"),
        ({"learning_rate": 0}, "learning_rate must be above 0"),
        ({"lora": {"rank": 0}}, "lora.rank must be a whole number of at least 1, got 0"),
        ({"lora": {"dropout": 1.0}}, "lora.dropout must be in [0, 1), got 1.0"),
        ({"schedule": "linear"}, "recipe: Invalid enum value 'linear'"),
    ],
)
def test_a_wrong_recipe_is_answered_in_words(fields: dict, answer: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_recipe(fields)
    assert answer in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "answer"),
    [
        ({"zero_stages": 3}, "no field of scaling 'zero_stages'; did you mean 'zero_stage'?"),
        ({"zero_stage": 4}, "Invalid enum value 4"),
        ({"workers": 2}, "backend local is one process, got workers=2: set backend=deepspeed"),
        ({"backend": "deepspeed", "offload": "all"}, "it needs zero_stage=3"),
        (
            {"backend": "deepspeed", "offload": "optimizer", "zero_stage": 0},
            "needs zero_stage 1, 2 or 3",
        ),
    ],
)
def test_a_wrong_scaling_is_answered_in_words(fields: dict, answer: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_scaling(fields)
    assert answer in str(caught.value)


def test_a_rank_that_the_engine_would_refuse_is_refused_before_training() -> None:
    check_rank(Recipe(lora=Lora(rank=64)), engine_max_rank=64)
    check_rank(Recipe(lora=None), engine_max_rank=8)
    with pytest.raises(UsageError, match="accepts adapters up to rank 16"):
        check_rank(Recipe(lora=Lora(rank=64)), engine_max_rank=16)
    with pytest.raises(UsageError, match="accepts adapters up to rank 512"):
        check_rank(Recipe(lora=Lora(rank=1024)))
