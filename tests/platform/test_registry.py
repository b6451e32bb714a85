"""The registry: what a version means never changes, and aliases move by compare-and-swap."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.plain_gate import save_gate

from automem.agent.gating.decision import GateOptions
from automem.agent.gating.keeper import gate_label
from automem.config import scaffold_path
from automem.errors import UsageError
from automem.registry import CANARY, AliasMovedError, Registry, takes_canary


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


def make_adapter(folder: Path, weights: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_text(weights)
    return folder


def publish(registry: Registry, tmp_path: Path, count: int) -> list[str]:
    return [
        registry.publish(
            "base", scaffold_path("v0"), make_adapter(tmp_path / f"a{n}", f"weights {n}")
        ).name
        for n in range(count)
    ]


def test_a_version_keeps_its_folders_when_the_sources_change(
    registry: Registry, tmp_path: Path
) -> None:
    source = make_adapter(tmp_path / "adapter", "first")
    version = registry.publish("base", scaffold_path("v0"), source, note="after round 1")
    (source / "adapter_model.safetensors").write_text("second")
    kept = registry.path(registry.version("v1").adapter_folder)
    assert (kept / "adapter_model.safetensors").read_text() == "first"
    assert (registry.path(version.scaffold_folder) / "scaffold.yaml").is_file()
    assert registry.publish("base", scaffold_path("v0"), source).name == "v2"


def test_the_same_policy_is_published_once(registry: Registry, tmp_path: Path) -> None:
    source = make_adapter(tmp_path / "adapter", "first")
    first = registry.publish("base", scaffold_path("v0"), source)
    assert registry.publish("base", scaffold_path("v0"), source) == first
    assert registry.publish("base", scaffold_path("v0")).name == "v2"
    assert list(registry.versions()) == ["v1", "v2"]


def test_a_memory_gate_makes_another_version(registry: Registry, tmp_path: Path) -> None:
    gate = save_gate(tmp_path / "gate")
    plain = registry.publish("base", scaffold_path("v0"))
    gated = registry.publish("base", scaffold_path("v0"), gate_folder=gate)
    assert (plain.name, gated.name) == ("v1", "v2")
    assert gated.gate == gate_label(str(gate), GateOptions())
    kept = registry.path(gated.gate_folder)
    assert gate_label(str(kept), GateOptions()) == gated.gate
    with pytest.raises(UsageError, match="is no gate"):
        registry.publish("base", scaffold_path("v0"), gate_folder=tmp_path)


def test_a_name_is_never_reused_for_another_policy(registry: Registry) -> None:
    registry.publish("base", scaffold_path("v0"), name="stable")
    with pytest.raises(UsageError, match="never change"):
        registry.publish("other", scaffold_path("v0"), name="stable")
    with pytest.raises(UsageError, match="cannot be called 'current'"):
        registry.publish("other", scaffold_path("v0"), name="current")


def test_what_is_no_adapter_is_refused(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="adapter_config"):
        registry.publish("base", scaffold_path("v0"), tmp_path)
    assert registry.versions() == {}


def test_an_alias_moves_only_from_where_the_caller_saw_it(
    registry: Registry, tmp_path: Path
) -> None:
    publish(registry, tmp_path, 2)
    assert registry.promote("v1", expected_revision=0).revision == 1
    with pytest.raises(AliasMovedError, match=r"revision 1 \(v1\)"):
        registry.promote("v2", expected_revision=0)
    assert registry.promote("v2", expected_revision=1).revision == 2
    assert registry.aliases()["current"].version == "v2"


def test_of_promotions_at_the_same_moment_one_wins(registry: Registry, tmp_path: Path) -> None:
    publish(registry, tmp_path, 8)

    def promote(number: int) -> bool:
        try:
            Registry(registry.folder).promote(f"v{number + 1}", expected_revision=0)
        except AliasMovedError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(promote, range(8))) == 1


def test_rollback_goes_back_one_promotion_at_a_time(registry: Registry, tmp_path: Path) -> None:
    publish(registry, tmp_path, 3)
    for name in ("v1", "v2", "v3"):
        registry.promote(name)
    assert registry.rollback().version == "v2"
    assert registry.rollback().version == "v1"
    with pytest.raises(UsageError, match="nothing older"):
        registry.rollback()
    registry.promote("v3")
    assert registry.rollback().version == "v1"


def test_rolling_a_canary_back_ends_it(registry: Registry, tmp_path: Path) -> None:
    publish(registry, tmp_path, 1)
    registry.promote("v1", CANARY, share=0.25)
    assert registry.aliases()[CANARY].share == 0.25
    assert registry.rollback(CANARY).version == ""
    assert CANARY not in registry.aliases()


@pytest.mark.parametrize(("alias", "share"), [("canary", 0.0), ("canary", 2.0), ("current", 0.5)])
def test_shares_that_mean_nothing_are_refused(
    registry: Registry, tmp_path: Path, alias: str, share: float
) -> None:
    publish(registry, tmp_path, 1)
    with pytest.raises(UsageError, match="share"):
        registry.promote("v1", alias, share)


def test_an_unknown_version_or_alias_names_the_nearest(registry: Registry, tmp_path: Path) -> None:
    registry.publish("base", scaffold_path("v0"), name="stable")
    with pytest.raises(UsageError, match="stable"):
        registry.promote("stabel")
    with pytest.raises(UsageError, match="canary"):
        registry.promote("stable", "canari")


def test_every_move_is_kept_with_who_made_it(registry: Registry, tmp_path: Path) -> None:
    publish(registry, tmp_path, 2)
    registry.promote("v1", by="ann")
    registry.promote("v2", by="bob")
    registry.rollback(by="cleo")
    moves = registry.moves()
    assert [(m.by, m.version, m.undoes) for m in moves] == [
        ("ann", "v1", 0),
        ("bob", "v2", 0),
        ("cleo", "v1", 2),
    ]


def test_a_canary_takes_about_its_share_and_always_the_same_work() -> None:
    taken = [takes_canary(0.2, f"episode {n}") for n in range(2000)]
    assert 0.15 < sum(taken) / len(taken) < 0.25
    assert taken == [takes_canary(0.2, f"episode {n}") for n in range(2000)]
