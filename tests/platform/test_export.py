"""Exports load in plain PEFT and transformers, and say what they are."""

import shutil
from pathlib import Path

import msgspec
import pytest
from support.loop_parts import RULE, specialist

from automem import cli
from automem.engine.models import EMBEDDED, SHIPPED_SPECIALIST, find_adapter
from automem.loops.gate import confirm, race
from automem.loops.ledger import Chosen, Closed, Compared, Declared, Ledger, Picked, Trained
from automem.loops.recipes import Recipe, Selected


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


def judged_adapter(loop: Path) -> Path:
    """An adapter in a loop's folder, with the ledger of its round."""
    folder = loop / "round-1" / "specialist-1"
    shutil.copytree(SHIPPED_SPECIALIST / "adapter", folder / "adapter")
    shutil.copy(SHIPPED_SPECIALIST / "adapter.json", folder)
    made = msgspec.structs.replace(specialist("good"), path=str(folder / "adapter"))
    few = [(seed, 0.5 + seed % 3 / 10, 0.25) for seed in range(4)]
    many = [(seed, 0.5 + seed % 3 / 10, 0.25) for seed in range(RULE.pairs)]
    looks = {
        "race": (race(RULE, {"toy": [pair[1:] for pair in few]}), few),
        "confirm": (confirm(RULE, {"toy": [pair[1:] for pair in many]}), many),
    }
    ledger = Ledger(loop)
    ledger.add(0, Declared(RULE, "embedded", "toy", "v1"))
    ledger.add(1, Chosen(Recipe(), "fixed", "as told"))
    picked = Selected(folder=str(loop / "selection"), turns=40, verdict="", considered=90)
    ledger.add(1, Picked(picked, 6))
    ledger.add(1, Trained(0, made))
    for kind, (comparison, pairs) in looks.items():
        ledger.add(1, Compared(0, kind, comparison, tuple(pairs)))
    verdict = looks["confirm"][0].verdict
    ledger.add(1, Closed(verdict, "as measured", made, made, 0.35))
    return folder


@pytest.mark.parametrize("within", ["", "adapter"])
def test_the_card_says_what_the_gate_measured_and_from_what_it_was_trained(
    tmp_path: Path, within: str
) -> None:
    folder = judged_adapter(tmp_path / "loop")
    shutil.move(tmp_path / "loop", tmp_path / "moved")
    here = tmp_path / "moved" / folder.relative_to(tmp_path / "loop") / within
    assert cli.main(["export", str(here), str(tmp_path / "out")]) == 0
    text = (tmp_path / "out/README.md").read_text()
    assert "| trained from | 40 of 90 turns of 6 episodes, picked by provenance |" in text
    assert "rank 16" in text
    told = text.partition("## Measured")[2]
    assert "Played in toy with the scaffold v1 against the base" in told
    comparisons = {
        what.kind: what.comparison for what in Ledger(tmp_path / "moved").find_all(1, Compared)
    }
    for kind, pairs in (("race", 4), ("confirm", RULE.pairs)):
        found = comparisons[kind].difference
        assert found.ci95 is not None
        low, high = found.ci95
        [row] = [line for line in told.splitlines() if line.startswith(f"| {kind} |")]
        assert f"| {found.mean:+.3f} | {low:+.3f} to {high:+.3f} |" in row
        assert row.endswith(f"| {pairs} | {comparisons[kind].verdict} |")
    assert f"{comparisons['confirm'].p:.5f}" in told


def test_the_shipped_specialists_card_says_what_its_readme_has_measured(tmp_path: Path) -> None:
    assert cli.main(["export", "shipped", str(tmp_path / "out")]) == 0
    told = (tmp_path / "out/README.md").read_text().partition("## Measured")[2]
    assert "> that nobody had used: +0.499, +0.459 to +0.539, p = 0.00001: accepted." in told


def test_the_card_says_where_nothing_was_measured(tmp_path: Path) -> None:
    shutil.copytree(SHIPPED_SPECIALIST / "adapter", tmp_path / "mine")
    assert cli.main(["export", str(tmp_path / "mine"), str(tmp_path / "out")]) == 0
    told = (tmp_path / "out/README.md").read_text().partition("## Measured")[2]
    assert told.strip().startswith("Nothing that is known here")


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


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_a_file_in_the_way_is_told_with_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str
) -> None:
    (tmp_path / "file").write_text("mine")
    assert cli.main(["export", "shipped", str(tmp_path / out)]) == cli.USAGE
    assert f"{tmp_path / 'file'} is a file: name a new folder" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"
