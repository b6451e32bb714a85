"""Adapters: put on a model, gathered, saved and loaded in PEFT's own layout.

What is saved loads in transformers + peft and in vLLM: plain linear layers, no bias, no modules
saved beside the matrices. Full fine-tuning saves a model folder instead, tokenizer included.
"""

import hashlib
import json
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import msgspec
import torch

from automem.errors import UsageError
from automem.seeds import derive
from automem.suggest import no_such
from automem_learners.base_model import Base, load_model, skeleton
from automem_learners.recipe import Lora, Recipe

CARD = "adapter.json"
WEIGHTS = "adapter_model.safetensors"


class AdapterVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A trained specialist: immutable, named by what it is. Its card, `adapter.json`."""

    name: str = ""
    """`<folder>-<8 hex digits of its weights>`."""
    path: str
    """Folder in PEFT layout (or of the whole model, for full fine-tuning)."""
    base_model: str
    rank: int
    """0 for full fine-tuning."""
    weights: str = ""
    """Digest of the weights, 32 hex digits."""
    job: str
    """Digest of data, recipe, base model and start: the same job is not trained twice."""
    dataset: str
    """Digest of the dataset."""
    recipe: dict[str, Any]
    steps: int
    conversations: int
    skipped: int
    """Conversations left out because they are longer than the recipe's `max_tokens`."""
    first_loss: float
    last_loss: float
    """Mean over the last tenth of the steps."""
    tokens_per_s: float
    seconds: float
    """Wall time, start-up included."""
    report: dict[str, float] = {}
    """The objective's own figures."""


