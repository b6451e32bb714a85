"""Datasets for other trainers: `messages` JSONL (TRL, OpenAI style) and ShareGPT (LLaMA-Factory).

Texts, not tokens: what reads them tokenises anew, so exact data lose their exactness there. Both
formats say nothing of masks: to train the last turn alone, as the learner here does on exact data,
use `prompt_completion` with TRL (it trains completions only), or `mask_history: true` with
LLaMA-Factory. Hand-overs (`dataset.HANDOVER`) are left out: a chat turn cannot end in its middle.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from automem.errors import UsageError
from automem_learners.dataset import HANDOVER, Conversation, Dataset

DATASET_INFO = "dataset_info.json"
_SHAREGPT_ROLES = {"user": "human", "assistant": "gpt", "tool": "observation"}


def write_messages(dataset: Dataset, path: Path) -> Path:
    """JSON lines of `{"messages": [{"role", "content"}, ...]}`."""
    return _write_lines(path, ({"messages": _chat(row)} for row in _whole(dataset)))


def write_prompt_completion(dataset: Dataset, path: Path) -> Path:
    """JSON lines of `{"prompt": [...], "completion": [...]}`, the last assistant turn apart."""
    return _write_lines(
        path,
        ({"prompt": _chat(row)[:-1], "completion": _chat(row)[-1:]} for row in _whole(dataset)),
    )


def write_sharegpt(dataset: Dataset, path: Path) -> Path:
    """One JSON list of `{"system", "conversations": [{"from", "value"}, ...]}`, and beside it the
    `dataset_info.json` entry by which LLaMA-Factory finds it (as `automem`)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.encode([_sharegpt(row) for row in _whole(dataset)]))
    columns = {"messages": "conversations", "system": "system"}
    info = {"automem": {"file_name": path.name, "formatting": "sharegpt", "columns": columns}}
    (path.parent / DATASET_INFO).write_bytes(msgspec.json.format(msgspec.json.encode(info)))
    return path


def _whole(dataset: Dataset) -> Iterable[Conversation]:
    return (row for row in dataset.conversations if row.kind != HANDOVER)


def _chat(row: Conversation) -> list[dict[str, str]]:
    return [{"role": role, "content": text} for role, text in row.messages]


def _sharegpt(row: Conversation) -> dict[str, Any]:
    messages: Sequence[tuple[str, str]] = row.messages
    system = ""
    if messages[0][0] == "system":
        system, messages = messages[0][1], messages[1:]
    for role, _ in messages:
        if role not in _SHAREGPT_ROLES:
            raise UsageError(
                f"{row.episode} step {row.step}: ShareGPT has no place for a message of role "
                f"{role!r} behind the first; export `messages` instead"
            )
    turns = [{"from": _SHAREGPT_ROLES[role], "value": text} for role, text in messages]
    return {"system": system, "conversations": turns}


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for row in rows:
            file.write(msgspec.json.encode(row) + b"\n")
    return path
