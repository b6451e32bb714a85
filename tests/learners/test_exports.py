"""Exports: what other trainers read."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from automem.errors import UsageError
from automem_learners.dataset import Dataset
from automem_learners.exports import write_messages, write_prompt_completion, write_sharegpt


@pytest.fixture
def chats(dataset: Dataset) -> Dataset:
    """Two conversations, one of them with an earlier turn."""
    first, second = dataset.conversations[:2]
    talk = (
        ("system", "You keep notes."),
        ("user", "# log"),
        ("assistant", "<|READ|>a.txt<|END|>"),
        ("user", "# results"),
        ("assistant", "<|DONE|>"),
    )
    return replace(dataset, conversations=(replace(first, messages=talk), second))


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_messages_are_one_json_line_each(chats: Dataset, tmp_path: Path) -> None:
    rows = lines(write_messages(chats, tmp_path / "out" / "messages.jsonl"))
    assert [m["role"] for m in rows[0]["messages"]] == [
        "system", "user", "assistant", "user", "assistant",
    ]  # fmt: skip
    assert rows[0]["messages"][-1]["content"] == "<|DONE|>"
    assert len(rows) == 2


def test_prompt_and_completion_split_before_the_last_turn(chats: Dataset, tmp_path: Path) -> None:
    [first, _] = lines(write_prompt_completion(chats, tmp_path / "pairs.jsonl"))
    assert first["prompt"][-1] == {"role": "user", "content": "# results"}
    assert first["completion"] == [{"role": "assistant", "content": "<|DONE|>"}]


def test_sharegpt_names_its_file_for_llama_factory(chats: Dataset, tmp_path: Path) -> None:
    [first, second] = json.loads(write_sharegpt(chats, tmp_path / "share.json").read_text())
    assert first["system"] == "You keep notes."
    assert [turn["from"] for turn in first["conversations"]] == ["human", "gpt", "human", "gpt"]
    assert second["system"] == ""
    info = json.loads((tmp_path / "dataset_info.json").read_text())
    assert info["automem"]["file_name"] == "share.json"
    assert info["automem"]["formatting"] == "sharegpt"


def test_sharegpt_refuses_what_it_has_no_place_for(dataset: Dataset, tmp_path: Path) -> None:
    odd = replace(
        dataset.conversations[0], messages=(("user", "a"), ("system", "b"), ("assistant", "c"))
    )
    with pytest.raises(UsageError, match="no place for a message of role 'system'"):
        write_sharegpt(replace(dataset, conversations=(odd,)), tmp_path / "share.json")


def test_trl_reads_both_exports(base: str, dataset: Dataset, tmp_path: Path) -> None:
    """Tokenises `messages` and trains completions alone on `prompt` / `completion` pairs."""
    pytest.importorskip("trl", reason="pip install -e '.[bench]'")
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    for number, path in enumerate(
        (
            write_messages(dataset, tmp_path / "messages.jsonl"),
            write_prompt_completion(dataset, tmp_path / "pairs.jsonl"),
        )
    ):
        trainer = SFTTrainer(
            model=AutoModelForCausalLM.from_pretrained(base),
            args=SFTConfig(
                output_dir=str(tmp_path / str(number)), max_steps=1, report_to=[],
                save_strategy="no", use_cpu=True, bf16=False, gradient_checkpointing=False,
            ),
            train_dataset=load_dataset(
                "json", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache")
            ),
        )  # fmt: skip
        assert trainer.train().training_loss > 0
