"""Continuous batching: which prompts are filled and which slots step, one forward pass at a time.

Promise: calls share passes but nothing else. In the batch-invariant mode every pass has one fixed
shape per kind and what a row reads is bounded by its own length, so a call's tokens and
log-probabilities are the same bits whatever else runs; without it they may differ in the last bits.

The decoder is plain synchronous code for one thread; `transformers.py` gives it that thread.
"""

import functools
import heapq
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from automem.engine.prefix import PrefixIndex, block_keys
from automem.engine.protocol import Completion, GenerateRequest
from automem.engine.sampler import sample, uniforms
from automem.engine.slot_model import FillRow, SlotModel
from automem.engine.stops import Endings, StopWatch
from automem.errors import AutoMemError, EngineError, EngineRequestError

_INVARIANT_FILL_ROWS = 16
"""Blocks per filling pass in the batch-invariant mode: large enough for full speed on a CPU."""
_SMALLEST_READ = 128
"""Reads are bounded by this times a power of two in the batch-invariant mode."""
_HOTTEST = 1e30
"""Temperatures above it are taken for it: as even as the next, and a number in float32."""

Deliver = Callable[[Completion | AutoMemError], None]


@dataclass(slots=True, eq=False)
class Job:
    """A call on its way through the decoder."""

    request: GenerateRequest
    prompt: tuple[int, ...]
    max_tokens: int
    expires: float
    """On the clock of `time.monotonic`."""
    deliver: Deliver
    watch: StopWatch | None
    slot: int = -1
    unfilled: int = 0
    """Blocks of the prompt that are still to be filled."""
    cached_tokens: int = 0
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    is_cancelled: bool = False
    on_token: Callable[[int], None] | None = None
    """Told of each token as it is sampled, end tokens left out."""

    @property
    def position(self) -> int:
        """Where the newest token goes: the last of the prompt, or the last generated."""
        return len(self.prompt) - 1 + len(self.tokens)