def target_names(model: torch.nn.Module, targets: str | tuple[str, ...]) -> list[str]:
    """Names of the linear layers that `targets` means in this model; UsageError for unknown."""
    linear = {
        path: path.rpartition(".")[2]
        for path, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    head = _head_name(model)
    body = {path: name for path, name in linear.items() if name != head}
    if targets == "all":
        return sorted(set(body.values()))
    if targets == "attention":
        inside = {name for path, name in body.items() if _is_attention(path)}
        if not inside:
            raise UsageError("lora.targets=attention: no layer of this model is called attention")
        return sorted(inside)
    names = [targets] if isinstance(targets, str) else list(targets)
    for name in names:
        if name not in body.values():
            raise UsageError(
                no_such("layer", name, {*body.values(), "attention", "all"}) + " (lora.targets)"
            )
    return sorted(set(names))


def check_targets(base: Base, recipe: Recipe) -> None:
    """UsageError where the recipe names layers that the base model does not have."""
    if recipe.lora is not None:
        target_names(skeleton(base), recipe.lora.targets)


def prepare(base: Base, recipe: Recipe, start: Path | None, dtype: torch.dtype) -> torch.nn.Module:
    """The model to train: the base with a fresh adapter (or that of `start`), or all of it."""
    if recipe.lora is None:
        return load_model(base, dtype)
    model = load_model(base, dtype)
    torch.manual_seed(derive(recipe.seed, "adapter"))
    if start is not None:
        from peft import PeftModel

        adapted = PeftModel.from_pretrained(model, str(start), is_trainable=True)
    else:
        from peft import get_peft_model

        with warnings.catch_warnings():
            # PEFT asks transformers by an old name whether activations are recomputed.
            warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
            adapted = get_peft_model(model, _peft_config(model, recipe.lora))
    prepared: torch.nn.Module = adapted
    return prepared


def recompute_activations(model: torch.nn.Module) -> None:
    """Gradient checkpointing, so that gradients reach adapters through frozen layers."""
    anything: Any = model
    # reentrant: ZeRO 3 regathers weights in between, which the other kind takes for a change
    anything.activation_checkpointing_enable({"use_reentrant": True})
    anything.enable_input_require_grads()


def check_start(start: Path, recipe: Recipe, base: Base) -> None:
    """UsageError where training cannot go on from the adapter in `start`."""
    if recipe.lora is None:
        raise UsageError("full fine-tuning starts from a model: give it as base_model, not start")
    try:
        config = json.loads((start / "adapter_config.json").read_text())
    except FileNotFoundError:
        raise UsageError(f"{start} holds no adapter: expected adapter_config.json in it") from None
    wanted = sorted(target_names(skeleton(base), recipe.lora.targets))
    for field, ours, theirs in (
        ("rank", recipe.lora.rank, config["r"]),
        ("alpha", recipe.lora.alpha, config["lora_alpha"]),
        ("targets", wanted, sorted(config["target_modules"])),
    ):
        if ours != theirs:
            raise UsageError(
                f"lora.{field} is {ours}, but the adapter in {start} has {theirs}: "
                "continue it with its own, or start afresh"
            )


def trained_state(model: torch.nn.Module, is_writer: bool) -> dict[str, torch.Tensor]:
    """The trained weights on the CPU, by name, gathered from all workers under ZeRO 3.

    Every worker must call it; only the writer gets the weights."""
    state = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        with _gathered(parameter):
            if is_writer:
                state[name] = parameter.detach().to("cpu", copy=True)
    return state


def save(
    model: torch.nn.Module, state: Mapping[str, torch.Tensor], base: Base, folder: Path
) -> None:
    """Write the trained weights `state` of `model`: PEFT layout, or a whole model folder."""
    folder.mkdir(parents=True, exist_ok=True)
    if not hasattr(model, "peft_config"):
        config: Any = model
        config.save_pretrained(str(folder), state_dict=dict(state))
        from automem.engine.render import load_tokenizer

        load_tokenizer(base.name).save_pretrained(str(folder))
        return
    from safetensors.torch import save_file

    # PEFT's layout: the adapter's own name is left out of each weight's name
    plain = {name.replace(".default.", "."): t.contiguous() for name, t in state.items()}
    save_file(plain, str(folder / WEIGHTS), metadata={"format": "pt"})
    adapted: Any = model
    peft_config = adapted.peft_config["default"]
    peft_config.inference_mode = True
    # PEFT knows the folder that the base was loaded from, and not its name.
    peft_config.base_model_name_or_path = base.name
    peft_config.save_pretrained(str(folder))


def weights_digest(folder: Path) -> str:
    """Digest of the weight files of an adapter's or a model's folder."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def read_version(folder: Path) -> AdapterVersion:
    """The card of a trained adapter; UsageError where the folder holds none."""
    try:
        version = msgspec.json.decode((folder / CARD).read_bytes(), type=AdapterVersion)
    except FileNotFoundError:
        raise UsageError(f"{folder} holds no trained adapter: expected {CARD} in it") from None
    return msgspec.structs.replace(version, path=str(folder / version.path))


def publish(version: AdapterVersion, made: Path, folder: Path) -> AdapterVersion:
    """Move the weights in `made`, then their card, into `folder`: with a card, all is there."""
    target = folder / version.path
    if target.exists():
        shutil.rmtree(target)
    shutil.move(made, target)
    digest = weights_digest(target)
    version = msgspec.structs.replace(
        version, weights=digest, name=f"{folder.resolve().name}-{digest[:8]}"
    )
    unfinished = folder / f".{CARD}"
    unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(version)))
    unfinished.rename(folder / CARD)
    return msgspec.structs.replace(version, path=str(target))


def _peft_config(model: torch.nn.Module, lora: Lora) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=target_names(model, lora.targets),
        task_type="CAUSAL_LM",
    )


def _head_name(model: torch.nn.Module) -> str:
    head = getattr(model, "get_output_embeddings", lambda: None)()
    return next((n.rpartition(".")[2] for n, m in model.named_modules() if m is head), "lm_head")


def _is_attention(path: str) -> bool:
    parents = path.rpartition(".")[0].lower()
    return "attn" in parents or "attention" in parents


@contextmanager
def scored(model: torch.nn.Module, of_base: bool) -> Iterator[None]:
    """The model without gradients and dropout; `of_base`: without its adapter as well."""
    anything: Any = model
    with torch.no_grad(), anything.disable_adapter() if of_base else nullcontext():
        model.eval()
        try:
            yield
        finally:
            model.train()


@contextmanager
def _gathered(parameter: torch.nn.Parameter) -> Iterator[None]:
    if not hasattr(parameter, "ds_id"):
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters([parameter]):
        yield
