"""`automem export`: an adapter, or the base model with it merged in, as a folder that others load.

Promise: what is written is a plain PEFT folder, or a plain transformers folder with its tokenizer,
and a card (README.md) that says from what it was trained, on how much, and what was measured; a
merged model's logits are compared with the adapter's on a few tokens before it is kept. Not
covered: quantised formats; uploading (the folder is what a hub's own tool takes).
"""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from automem.commands.arguments import Parser
from automem.commands.play import shortest
from automem.engine.models import find_adapter, resolve
from automem.errors import UsageError

EXAMPLES = [
    "automem export shipped exported                       # the shipped specialist's adapter",
    "automem export runs/20260701-120000-proficiency/seed-0/round-1/specialist-1 exported",
    "automem export shipped merged --merged                # base and adapter in one model",
    "automem export ADAPTER merged --merged --base Qwen/Qwen2.5-32B-Instruct --dtype bfloat16",
]
TOLERANCE = 2e-3
"""Largest difference of logits, as a share of the largest one, that merging may make."""


def main(argv: list[str]) -> int:
    """See the module's docstring."""
    parser = Parser(
        "export", "Write an adapter, or the model with it merged in, and its card.", EXAMPLES
    )
    parser.add_argument("adapter", help="`shipped`, or a specialist's folder")
    parser.add_argument("out", type=Path, metavar="DIR", help="a new folder")
    parser.add_argument("--merged", action="store_true", help="the whole model, weights merged")
    parser.add_argument("--base", help="base model, where the adapter does not say it")
    parser.add_argument(
        "--dtype", default="float32", help="of the merged weights: float32, bfloat16"
    )
    options = parser.parse_args(argv)
    if options.out.exists() and any(options.out.iterdir()):
        raise UsageError(f"{options.out} is not empty: choose a new folder")
    name, folder = find_adapter(options.adapter)
    card = read_card(options.adapter)
    base = options.base or card.get("base_model") or _base_of(Path(folder))
    if options.merged:
        if not base:
            raise UsageError("which model was it trained on? Say it with --base")
        _write_whole(options.out, lambda out: merge(base, Path(folder), out, options.dtype))
    else:
        _write_whole(options.out, lambda out: _copy_adapter(Path(folder), out))
    (options.out / "README.md").write_text(card_text(name, base, card, options.merged))
    kind = "merged model" if options.merged else "adapter"
    print(f"written: {shortest(options.out.resolve())} ({kind})")
    if options.merged:
        print(f"next:    automem rollout experiment=embedded engine.model={options.out.resolve()}")
    else:
        print(f"next:    automem rollout experiment=embedded specialist={options.out.resolve()}")
    return 0


def read_card(named: str) -> dict[str, Any]:
    """What its training wrote beside it; empty where nothing did."""
    from automem.engine.models import SHIPPED_SPECIALIST

    folder = SHIPPED_SPECIALIST if named == "shipped" else Path(named).expanduser()
    path = folder / "adapter.json"
    fields: dict[str, Any] = json.loads(path.read_bytes()) if path.is_file() else {}
    return fields


def merge(base: str, adapter: Path, out: Path, dtype: str) -> None:
    """The base with the adapter's change added to its weights, and its tokenizer, in `out`.

    UsageError where the merged model does not say what base and adapter say together."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if dtype not in ("float32", "bfloat16", "float16"):
        raise UsageError(f"--dtype {dtype}: expected float32, bfloat16 or float16")
    place = resolve(base)
    model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(model, str(adapter)).eval()
    probe = torch.arange(min(16, model.config.vocab_size)).unsqueeze(0)
    with torch.inference_mode():
        wanted = adapted(probe).logits
        merged = adapted.merge_and_unload(safe_merge=True).eval()
        found = merged(probe).logits
    error = float((wanted - found).abs().max() / wanted.abs().max().clamp_min(1e-9))
    if not error <= TOLERANCE:
        raise UsageError(
            f"merging {adapter} into {base} changes its logits by {error:.1e} of their size: is "
            "that the base it was trained on?"
        )
    merged.to(getattr(torch, dtype)).save_pretrained(out)
    AutoTokenizer.from_pretrained(place).save_pretrained(out)


def card_text(name: str, base: str | None, card: Mapping[str, Any], merged: bool) -> str:
    """The README: what it is, where it comes from, how to load it, what it does not show."""
    lora = (card.get("recipe") or {}).get("lora") or {}
    rows = {
        "base model": base or "not recorded",
        "LoRA": f"rank {lora['rank']}, alpha {lora['alpha']}, {lora['targets']}" if lora else None,
        "conversations": card.get("conversations"),
        "steps": card.get("steps"),
        "loss, first and last": _pair(card.get("first_loss"), card.get("last_loss")),
        "dataset": card.get("dataset"),
        "weights": card.get("weights"),
    }
    lines = [f"| {key} | {value} |" for key, value in rows.items() if value is not None]
    measured = json.dumps(card["report"], indent=2) if card.get("report") else None
    load = (
        "```python\nfrom transformers import AutoModelForCausalLM\n"
        'model = AutoModelForCausalLM.from_pretrained("this folder")\n```'
        if merged
        else "```python\nfrom peft import PeftModel\n"
        f'model = PeftModel.from_pretrained(base, "this folder")  # base: {base}\n```'
    )
    parts = [
        f"# {name}",
        "A memory specialist made with AutoMem: a model that keeps the notes of an agent, trained "
        "on the agent's own good memory decisions."
        + (" The adapter is merged into its base." if merged else " A LoRA adapter (PEFT)."),
        "| | |\n| --- | --- |\n" + "\n".join(lines),
        "## Load it\n\n" + load,
        "## Use\n\nIt writes and consults memory (the LOG and consulting turns); the game's action "
        "is the untouched base's. A merged model in both roles is another player than the one that "
        "was measured.",
    ]
    if measured:
        parts.append(f"## Measured\n\n```json\n{measured}\n```")
    return "\n\n".join(parts) + "\n"


def _copy_adapter(folder: Path, out: Path) -> None:
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy2(folder / name, out / name)


def _write_whole(out: Path, write: Any) -> None:
    """A folder that is there whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(dir=out.parent, prefix=".export-"))
    try:
        write(making)
        if out.exists():
            out.rmdir()
        os.chmod(making, 0o755)
        making.rename(out)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _base_of(folder: Path) -> str | None:
    fields = json.loads((folder / "adapter_config.json").read_bytes())
    found: str | None = fields.get("base_model_name_or_path")
    return found


def _pair(first: float | None, last: float | None) -> str | None:
    return None if first is None or last is None else f"{first:.4f}, {last:.4f}"
