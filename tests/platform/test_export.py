"""Exports load in plain PEFT and transformers, and say what they are."""

from pathlib import Path

import pytest

from automem import cli
from automem.engine.models import EMBEDDED, SHIPPED_SPECIALIST, find_adapter


def test_an_adapter_is_exported_with_its_card_and_is_a_specialist(tmp_path: Path) -> None:
    assert cli.main(["export", "shipped", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out/README.md").read_text()
    assert "rank 16" in text
    assert "base: embedded" in text
    name, folder = find_adapter(str(tmp_path / "out"))
    assert name.startswith("out-")
    weights = "adapter_model.safetensors"
    assert (Path(folder) / weights).read_bytes() == (
        SHIPPED_SPECIALIST / "adapter" / weights
    ).read_bytes()


def test_a_merged_model_says_what_base_and_adapter_say_together(tmp_path: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert cli.main(["export", "shipped", str(tmp_path / "out"), "--merged"]) == 0
    base = AutoModelForCausalLM.from_pretrained(EMBEDDED, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(base, str(SHIPPED_SPECIALIST / "adapter")).eval()
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    ids = torch.arange(20, 60).unsqueeze(0)
    with torch.inference_mode():
        assert torch.allclose(adapted(ids).logits, merged(ids).logits, atol=1e-3, rtol=1e-3)
    assert AutoTokenizer.from_pretrained(tmp_path / "out").vocab_size > 100
    assert "merged into its base" in (tmp_path / "out/README.md").read_text()


def test_a_folder_in_use_and_an_unknown_adapter_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("mine")
    assert cli.main(["export", "shipped", str(tmp_path / "full")]) == cli.USAGE
    assert cli.main(["export", "nowhere", str(tmp_path / "new")]) == cli.USAGE
    assert "is not empty" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