class Decoder:
    """Runs jobs over a model's slots."""

    def __init__(
        self, model: SlotModel, batch: int, batch_invariant: bool, prefill_tokens: int
    ) -> None:
        """`prefill_tokens`: prompt tokens per filling pass at most (batch-invariant: fixed)."""
        self._model = model
        self._batch = batch
        self._batch_invariant = batch_invariant
        block = model.cache.shape.block
        self._fill_rows = (
            _INVARIANT_FILL_ROWS if batch_invariant else max(1, prefill_tokens // block)
        )
        self.endings = Endings(model.tokenizer, model.end_ids)
        self._prefixes = PrefixIndex(model.cache.shape.pool)
        self._waiting: deque[Job] = deque()
        self._unfilled: deque[tuple[Job, FillRow]] = deque()
        self._running: dict[int, Job] = {}
        self._free = list(range(batch))
        idle = model.context_tokens  # the block beyond the context takes idle rows' writes
        self._idle = idle
        device = model.device
        self._tokens = torch.zeros(batch, dtype=torch.int64, device=device)
        self._positions = torch.full((batch,), idle, dtype=torch.int64, device=device)
        self._moving = torch.zeros(batch, dtype=torch.int64, device=device)
        self._temperature = torch.ones(batch, 1, device=device)
        self._top_p = torch.ones(batch, 1, device=device)
        self._greedy = torch.zeros(batch, dtype=torch.bool, device=device)
        self._seeds = np.zeros(batch, dtype=np.uint64)
        self._counts = np.zeros(batch, dtype=np.uint64)
        self._adapters: list[tuple[str, torch.Tensor | None]] = []
        self._rows = 0
        self._has_changed = True

    def admit(self, request: GenerateRequest, expires: float, deliver: Deliver) -> Job:
        """Queue a call; EngineRequestError where it can never be answered."""
        prompt = self._checked_prompt(request)
        room = self._model.context_tokens - len(prompt)
        if room < 1:
            raise EngineRequestError(
                f"the prompt has {len(prompt)} tokens and leaves no room in a context of "
                f"{self._model.context_tokens}: shorten it, or raise engine.context_tokens"
            )
        job = Job(
            request=request,
            prompt=prompt,
            max_tokens=min(request.sampling.max_tokens, room),
            expires=expires,
            deliver=deliver,
            watch=self.endings.watch(request.sampling.stop),
        )
        self._waiting.append(job)
        return job

    def jobs(self) -> list[Job]:
        """Every call that is waiting or running."""
        filling = {id(job): job for job, _ in self._unfilled}
        return [*self._waiting, *filling.values(), *self._running.values()]

    @property
    def load(self) -> tuple[int, int]:
        """Calls that wait for a slot, and calls that have one; any thread may ask."""
        return len(self._waiting), self._batch - len(self._free)

    @property
    def is_idle(self) -> bool:
        """Whether `tick` has nothing to do."""
        return not (self._waiting or self._unfilled or self._running)

    @torch.inference_mode()
    def tick(self) -> None:
        """Drop what is over, take in what fits, and run one filling pass or one step."""
        self._drop_over()
        self._take_in()
        if self._unfilled:
            self._fill()
        if self._running and not self._unfilled:
            self._step()

    @torch.inference_mode()
    def score(self, tokens: Sequence[int], adapter: str | None) -> list[float]:
        """Log-probability (temperature 1) of each token given those before it; the first is 0.0."""
        self._check_tokens(tokens, adapter)
        if len(tokens) > self._model.context_tokens:
            raise EngineRequestError(
                f"{len(tokens)} tokens do not fit a context of {self._model.context_tokens}"
            )
        scores = [0.0]
        rows = self._blocks_of(tuple(tokens), self._model.side_slot, adapter)
        for start in range(0, len(rows), self._fill_rows):
            part = rows[start : start + self._fill_rows]
            padded = self._padded(part)
            logits = self._model.score(padded)[len(padded) - len(part) :].flatten(0, 1)
            first = start * self._model.cache.shape.block + 1
            following = torch.tensor(tokens[first : first + len(logits)], device=logits.device)
            table = torch.log_softmax(logits[: len(following)].float(), dim=-1)
            scores += table.gather(1, following[:, None])[:, 0].tolist()
        return scores[: len(tokens)]

    # Taking in

    def _checked_prompt(self, request: GenerateRequest) -> tuple[int, ...]:
        prompt = request.prompt_ids
        if not prompt:
            raise EngineRequestError(
                "this engine takes tokens: the request has no prompt_ids (render them with "
                "automem.engine.render.ChatRenderer)"
            )
        self._check_tokens(prompt, request.adapter)
        request.sampling.check()
        return prompt

    def _check_tokens(self, tokens: Sequence[int], adapter: str | None) -> None:
        if not tokens or min(tokens) < 0 or max(tokens) >= self._model.vocabulary:
            raise EngineRequestError(
                f"token ids must lie in 0..{self._model.vocabulary - 1} and there must be one"
            )
        if adapter is not None and adapter not in self._model.adapters:
            raise EngineRequestError(f"adapter {adapter!r} is not loaded: call load_adapter first")

    def _drop_over(self) -> None:
        now = time.monotonic()
        over = [job for job in self.jobs() if job.is_cancelled or job.expires <= now]
        for job in over:
            self._release(job)
            if not job.is_cancelled:
                job.deliver(
                    EngineError(
                        f"no completion within the deadline of {job.request.deadline_s:g} s "
                        f"({len(job.tokens)} tokens generated)"
                    )
                )

    def _release(self, job: Job) -> None:
        if job.slot < 0:
            self._waiting.remove(job)
            return
        if self._running.pop(job.slot, None) is None:
            self._unfilled = deque(item for item in self._unfilled if item[0] is not job)
        self._positions[job.slot] = self._idle
        self._moving[job.slot] = 0
        heapq.heappush(self._free, job.slot)
        self._has_changed = True

    def _take_in(self) -> None:
        recalled: list[tuple[int, int, int]] = []
        while self._waiting and self._free:
            job = self._waiting.popleft()
            job.slot = heapq.heappop(self._free)
            request, block = job.request, self._model.cache.shape.block
            # The last token is left for the first step, which needs its logits.
            filled = job.prompt[:-1]
            keys = block_keys(filled, block, request.adapter, request.cache_salt)
            places = self._prefixes.find(keys)
            recalled += [(job.slot, number, place) for number, place in enumerate(places)]
            job.cached_tokens = len(places) * block
            rows = self._blocks_of(filled, job.slot, request.adapter, keys)[len(places) :]
            job.unfilled = len(rows)
            self._unfilled.extend((job, row) for row in rows)
            if not rows:
                self._start(job)
        if recalled:
            slots, blocks, places = (list(column) for column in zip(*recalled, strict=True))
            self._model.cache.recall(slots, blocks, places)

    def _blocks_of(
        self, tokens: tuple[int, ...], slot: int, adapter: str | None, keys: Sequence[bytes] = ()
    ) -> list[FillRow]:
        size = self._model.cache.shape.block
        return [
            FillRow(
                slot=slot,
                block=number,
                tokens=tokens[number * size : (number + 1) * size],
                adapter=adapter,
                key=keys[number] if number < len(keys) else None,
            )
            for number in range(-(-len(tokens) // size))
        ]

    # Filling

    def _padded(self, rows: list[FillRow]) -> list[FillRow]:
        """`rows`, after as many padding rows as the batch-invariant mode's fixed shape needs."""
        if not self._batch_invariant:
            return rows
        padding = FillRow(self._model.pad_slot, 0, (0,), None, None)
        return [padding] * (self._fill_rows - len(rows)) + rows

    def _fill(self) -> None:
        count = min(self._fill_rows, len(self._unfilled))
        items = [self._unfilled.popleft() for _ in range(count)]
        rows = self._padded(sorted((row for _, row in items), key=lambda row: row.block))
        stored: dict[int, int] = {}
        for number, row in enumerate(rows):
            place = None if row.key is None else self._prefixes.reserve(row.key)
            if place is not None:
                stored[place] = number
        self._model.fill(rows, stored)
        for job, _ in items:
            job.unfilled -= 1
            if job.unfilled == 0:
                self._start(job)

    def _start(self, job: Job) -> None:
        sampling, slot = job.request.sampling, job.slot
        self._running[slot] = job
        self._tokens[slot] = job.prompt[-1]
        self._positions[slot] = job.position
        self._moving[slot] = 1
        self._temperature[slot] = 1.0 if sampling.is_greedy else min(sampling.temperature, _HOTTEST)
        self._top_p[slot] = min(sampling.top_p, 1.0)
        self._greedy[slot] = sampling.is_greedy
        self._seeds[slot] = job.request.seed & (2**64 - 1)
        self._counts[slot] = 0
        self._has_changed = True

    # Stepping

    def _step(self) -> None:
        if self._has_changed:
            self._settle_rows()
        rows = self._rows
        positions = self._positions[:rows]
        logits = self._model.step(
            self._tokens[:rows], positions, self._read_lengths(), self._adapters
        )
        draws = torch.from_numpy(uniforms(self._seeds[:rows], self._counts[:rows]))
        tokens, logprobs = sample(
            logits,
            draws.to(self._model.device),
            self._temperature[:rows],
            self._top_p[:rows] if self._cuts_top_p else None,
            self._greedy[:rows] if self._has_greedy else None,
        )
        self._tokens[:rows] = tokens
        positions += self._moving[:rows]
        self._counts[:rows] += np.uint64(1)
        self._take_tokens(tokens.tolist(), logprobs.tolist())

    def _settle_rows(self) -> None:
        """What depends on who is running: computed when that changes, not at every step."""
        jobs = self._running
        if self._batch_invariant:
            self._rows = self._batch
        else:
            self._close_gaps()
            self._rows = max(jobs) + 1
        names = [jobs[s].request.adapter if s in jobs else None for s in range(self._rows)]
        self._adapters = self._model.adapter_rows(names)
        self._cuts_top_p = any(job.request.sampling.top_p < 1 for job in jobs.values())
        self._has_greedy = any(job.request.sampling.is_greedy for job in jobs.values())
        self._has_changed = False

    def _close_gaps(self) -> None:
        """Move the highest slots down where idle rows are a third of a pass or more."""
        jobs = self._running
        while max(jobs) + 1 > len(jobs) * 1.5 + 2:
            source, target = max(jobs), heapq.heappop(self._free)
            job = jobs.pop(source)
            self._model.cache.move(source, target, job.position)
            job.slot = target
            self._start(job)
            self._tokens[target] = self._tokens[source]
            self._counts[target] = self._counts[source]
            self._positions[source] = self._idle
            self._moving[source] = 0
            heapq.heappush(self._free, source)

    def _read_lengths(self) -> list[int]:
        """How many positions rows read, ascending."""
        if not self._batch_invariant:
            block = self._model.cache.shape.block
            longest = max(job.position for job in self._running.values()) + 1
            return [-(-longest // block) * block]
        return sorted({self._bound(job.position + 1) for job in self._running.values()})

    def _bound(self, length: int) -> int:
        bound = _SMALLEST_READ
        while bound < length:
            bound *= 2
        return min(bound, self._model.context_tokens)

    def _take_tokens(self, tokens: list[int], logprobs: list[float]) -> None:
        ends = self.endings.end_ids
        finished: list[tuple[Job, str]] = []
        for slot, job in self._running.items():
            token = tokens[slot]
            job.tokens.append(token)
            job.logprobs.append(logprobs[slot])
            if job.on_token is not None and token not in ends:
                job.on_token(token)
            if token in ends or (job.watch is not None and job.watch.is_reached(job.tokens)):
                finished.append((job, "stop"))
            elif len(job.tokens) >= job.max_tokens:
                finished.append((job, "length"))
        for job, reason in finished:
            self._release(job)
            job.deliver(self._outcome(job, reason))

    def _outcome(self, job: Job, reason: str) -> Completion | EngineError:
        if math.isnan(sum(job.logprobs)):
            return EngineError(
                "the model's logits are no numbers (NaN): its weights, or those of the adapter "
                f"{job.request.adapter!r}, are broken"
            )
        return Completion(
            text=self.endings.text(job.tokens, job.watch),
            token_ids=tuple(job.tokens),
            logprobs=tuple(job.logprobs),
            finish_reason=reason,
            prompt_tokens=len(job.prompt),
            cached_tokens=job.cached_tokens,
            completion_tokens=len(job.tokens),
        )


def run_all(decoder: Decoder, requests: Iterable[GenerateRequest]) -> list[Completion]:
    """Answer `requests` here and now; for checks and benchmarks."""
    answers: dict[int, Completion | AutoMemError] = {}
    expected = 0
    for number, request in enumerate(requests):
        deliver = functools.partial(answers.__setitem__, number)
        decoder.admit(request, time.monotonic() + request.deadline_s, deliver)
        expected += 1
    while len(answers) < expected:
        decoder.tick()
    completions = []
    for number in range(expected):
        answer = answers[number]
        if isinstance(answer, AutoMemError):
            raise answer
        completions.append(answer)
    return completions
