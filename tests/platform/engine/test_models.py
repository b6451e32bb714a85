"""Specialists by name: the shipped one, a training's folder, any PEFT folder."""

import hashlib
import json
from pathlib import Path

import pytest

from automem.commands.plan import spec_from
from automem.config import compose
from automem.engine.models import find_adapter
from automem.errors import UsageError


def peft_folder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    return folder


def test_a_trained_specialist_keeps_the_name_on_its_card(tmp_path: Path) -> None:
    adapter = peft_folder(tmp_path / "specialist-1" / "adapter")
    card = {"name": "specialist-1-0badcafe", "path": "adapter"}
    (tmp_path / "specialist-1" / "adapter.json").write_text(json.dumps(card))
    found = find_adapter(str(tmp_path / "specialist-1"))
    assert found == ("specialist-1-0badcafe", str(adapter))


def test_any_peft_folder_is_named_by_its_weights(tmp_path: Path) -> None:
    one, two = (find_adapter(str(peft_folder(tmp_path / name))) for name in ("a", "b"))
    assert one[0].startswith("a-")
    assert one[0].partition("-")[2] == two[0].partition("-")[2]


@pytest.mark.parametrize("content", [None, "not json", "{}"])
def test_a_folder_without_a_specialist_is_explained(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "adapter.json").write_text(content)
    with pytest.raises(UsageError, match=r"there is no specialist at .* expected `shipped`"):
        find_adapter(str(tmp_path))


def test_a_rollout_gives_the_specialist_the_memory_role_alone(tmp_path: Path) -> None:
    folder = peft_folder(tmp_path / "mine")
    spec = spec_from(compose(overrides=["experiment=embedded", f"specialist={folder}"]))
    [engine] = spec.engines.values()
    assert list(engine.adapters.values()) == [str(folder)]
    assert spec.memory.adapter in engine.adapters
    assert spec.gameplay.adapter is None
    assert spec.memory.sampling == spec.gameplay.sampling


def test_the_shipped_specialist_is_the_one_on_its_card() -> None:
    name, folder = find_adapter("shipped")
    card = json.loads((Path(folder).parent / "adapter.json").read_bytes())
    digest = hashlib.blake2b(digest_size=16)
    digest.update((Path(folder) / "adapter_model.safetensors").read_bytes())
    assert digest.hexdigest() == card["weights"]
    assert name.endswith(card["weights"][:8])
    config = json.loads((Path(folder) / "adapter_config.json").read_bytes())
    assert config["base_model_name_or_path"] == "embedded"
