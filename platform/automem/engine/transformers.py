"""A transformers model in this process: continuous batching in a thread, an asyncio front.

The thread owns model, slots and adapters and is the only one to touch them; callers talk to it
through a queue. If it dies, everything that waits gets an EngineError at once, and so does every
later call, and `health` asks for a new process; a model that cannot be loaded is a UsageError.
Adapters are PEFT LoRA folders. Runs on CPU, and on CUDA by the same code; one device.

Not covered: more than one device, quantised weights, speculative decoding. Logits are computed for
all slots every step, so a large vocabulary on a CPU is slow.
"""

import asyncio
import os
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

import torch

from automem.engine.decode import Decoder, Job
from automem.engine.health import Health
from automem.engine.invariance import check_invariance
from automem.engine.protocol import Capabilities, Completion, GenerateRequest
from automem.engine.slot_model import SlotModel
from automem.engine.streaming import Piece
from automem.errors import AutoMemError, EngineError, EngineRequestError, UsageError

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class _Work(Protocol):
    """Something the thread is asked to do; `fail` is called instead where it cannot."""

    def run(self, decoder: Decoder, model: SlotModel) -> None: ...

    def fail(self, error: AutoMemError) -> None: ...


class _Answer:
    """A future of the caller's loop that any thread may settle."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self._loop.create_future()

    def settle(self, value: Any) -> None:
        """Give the future its result, or the exception that `value` is."""
        try:
            self._loop.call_soon_threadsafe(self._set, value)
        except RuntimeError:  # the caller's loop is closed: nobody waits any more
            return

    def _set(self, value: Any) -> None:
        if self.future.done():
            return
        if isinstance(value, BaseException):
            self.future.set_exception(value)
        else:
            self.future.set_result(value)


class _Generate:
    def __init__(
        self, request: GenerateRequest, on_token: Callable[[int], None] | None = None
    ) -> None:
        self.answer = _Answer()
        self._request = request
        self._on_token = on_token
        self._expires = time.monotonic() + request.deadline_s
        self._job: Job | None = None
        self._is_cancelled = False

    def run(self, decoder: Decoder, model: SlotModel) -> None:
        if not self._is_cancelled:
            self._job = decoder.admit(self._request, self._expires, self.answer.settle)
            self._job.on_token = self._on_token
            self._job.is_cancelled = self._is_cancelled  # it may have come meanwhile

    def cancel(self) -> None:
        """Seen by the thread before its next pass."""
        self._is_cancelled = True
        if self._job is not None:
            self._job.is_cancelled = True

    def fail(self, error: AutoMemError) -> None:
        self.answer.settle(error)


class _Call:
    """Anything else that runs between two passes."""

    def __init__(self, function: Callable[[Decoder, SlotModel], Any]) -> None:
        self.answer = _Answer()
        self._function = function

    def run(self, decoder: Decoder, model: SlotModel) -> None:
        self.answer.settle(self._function(decoder, model))

    def fail(self, error: AutoMemError) -> None:
        self.answer.settle(error)


class TransformersEngine:
    """The engine protocol over a causal language model of transformers."""

    def __init__(
        self,
        model: str,
        *,
        device: str = "auto",
        dtype: str = "auto",
        max_batch: int = 64,
        context_tokens: int = 0,
        batch_invariant: bool = False,
        block_tokens: int = 16,
        prefix_cache_tokens: int = 65536,
        prefill_tokens: int = 2048,
        threads: int | None = None,
    ) -> None:
        """Loading starts at once, in the engine's thread; `capabilities` waits for it.

        `model`: a folder, a hub name, or a name of `automem.engine.models`. `device`: `auto`
        (CUDA where there is one), `cpu`, `cuda`, `cuda:1`. `dtype`: `auto` (float32 on CPU and in
        the batch-invariant mode, bfloat16 on CUDA), `float32`, `bfloat16`, `float16`.
        `context_tokens`: 0 is the model's own limit; memory grows with `max_batch` times this.
        `block_tokens`: prompts are filled and kept in units of this: 16 for short prompts, 128 and
        more for thousands of tokens. `prefix_cache_tokens`: prompt tokens kept for calls that
        start alike; 0 turns it off. `prefill_tokens`: prompt tokens per pass at most. `threads`:
        of torch, for this engine; None is half the cores: on a core that it has to share, a
        second thread costs more (up to 20 times, as measured) than it ever gives.
        """
        if dtype not in ("auto", *_DTYPES):
            raise UsageError(f"engine dtype {dtype!r}: expected auto, {', '.join(_DTYPES)}")
        if batch_invariant and dtype not in ("auto", "float32"):
            raise UsageError(f"the batch-invariant mode computes in float32, not {dtype}")
        if max_batch < 1 or block_tokens < 1:
            raise UsageError("max_batch and block_tokens must be at least 1")
        self._name = model
        self._device = torch.device(_device(device))
        half = "bfloat16" if self._device.type == "cuda" and not batch_invariant else "float32"
        self._dtype = _DTYPES[half if dtype == "auto" else dtype]
        self._max_batch = max_batch
        self._context_tokens = context_tokens
        self._batch_invariant = batch_invariant
        self._block_tokens = block_tokens
        self._prefix_cache_tokens = prefix_cache_tokens
        self._prefill_tokens = prefill_tokens
        self._threads = threads or max(1, _cores() // 2)
        self._inbox: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._death: AutoMemError | None = None
        self._is_lost = False
        """The thread died of what another process may be spared."""
        self._decoder: Decoder | None = None
        self._thread = threading.Thread(target=self._live, name=f"engine {model}", daemon=True)
        self._thread.start()

    async def capabilities(self) -> Capabilities:
        """Everything; returns once the model is loaded."""

        def describe(decoder: Decoder, model: SlotModel) -> Capabilities:
            return Capabilities(
                model=self._name,
                token_ids=True,
                logprobs=True,
                scoring=True,
                adapters=True,
                batch_invariant=self._batch_invariant,
                tokenizer=self._name,
                context_tokens=model.context_tokens,
            )

        answer: Capabilities = await self._call(describe)
        return answer

    async def health(self) -> Health:
        """From beside the thread, which may be in the middle of a pass."""
        if self._death is not None:
            return Health(problem=str(self._death), needs_new_process=self._is_lost)
        if self._decoder is None:
            return Health(
                problem=f"the model {self._name!r} is being loaded", waiting=self._inbox.qsize()
            )
        waiting, running = self._decoder.load
        return Health(waiting=waiting + self._inbox.qsize(), running=running)

    async def generate(self, request: GenerateRequest) -> Completion:
        """One completion of `prompt_ids`; `max_tokens` is cut to the room in the context."""
        work = _Generate(request)
        self._submit(work)
        try:
            completion: Completion = await work.answer.future
        except asyncio.CancelledError:
            work.cancel()
            raise
        return completion

    async def stream(self, request: GenerateRequest) -> AsyncIterator[Piece]:
        """`generate`, telling tokens as they are sampled."""
        loop = asyncio.get_running_loop()
        tokens: asyncio.Queue[int | None] = asyncio.Queue()

        def tell(token: int) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody listens any more
                loop.call_soon_threadsafe(tokens.put_nowait, token)

        work = _Generate(request, tell)
        work.answer.future.add_done_callback(lambda _: tokens.put_nowait(None))
        self._submit(work)
        try:
            while (token := await tokens.get()) is not None:
                yield (token,)
            yield work.answer.future.result()
        finally:
            if not work.answer.future.done():
                work.answer.future.cancel()
                work.cancel()

    async def score(self, token_ids: Sequence[int], adapter: str | None = None) -> list[float]:
        """Log-probabilities at temperature 1, float32."""
        tokens = tuple(token_ids)
        answer: list[float] = await self._call(lambda decoder, _: decoder.score(tokens, adapter))
        return answer

    async def load_adapter(self, name: str, path: str) -> None:
        """Read a PEFT LoRA folder between two passes; running calls do not notice."""
        await self._call(lambda _, model: model.adapters.load(name, path))

    async def close(self) -> None:
        """Finish what runs, then free everything."""
        self._inbox.put(None)
        await asyncio.to_thread(self._thread.join)

    async def _call(self, function: Callable[[Decoder, SlotModel], Any]) -> Any:
        work = _Call(function)
        self._submit(work)
        return await work.answer.future

    def _submit(self, work: _Work) -> None:
        with self._lock:  # either the thread will see it, or its death is known
            if self._death is not None:
                raise type(self._death)(*self._death.args) from self._death
            self._inbox.put(work)

    # In the thread

    def _live(self) -> None:
        death: AutoMemError = EngineError(f"the engine of {self._name!r} is closed")
        try:
            torch.set_num_threads(self._threads)
            model, self._decoder = self._load()
            self._serve(self._decoder, model)
        except UsageError as error:
            death = error
        except Exception as error:  # noqa: BLE001  whatever it is, those who wait must hear of it
            death = EngineError(f"the engine of {self._name!r} died: {error!r}")
            death.__cause__ = error
            self._is_lost = True
        finally:
            self._die(death)

    def _load(self) -> tuple[SlotModel, Decoder]:
        model = SlotModel(
            self._name,
            device=self._device,
            dtype=self._dtype,
            batch=self._max_batch,
            context_tokens=self._context_tokens,
            block_tokens=self._block_tokens,
            pool_tokens=self._prefix_cache_tokens,
        )
        decoder = Decoder(model, self._max_batch, self._batch_invariant, self._prefill_tokens)
        if self._batch_invariant:
            check_invariance(decoder, model, self._max_batch)
        return model, decoder

    def _serve(self, decoder: Decoder, model: SlotModel) -> None:
        is_open = True
        while is_open or not decoder.is_idle:
            while is_open and (decoder.is_idle or not self._inbox.empty()):
                work = self._inbox.get()
                if work is None:
                    is_open = False
                    break
                try:
                    work.run(decoder, model)
                except EngineRequestError as error:
                    work.fail(error)
            if not decoder.is_idle:
                decoder.tick()

    def _die(self, death: AutoMemError) -> None:
        with self._lock:
            self._death = death
        for job in self._decoder.jobs() if self._decoder else ():
            job.deliver(death)
        while not self._inbox.empty():
            work = self._inbox.get()
            if work is not None:
                work.fail(death)


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"engine device {name!r}: torch sees no CUDA device; use device=cpu")
    return name
