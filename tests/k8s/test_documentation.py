"""docs/cluster.md and docs/gpu.md: their commands compose, what they name is there, and the figures
that can be counted are counted."""

import re
import shlex

import pytest
import yaml
from support.rendered_chart import CHART, EXAMPLES, ROOT, default_values

from automem.commands import jobs
from automem.config import compose

GPU = (ROOT / "docs" / "gpu.md").read_text()
CLUSTER = (ROOT / "docs" / "cluster.md").read_text()


def commands(text: str, name: str) -> list[list[str]]:
    """Every command of the shell blocks that begins with `name`, as words."""
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).replace("\\\n", " ")
    lines = [shlex.split(line, comments=True) for line in blocks.splitlines()]
    return [words for words in lines if words and words[0] == name]


GPU_COMMANDS = commands(GPU, "automem")


@pytest.mark.parametrize("number", range(len(GPU_COMMANDS)))
def test_every_command_for_gpus_composes_with_the_published_recipe(number: int) -> None:
    _, command, *overrides = GPU_COMMANDS[number]
    config = compose(command, overrides)
    assert config.learner.scaling.backend == "deepspeed"
    assert config.learner.scaling.zero_stage == 3
    assert config.learner.recipe.precision == "bf16"
    assert config.engine.target.max_lora_rank >= config.learner.recipe.lora.rank
    gpus = config.engine.replicas * config.engine.num_gpus + config.learner.scaling.workers
    assert gpus in (2, 16)


def test_the_settings_for_gpus_are_such_as_learner_and_engine_take() -> None:
    from omegaconf import OmegaConf

    from automem.engine.vllm_core import settings_from
    from automem_learners.recipe import read_recipe, read_scaling

    assert len(GPU_COMMANDS) == 5
    for _, command, *overrides in GPU_COMMANDS:
        tree = OmegaConf.to_container(compose(command, overrides), resolve=True)
        assert isinstance(tree, dict)
        read_scaling(tree["learner"]["scaling"])
        read_recipe(tree["learner"]["recipe"])
        target = tree["engine"]["target"]
        target.pop("_target_")
        settings_from(target.pop("model"), target)


def test_the_page_says_that_it_was_not_run() -> None:
    assert "Nothing on this page was run" in GPU


PUBLISHED = {
    "published_crafter": (256, 512, 5e-5, 4, 16, "attention"),
    "published_minihack": (128, 256, 5e-5, 3, 8, "all"),
    "published_nethack": (256, 512, 5e-5, 1, 16, "all"),
}
"""Rank, alpha, learning rate, epochs, batch times accumulation, targets: as published."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_recipes_are_the_published_ones(name: str) -> None:
    recipe = compose("proficiency", [f"learner={name}"]).learner.recipe
    lora = recipe.lora
    assert PUBLISHED[name] == (
        lora.rank,
        lora.alpha,
        recipe.learning_rate,
        recipe.epochs,
        recipe.conversations_per_step,
        lora.targets,
    )
    assert (lora.dropout, recipe.max_tokens, recipe.schedule) == (0.0, 16384, "cosine")
    assert (recipe.warmup, recipe.clip) == (0.05, 1.0)


HIDDEN, LAYERS, KEYS, INNER, WORDS = 5120, 64, 1024, 27648, 152064
"""Qwen2.5-32B: width, layers, width of keys and of values (8 heads of 128), of the MLP, words."""


def lora_parameters(rank: int, targets: str) -> int:
    attention = rank * (2 * (HIDDEN + HIDDEN) + 2 * (HIDDEN + KEYS))
    inner = rank * 3 * (HIDDEN + INNER)
    return LAYERS * (attention + (inner if targets == "all" else 0))


def test_the_sizes_on_the_page_are_those_of_the_model() -> None:
    import torch
    from transformers import AutoModelForCausalLM, Qwen2Config

    config = Qwen2Config(
        vocab_size=WORDS,
        hidden_size=HIDDEN,
        intermediate_size=INNER,
        num_hidden_layers=1,  # one stands for all: they are alike
        num_attention_heads=40,
        num_key_value_heads=8,
        tie_word_embeddings=False,
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    layer = sum(weight.numel() for weight in model.model.layers.parameters())
    whole = sum(weight.numel() for weight in model.parameters()) + (LAYERS - 1) * layer
    assert f"{whole / 1e9:.2f} billion | {2 * whole / 1e9:.1f} GB" in GPU
    for rank, _, _, _, _, targets in PUBLISHED.values():
        count = lora_parameters(rank, targets)
        assert f"{count / 1e9:.2f} billion | {2 * count / 1e9:.1f} GB" in GPU
    cached = LAYERS * 2 * KEYS * 2
    assert f"A token in the cache takes {cached / 1e6:.2f} MB" in GPU


# The cluster


def test_the_examples_that_the_page_names_are_there_and_all_of_them() -> None:
    assert {path.name for path in EXAMPLES} == set(re.findall(r"\| `([\w-]+\.yaml)` \|", CLUSTER))


def test_every_value_that_the_page_names_is_there() -> None:
    named = re.findall(r"`((?:[a-z]\w*\.)+[a-zA-Z]\w*)(?:=[^`]*)?`", CLUSTER)
    defaults = default_values()
    found = [key for key in named if key.split(".")[0] in defaults]
    assert len(found) > 10
    for key in found:
        node = defaults
        for part in key.split("."):
            assert part in node, key
            node = node[part]


def test_the_runs_that_the_page_shows_compose() -> None:
    blocks = [
        yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", CLUSTER, re.DOTALL)
    ]
    runs = [run for block in blocks for run in block.get("runs", [])]
    assert runs
    for run in runs:
        compose({"rollout": "config"}.get(run["command"], run["command"]), run["config"])


def test_rollouts_that_are_submitted_by_hand_compose() -> None:
    submitted = [words for words in commands(CLUSTER, "ray") if "submit" in words]
    assert submitted
    for words in submitted:
        _, command, *overrides = words[words.index("--") + 1 :]
        assert command == "rollout"
        compose("config", overrides)


def test_charts_are_installed_from_repositories_that_the_page_adds() -> None:
    added = {words[3] for words in commands(CLUSTER, "helm") if words[1:3] == ["repo", "add"]}
    installed = [words[3] for words in commands(CLUSTER, "helm") if words[1] == "install"]
    foreign = {name.split("/")[0] for name in installed if not (ROOT / name).exists()}
    assert foreign
    assert foreign <= added


def test_submitting_follows_and_fetching_is_a_command_of_its_own() -> None:
    assert "fetches results" not in CLUSTER
    assert "`automem jobs fetch ID`" in CLUSTER
    assert "fetch" in jobs.ACTIONS


def test_files_that_the_pages_name_are_there() -> None:
    for path in re.findall(r"k8s/[\w./-]+\w", CLUSTER + GPU):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"\]\(([\w./-]+\.md)\)", CLUSTER + GPU):
        assert (ROOT / "docs" / path).is_file(), path
    assert (CHART / "values.yaml").is_file()
