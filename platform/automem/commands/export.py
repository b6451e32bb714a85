"""`automem export`: an adapter, or the base model with it merged in, as a folder that others load.

Promise: what is written is a plain PEFT folder, or a plain transformers folder with its tokenizer,
and a card (README.md) that says from what it was trained, on how much, and what was measured: by
the gate, as the ledger of its loop has it while the adapter lies in the loop's folder, else what
the README beside it says; where neither is there, the card says so. A merged model's logits are
compared with the adapter's on a few tokens before it is kept. Not covered: quantised formats;
uploading (the folder is what a hub's own tool takes).
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
from automem.engine.models import SHIPPED_SPECIALIST, find_adapter, resolve
from automem.errors import UsageError
from automem.tracking.origin import Origin, origin_of

EXAMPLES = [
    "automem export shipped exported                       # the shipped specialist's adapter",
    "automem export runs/20260701-120000-proficiency/seed-0/round-1/specialist-1 exported",
    "automem export shipped merged --merged                # base and adapter in one model",
    "automem export ADAPTER merged --merged --base Qwen/Qwen2.5-32B-Instruct --dtype bfloat16",
]
CARD = "adapter.json"
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
    _check_new(options.out)
    name, folder = find_adapter(options.adapter)
    place = card_folder(options.adapter)
    card = read_card(place)
    base = options.base or card.get("base_model") or _base_of(Path(folder))
    if options.merged:
        if not base:
            raise UsageError("which model was it trained on? Say it with --base")
        _write_whole(options.out, lambda out: merge(base, Path(folder), out, options.dtype))
    else:
        _write_whole(options.out, lambda out: _copy_adapter(Path(folder), out))
    origin = origin_of(place)
    text = card_text(card.get("name") or name, base, card, options.merged, origin)
    (options.out / "README.md").write_text(f"{text}\n## Measured\n\n{measured(origin, place)}\n")
    kind = "merged model" if options.merged else "adapter"
    print(f"written: {shortest(options.out.resolve())} ({kind})")
    if options.merged:
        print(f"next:    automem rollout experiment=embedded engine.model={options.out.resolve()}")
    else:
        print(f"next:    automem rollout experiment=embedded specialist={options.out.resolve()}")
    return 0


def card_folder(named: str) -> Path:
    """Where the card of an adapter lies: its training's folder, also where the adapter's own folder
    within that is named."""
    folder = SHIPPED_SPECIALIST if named == "shipped" else Path(named).expanduser().resolve()
    is_within = (
        not (folder / CARD).is_file() and read_card(folder.parent).get("path") == folder.name
    )
    return folder.parent if is_within else folder


def read_card(folder: Path) -> dict[str, Any]:
    """What its training wrote beside it; empty where nothing did."""
    path = folder / CARD
    fields: dict[str, Any] = json.loads(path.read_bytes()) if path.is_file() else {}
    return fields


def measured(origin: Origin | None, place: Path) -> str:
    """The gate's figures for an adapter; or what the README beside its card says; or that nothing
    is known."""
    if origin is not None and origin.comparisons:
        return _of_the_gate(origin)
    readme = place / "README.md"
    if (place / CARD).is_file() and readme.is_file():
        title, _, body = readme.read_text().strip().partition("\n")
        said = body.strip() if title.startswith("# ") else f"{title}\n{body}"
        quoted = "\n".join(f"> {line}".rstrip() for line in said.splitlines())
        return f"The README beside it says:\n\n{quoted}"
    return (
        "Nothing that is known here: the gate has not judged it, or it does not lie in the folder "
        "of the loop that trained it."
    )


def _of_the_gate(origin: Origin) -> str:
    declared = origin.declared
    head = (
        f"Played in {declared.get('world')} with the scaffold {declared.get('scaffold')} against "
        f"{origin.rival or 'the base'} on the same seeds, in round {origin.round} of "
        f"{origin.loop.name}. The mean is that of the paired differences of progression."
    )
    rows = ["comparison | mean | 95 % interval | p | pairs | verdict", " | ".join(["---"] * 6)]
    for each in origin.comparisons:
        found, p = each["difference"], each.get("p")
        low, high = found.get("ci95") or (None, None)
        cells = (
            each["kind"],
            "" if found["mean"] is None else f"{found['mean']:+.3f}",
            "" if low is None else f"{low:+.3f} to {high:+.3f}",
            "" if p is None else f"{p:.5f} (at most {each['threshold']:.5f})",
            str(found["n"]),
            each["verdict"],
        )
        rows.append(" | ".join(cells))
    table = "\n".join(f"| {row} |" for row in rows)
    return f"{head}\n\n{table}\n\nA race eliminates; only a confirmation accepts."


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


def card_text(
    name: str, base: str | None, card: Mapping[str, Any], merged: bool, origin: Origin | None
) -> str:
    """The README but for what was measured: what it is, where it comes from, how to load it."""
    lora = (card.get("recipe") or {}).get("lora") or {}
    rows = {
        "base model": base or "not recorded",
        "LoRA": f"rank {lora['rank']}, alpha {lora['alpha']}, {lora['targets']}" if lora else None,
        "trained from": _trained_from(origin),
        "conversations": card.get("conversations"),
        "steps": card.get("steps"),
        "loss, first and last": _pair(card.get("first_loss"), card.get("last_loss")),
        "dataset": card.get("dataset"),
        "weights": card.get("weights"),
    }
    lines = [f"| {key} | {value} |" for key, value in rows.items() if value is not None]
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
    if card.get("report"):
        report = json.dumps(card["report"], indent=2)
        parts.append(f"## The training's own figures\n\n```json\n{report}\n```")
    return "\n\n".join(parts) + "\n"


def _trained_from(origin: Origin | None) -> str | None:
    if origin is None or origin.picked.get("turns") is None:
        return None
    picked = origin.picked
    return (
        f"{picked['turns']} of {picked.get('considered')} turns of {picked.get('episodes')} "
        f"episodes, picked by {origin.data.get('selector')}"
    )


def _check_new(out: Path) -> None:
    """UsageError where no folder can be made, or one is in use."""
    in_the_way = next((at for at in (out, *out.parents) if at.exists() and not at.is_dir()), None)
    if in_the_way is not None:
        raise UsageError(f"{in_the_way} is a file: name a new folder to write to")
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"{out} is not empty: choose a new folder")


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
