"""Recipes and scaling: what is trained, and on what machine it is trained.

A `Recipe` decides the result; a `Scaling` decides only how fast and in how much memory it is
reached: the same recipe gives the same loss curve on one process or on eight (to rounding, and
with dropout 0). Both come from one Hydra group, `conf/learner/`. An unknown field or a value that
no training could use is a `UsageError`, before any time is spent.
"""

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import msgspec

from automem.errors import UsageError
from automem.suggest import no_such

VLLM_MAX_RANK = 512
"""The highest rank vLLM can be started with (`max_lora_rank`)."""


def _require(is_right: bool, field: str, expected: str, got: object) -> None:
    if not is_right:
        raise UsageError(f"{field} must be {expected}, got {got!r}")


class Lora(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A low-rank adapter: which linear layers get one, and of what size."""

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    targets: str | tuple[str, ...] = "all"
    """`attention`, `all` (every linear layer but the head), or the layers' own names."""

    def __post_init__(self) -> None:
        _require(self.rank >= 1, "lora.rank", "a whole number of at least 1", self.rank)
        _require(self.alpha >= 1, "lora.alpha", "a whole number of at least 1", self.alpha)
        _require(0 <= self.dropout < 1, "lora.dropout", "in [0, 1)", self.dropout)
        _require(bool(self.targets), "lora.targets", "`attention`, `all` or names", self.targets)


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that decides the trained weights, given the data and the base model."""

    lora: Lora | None = Lora()
    """None trains every weight."""
    learning_rate: float = 5e-5
    epochs: int = 4
    max_steps: int | None = None
    """Stop after so many optimizer steps (the schedule ends there too)."""
    conversations_per_step: int = 16
    """Size of the global batch, over all workers. Published runs: batch x accumulation."""
    max_tokens: int = 16384
    """Longer conversations are left out and counted; nothing is ever cut in the middle."""
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: float = 0.05
    """Share of the steps over which the learning rate rises from 0."""
    clip: float = 1.0
    """Largest norm of the gradient; 0 leaves it alone."""
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    precision: Literal["fp32", "bf16"] = "bf16"
    """bf16 keeps fp32 master weights of what is trained."""
    seed: int = 0
    """Initial adapter, order of the data and dropout."""

    def __post_init__(self) -> None:
        _require(self.learning_rate > 0, "learning_rate", "above 0", self.learning_rate)
        _require(self.epochs >= 1, "epochs", "at least 1", self.epochs)
        steps = self.max_steps
        _require(steps is None or steps >= 1, "max_steps", "at least 1, or null", steps)
        batch = self.conversations_per_step
        _require(batch >= 1, "conversations_per_step", "at least 1", batch)
        _require(self.max_tokens >= 2, "max_tokens", "at least 2", self.max_tokens)
        _require(0 <= self.warmup <= 1, "warmup", "in [0, 1]", self.warmup)
        _require(self.clip >= 0, "clip", "0 (off) or more", self.clip)
        _require(self.weight_decay >= 0, "weight_decay", "0 or more", self.weight_decay)


class Scaling(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the work is spread. `local` is this process; `deepspeed` is workers under Ray Train."""

    backend: Literal["local", "deepspeed"] = "local"
    workers: int = 1
    cpus_per_worker: int = 1
    """Threads that each worker computes with."""
    gpus_per_worker: Literal[0, 1] = 0
    labels: dict[str, str] = {}
    """Labels of the nodes that workers may run on (Ray's label selectors); empty: any node."""
    strategy: Literal["PACK", "STRICT_PACK", "SPREAD", "STRICT_SPREAD"] = "PACK"
    """How the placement group that holds all workers is spread over nodes."""
    zero_stage: Literal[0, 1, 2, 3] = 2
    """What is split over workers: 0 nothing, 1 optimizer state, 2 gradients too, 3 weights too."""
    offload: Literal["none", "optimizer", "all"] = "none"
    """What is kept in CPU memory: optimizer state (stages 1 to 3), or weights too (stage 3)."""
    microbatch_tokens: int = 4096
    """Tokens of one forward pass: bounds memory, changes no result."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: a third more time, far less memory."""
    checkpoint_every: int = 50
    """Optimizer steps between checkpoints; 0: only at the end."""
    storage_url: str = ""
    """Where Ray Train keeps checkpoints, as an fsspec URL; empty: in the output folder, which all
    nodes then have to share."""
    max_failures: int = 3
    """Deaths of workers after which the training gives up."""

    def __post_init__(self) -> None:
        _require(self.workers >= 1, "workers", "at least 1", self.workers)
        _require(self.cpus_per_worker >= 1, "cpus_per_worker", "at least 1", self.cpus_per_worker)
        _require(self.microbatch_tokens >= 2, "microbatch_tokens", ">= 2", self.microbatch_tokens)
        _require(self.checkpoint_every >= 0, "checkpoint_every", "0 or more", self.checkpoint_every)
        _require(self.max_failures >= 0, "max_failures", "0 or more", self.max_failures)
        if self.backend == "local" and self.workers != 1:
            raise UsageError(
                f"backend local is one process, got workers={self.workers}: "
                "set backend=deepspeed, or workers=1"
            )
        if self.offload == "all" and self.zero_stage != 3:
            raise UsageError("offload=all keeps the weights in CPU memory: it needs zero_stage=3")
        if self.offload == "optimizer" and self.zero_stage == 0:
            raise UsageError("offload=optimizer needs zero_stage 1, 2 or 3")


Settings = TypeVar("Settings", Recipe, Scaling)


def read_recipe(fields: Mapping[str, Any]) -> Recipe:
    """A recipe from plain data; UsageError names the field that is wrong and the nearest right."""
    return _read(Recipe, fields, "recipe")


def read_scaling(fields: Mapping[str, Any]) -> Scaling:
    """A scaling from plain data; UsageError as for `read_recipe`."""
    return _read(Scaling, fields, "scaling")


def check_rank(recipe: Recipe, engine_max_rank: int | None = None) -> None:
    """Refuse an adapter that the engine would not load; without a limit known, vLLM's own."""
    limit = engine_max_rank or VLLM_MAX_RANK
    if recipe.lora is not None and recipe.lora.rank > limit:
        raise UsageError(
            f"lora.rank is {recipe.lora.rank}, but the engine accepts adapters up to rank {limit}: "
            "lower lora.rank, or start the engine with a higher limit"
        )


def _read(kind: type[Settings], fields: Mapping[str, Any], name: str) -> Settings:
    _check_names(kind, fields, name)
    lora = fields.get("lora")
    if isinstance(lora, Mapping):
        _check_names(Lora, lora, f"{name}.lora")
    try:
        return msgspec.convert(dict(fields), kind)
    except msgspec.ValidationError as error:
        cause = error.__cause__
        if isinstance(cause, UsageError):
            raise cause from None
        raise UsageError(f"{name}: {error}") from None


def _check_names(kind: type[msgspec.Struct], fields: Mapping[str, Any], name: str) -> None:
    known = kind.__struct_fields__
    for field in fields:
        if field not in known:
            raise UsageError(no_such(f"field of {name}", str(field), known))
