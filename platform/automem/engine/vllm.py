"""The engine protocol over vLLM, in this process: an asyncio front, the model in vLLM's own ones.

Promise: a completion carries the very tokens that were sampled and their log-probabilities under
the distribution that was sampled from; a call that is cancelled or late is aborted; `close` lets
what runs finish. Where vLLM's processes die, they are replaced, and each call they took along is
made once more: a call had told nobody anything, so no turn is lost or doubled. Where they die too
often, `health` asks for a new process. Adapters are read
when first called and leave memory when others need the room; the base is never changed.

Same seed, same draw: but in other company, logits differ in their last bits, and with them, now and
then, a token. Bitwise equality is vLLM's batch-invariant mode, on GPUs only.

Not covered: chat messages (prompts come as tokens), images, native tool calls.
"""

import asyncio
import functools
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from automem.engine.health import Health
from automem.engine.protocol import Capabilities, Completion, GenerateRequest
from automem.engine.streaming import Piece
from automem.engine.vllm_adapters import check_adapter, linear_shapes
from automem.engine.vllm_call import (
    check_request,
    completion_of,
    sampling_params,
    scores_of,
    scoring_params,
)
from automem.engine.vllm_core import Core, settings_from, start_core
from automem.errors import EngineError, EngineRequestError, UsageError

T = TypeVar("T")
_RESTARTS_S = 3600.0
"""`VllmSettings.restarts` are counted over the last hour."""


class _CoreDied(EngineError):
    """vLLM's processes ended under the call."""


@dataclass(frozen=True, slots=True)
class _Adapter:
    """A version that calls may name."""

    number: int
    """vLLM's own name for it; never used twice."""
    path: str


