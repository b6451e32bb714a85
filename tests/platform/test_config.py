"""The configuration tree: what composes, and what a person reads where it does not."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError

from automem.config import compose, groups, scaffold_path, scaffolds
from automem.errors import UsageError
from automem.seeds import SeedRange, seeds_from
from automem.suggest import nearest, no_such


def test_the_defaults_compose() -> None:
    config = compose()
    assert config.env.name == "concentration"
    assert config.rollout.workers >= 1
    assert config.scaffold in scaffolds()


def test_overrides_change_values_and_groups() -> None:
    config = compose(
        overrides=["env=crafter", "engine=scripted", "rollout.workers=2", "rollout.seeds=[42,43]"]
    )
    assert (config.env.name, config.engine.name) == ("crafter", "scripted")
    assert config.rollout.workers == 2
    assert list(config.rollout.seeds) == [42, 43]


def test_the_scripted_engine_plays_the_worlds_own_player() -> None:
    for env in groups()["env"]:
        config = compose(overrides=[f"env={env}", "engine=scripted"])
        assert config.engine.player == config.env.player


def test_an_experiment_is_changed_by_what_stands_beside_it() -> None:
    assert compose(overrides=["experiment=crafter_scripted"]).engine.name == "scripted"
    config = compose(overrides=["experiment=crafter_scripted", "env=concentration"])
    assert (config.env.name, config.engine.name) == ("concentration", "scripted")


@pytest.mark.parametrize(
    ("override", "answer"),
    [
        ("env=crafterr", "no env 'crafterr'; did you mean 'crafter'? There are: "),
        ("scaffold=embeded", "no scaffold 'embeded'; did you mean 'embedded'?"),
        ("rollout.episods=4", "unknown key 'rollout.episods'; did you mean 'rollout.episodes'"),
        ("episodes=4", "did you mean 'rollout.episodes'"),
        ("hydra.run.dir=x", "did you mean 'run.dir'"),
        ("rollout.workers=two", "rollout.workers must be a whole number of at least 0, got 'two'"),
        ("rollout.workers=-1", "rollout.workers must be a whole number of at least 0, got -1"),
        ("rollout.workers=true", "rollout.workers must be a whole number"),
        ("rollout.seeds=42", "rollout.seeds must be a list such as [42,43], null or one of"),
        ("rollout.seeds=[]", "rollout.seeds must be a list such as [42,43]"),
        ("agent.dialect=tag", "agent.dialect must be one of tags, tools, got 'tag'"),
        ("engine.sampling.top_p=2", "engine.sampling.top_p must be a number from 0 to 1, got 2"),
        ("env.seeds=3", "env.seeds must be a list such as [1,2], got 3"),
        ("run.dir", "cannot read 'run.dir': expected key=value"),
        ("env=crafter,concentration", "several values are a sweep; add -m"),
        ("experiment=nope", "no experiment 'nope'. There are: "),
    ],
)
def test_a_wrong_word_is_answered_with_the_nearest_right_one(override: str, answer: str) -> None:
    with pytest.raises(UsageError) as caught:
        compose(overrides=[override])
    assert answer in str(caught.value)


def test_a_bad_address_is_refused_before_anything_starts() -> None:
    with pytest.raises(UsageError, match=r"engine\.base_url must be an address such as http"):
        compose(overrides=["engine=openai", "engine.model=x", "engine.base_url=localhost:8000"])


def test_a_value_that_only_a_person_knows_is_asked_for() -> None:
    with pytest.raises(UsageError, match=r"engine\.model has to be given: add engine\.model="):
        compose(overrides=["engine=openai"])


def test_final_seeds_cannot_be_played_by_a_rollout() -> None:
    [seed] = seeds_from(SeedRange.FINAL, 1)
    for value in ("final", f"[{seed}]"):
        with pytest.raises(UsageError, match="automem finalize"):
            compose(overrides=[f"rollout.seeds={value}"])


def test_unknown_keys_cannot_be_read_either() -> None:
    with pytest.raises(ConfigAttributeError):
        _ = compose().rollout.wrokers


def test_a_folder_of_the_users_own_is_searched_first(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /env: crafter\nrollout: {episodes: 3}\n"
    )
    (tmp_path / "tracker").mkdir()
    (tmp_path / "tracker" / "none.yaml").write_text("name: none\nnote: from the user's folder\n")
    config = compose(overrides=["experiment=mine"], config_dir=tmp_path)
    assert (config.env.name, config.rollout.episodes) == ("crafter", 3)
    assert config.tracker.note == "from the user's folder"


def test_a_users_values_are_checked_wherever_they_were_set(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\nrollout: {workers: many}\n"
    )
    with pytest.raises(UsageError, match=r"rollout\.workers must be .*, got 'many'"):
        compose(overrides=["experiment=mine"], config_dir=tmp_path)


def test_a_broken_file_and_a_missing_folder_are_usage_errors(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("rollout: [1, 2\n")
    with pytest.raises(UsageError, match="does not compose"):
        compose(overrides=["experiment=mine"], config_dir=tmp_path)
    with pytest.raises(UsageError, match="there is no such folder"):
        compose(config_dir=tmp_path / "nowhere")


def test_a_scaffold_is_found_by_name_or_path(tmp_path: Path) -> None:
    assert scaffold_path("v0").name == "v0"
    assert scaffold_path(str(tmp_path)) == tmp_path
    (tmp_path / "scaffold" / "v0").mkdir(parents=True)
    assert scaffold_path("v0", tmp_path) == tmp_path / "scaffold" / "v0"
    assert compose(overrides=[f"scaffold={tmp_path}"]).scaffold == str(tmp_path)


def test_composing_leaves_hydra_as_it_was() -> None:
    from hydra.core.global_hydra import GlobalHydra

    compose()
    assert not GlobalHydra.instance().is_initialized()


def test_what_was_composed_composes_again_from_its_own_text() -> None:
    config = compose(overrides=["env=crafter", "engine=scripted"])
    assert OmegaConf.create(OmegaConf.to_yaml(config)) == config


def test_the_nearest_word_is_found_by_its_last_part_too() -> None:
    assert nearest("workrs", ["rollout.workers", "run.dir"]) == ["rollout.workers"]
    assert nearest("xyz", ["rollout.workers"]) == []
    assert no_such("env", "x", []) == "no env 'x'. There are: none"