class VllmEngine:
    """See the module's docstring."""

    def __init__(self, model: str, **options: Any) -> None:
        """Loading starts at once, in a thread; `capabilities` waits for it. `model`: a folder, a
        hub name, or a name of `automem.engine.models`. `options`: fields of
        `automem.engine.vllm_core.VllmSettings`."""
        self._settings = settings_from(model, options)
        self._starter = ThreadPoolExecutor(1, thread_name_prefix=f"vllm {model}")
        self._core: Future[Core] = self._starter.submit(start_core, self._settings)
        self._restarts: list[float] = []
        """When, on the clock of `time.monotonic`."""
        self._adapters: dict[str, _Adapter] = {}
        self._numbers = 0
        self._shapes: dict[str, tuple[int, int]] = {}
        """Of the model's linear layers, once an adapter was asked for."""
        self._calls: set[asyncio.Future[Any]] = set()
        self._is_closed = False

    async def capabilities(self) -> Capabilities:
        """Returns once the model is loaded."""
        core = await self._ready()
        return Capabilities(
            model=self._settings.model,
            token_ids=True,
            logprobs=True,
            scoring=True,
            adapters=self._settings.max_lora_rank > 0,
            batch_invariant=self._settings.batch_invariant,
            guided=True,
            tokenizer=self._settings.model,
            context_tokens=core.context_tokens,
        )

    async def health(self) -> Health:
        """Replaces what died, as a call would. vLLM tells only what is under way; how much of that
        runs is reckoned from `max_batch`, and may be less where the cache is full."""
        starting = self._core
        under_way = len(self._calls)
        if self._is_closed:
            return Health(problem=self._closed())
        if not starting.done():
            return Health(problem="vLLM is starting", waiting=under_way)
        failure = starting.exception()
        if isinstance(failure, UsageError):
            return Health(problem=str(failure))
        core = None if failure else starting.result()
        if core is not None and not core.is_dead:
            running = min(under_way, self._settings.max_batch)
            return Health(waiting=under_way - running, running=running)
        try:
            self._replace(starting, core, failure or _died())
        except EngineError as error:
            return Health(problem=str(error), needs_new_process=True)
        return Health(problem=f"{failure or _died()}; it is started again", waiting=under_way)

    async def generate(self, request: GenerateRequest) -> Completion:
        """One completion of `prompt_ids`; `max_tokens` is cut to the room in the context."""
        try:
            async with self._counted(), asyncio.timeout(request.deadline_s):
                return await self._twice(functools.partial(self._generate, request))
        except TimeoutError:
            raise _late(request.deadline_s) from None

    async def stream(self, request: GenerateRequest) -> AsyncIterator[Piece]:
        """`generate`, telling tokens as they are sampled; where vLLM dies after the first piece,
        the call is not made again."""
        expires = time.monotonic() + request.deadline_s
        async with self._counted():
            for is_last in (False, True):
                given = 0
                core = await self._ready()
                outputs = self._outputs(core, request, *_asked(request, core, is_streamed=True))
                try:
                    async for output in _before(expires, outputs, request.deadline_s):
                        if output.finished:
                            yield completion_of(output, request, core.endings)
                            return
                        tokens = output.outputs[0].token_ids
                        yield tuple(tokens[given:])
                        given = len(tokens)
                except _CoreDied:
                    if given or is_last:
                        raise

    async def score(self, token_ids: Sequence[int], adapter: str | None = None) -> list[float]:
        """Log-probabilities at temperature 1."""
        async with self._counted():
            return await self._twice(functools.partial(self._score, tuple(token_ids), adapter))

    async def load_adapter(self, name: str, path: str) -> None:
        """Check a PEFT LoRA folder and read it; running calls do not notice."""
        known = self._adapters.get(name)
        if known is not None:
            if known.path != path:
                raise EngineRequestError(
                    f"adapter {name!r} is already loaded from {known.path}; adapter names are "
                    "never reused: give the new one a new name"
                )
            return
        await asyncio.to_thread(self._check_adapter, name, path)
        self._numbers += 1
        adapter = _Adapter(self._numbers, path)
        async with self._counted():
            await self._twice(functools.partial(self._load, name, adapter))
        self._adapters[name] = adapter

    async def close(self) -> None:
        """Take no more calls, finish those that run, then end vLLM's processes."""
        self._is_closed = True
        if self._calls:
            await asyncio.wait(self._calls)
        self._core.cancel()
        await asyncio.to_thread(self._starter.shutdown)
        if not self._core.cancelled() and self._core.exception() is None:
            await asyncio.to_thread(self._core.result().stop)

    @property
    def processes(self) -> tuple[int, ...]:
        """Ids of vLLM's own processes on this machine, once it runs."""
        return self._core.result().processes

    # Calls

    async def _generate(self, request: GenerateRequest, core: Core) -> Completion:
        outputs = self._outputs(core, request, *_asked(request, core))
        return completion_of(await _last(outputs), request, core.endings)

    async def _score(self, tokens: tuple[int, ...], adapter: str | None, core: Core) -> list[float]:
        request = GenerateRequest(id="score", messages=(), prompt_ids=tokens, adapter=adapter)
        check_request(request, core, is_scored=True)
        if len(tokens) == 1:
            return [0.0]
        # The last token is not fed but asked for, so that a full context can be scored too.
        outputs = self._outputs(core, request, tokens[:-1], scoring_params(tokens[-1]))
        return scores_of(await _last(outputs), tokens)

    async def _load(self, name: str, adapter: _Adapter, core: Core) -> None:
        try:
            await core.llm.add_lora(_lora_request(name, adapter))
        except Exception as error:
            if core.is_dead:
                raise _died() from error
            await core.llm.remove_lora(adapter.number)  # what it had of it already
            raise EngineRequestError(f"adapter {name!r} was not loaded: {error}") from error

    async def _outputs(
        self, core: Core, request: GenerateRequest, prompt: Sequence[int], params: Any
    ) -> AsyncGenerator[Any, None]:
        """vLLM's outputs for one prompt, the last one finished. Cancelling aborts it in vLLM."""
        from vllm.exceptions import VLLMClientError
        from vllm.inputs.engine import tokens_input
        from vllm.v1.engine.exceptions import EngineDeadError

        call = core.llm.generate(
            tokens_input(list(prompt), cache_salt=request.cache_salt or None),
            params,
            request.id,
            lora_request=self._lora_of(request.adapter),
        )
        try:
            async with aclosing(call):
                async for output in call:
                    if output.outputs[0].finish_reason in ("abort", "error"):
                        break
                    yield output
                    if output.finished:
                        return
        except EngineDeadError as error:
            raise _died() from error
        except (VLLMClientError, ValueError) as error:
            raise EngineRequestError(f"vLLM refuses the request: {error}") from error
        except Exception as error:
            if core.is_dead:
                raise _died() from error
            raise EngineError(f"vLLM gave no completion: {error}") from error
        raise _died() if core.is_dead else EngineError("vLLM broke the completion off")

    def _lora_of(self, name: str | None) -> Any:
        if name is None:
            return None
        adapter = self._adapters.get(name)
        if adapter is None:
            raise EngineRequestError(f"adapter {name!r} is not loaded: call load_adapter first")
        if not (Path(adapter.path) / "adapter_config.json").is_file():
            # vLLM may have to read it again, and would end where it cannot.
            raise EngineRequestError(f"the folder of adapter {name!r} is gone: {adapter.path}")
        return _lora_request(name, adapter)

    def _check_adapter(self, name: str, path: str) -> None:
        self._shapes = self._shapes or linear_shapes(self._settings.model)
        check_adapter(name, path, self._settings.max_lora_rank, self._shapes)

    # The life of vLLM's processes

    @asynccontextmanager
    async def _counted(self) -> AsyncIterator[None]:
        """Whatever runs inside is awaited by `close`."""
        if self._is_closed:
            raise EngineError(self._closed())
        done = asyncio.get_running_loop().create_future()
        self._calls.add(done)
        try:
            yield
        finally:
            self._calls.discard(done)
            done.set_result(None)

    def _closed(self) -> str:
        return f"the engine of {self._settings.model!r} is closed"

    async def _twice(self, call: Callable[[Core], Awaitable[T]]) -> T:
        """The call's answer; where vLLM dies under it, that of the same call to the next one."""
        try:
            return await call(await self._ready())
        except _CoreDied:
            return await call(await self._ready())

    async def _ready(self) -> Core:
        """The running vLLM; one that died is replaced first."""
        while True:
            starting = self._core
            try:
                core = await asyncio.shield(asyncio.wrap_future(starting))
            except UsageError:
                raise
            except EngineError as error:
                self._replace(starting, None, error)
                raise
            if not core.is_dead:
                return core
            self._replace(starting, core, _died())

    def _replace(self, failed: "Future[Core]", core: Core | None, error: BaseException) -> None:
        """Start another, once for all who found the same one dead."""
        if self._core is not failed or self._is_closed:
            return
        now = time.monotonic()
        self._restarts = [at for at in self._restarts if now - at < _RESTARTS_S]
        if len(self._restarts) >= self._settings.restarts:
            raise EngineError(
                f"{error}; it was restarted {self._settings.restarts} times already within an "
                "hour: see its log (VLLM_LOGGING_LEVEL=INFO), then raise engine.target.restarts"
            ) from error
        self._restarts.append(now)
        self._core = self._starter.submit(self._start_again, core)

    def _start_again(self, core: Core | None) -> Core:
        if core is not None:
            core.stop()  # what is left of it holds memory
        return start_core(self._settings)


def _asked(request: GenerateRequest, core: Core, is_streamed: bool = False) -> tuple[Any, Any]:
    """Prompt and sampling; EngineRequestError where vLLM can never answer."""
    max_tokens = check_request(request, core)
    params = sampling_params(request, max_tokens, core.endings.end_ids, is_streamed)
    return request.prompt_ids, params


async def _last(outputs: AsyncGenerator[Any, None]) -> Any:
    return [output async for output in outputs][-1]


async def _before(
    expires: float, outputs: AsyncGenerator[Any, None], deadline_s: float
) -> AsyncIterator[Any]:
    """`outputs`, as long as the deadline (on the clock of `time.monotonic`) is kept."""
    async with aclosing(outputs):
        while True:
            try:
                async with asyncio.timeout(expires - time.monotonic()):
                    output = await anext(outputs)
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise _late(deadline_s) from None
            yield output


def _late(deadline_s: float) -> EngineError:
    return EngineError(f"no completion within the deadline of {deadline_s:g} s")


def _died() -> _CoreDied:
    return _CoreDied("vLLM's processes died")


def _lora_request(name: str, adapter: _Adapter) -> Any:
    from vllm.lora.request import LoRARequest

    return LoRARequest(name, adapter.number, adapter.path)
