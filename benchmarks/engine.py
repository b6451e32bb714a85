"""The transformers engine beside a plain batched `generate`, in one process, on a tiny model.

    python benchmarks/engine.py [--threads 2] [--batch 64] [--rounds 5]

Prints generated tokens a second of both and their ratio (the promise: at least 0.80), and requests
a second on the workload of memory episodes: prompts of 100 to 150 tokens, 8 to 12 new ones, part of
each prompt shared. Rounds alternate, so that a busy machine disturbs both sides alike.
"""

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from automem.engine.decode import Decoder, run_all
from automem.engine.protocol import GenerateRequest, Sampling
from automem.engine.slot_model import SlotModel

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
FIRST_WORD, WORDS = 3, 600


def requests(
    count: int, prompt: range, new: range, shared: int, seed: int
) -> list[GenerateRequest]:
    """Random prompts of `prompt` tokens, the first `shared` of them alike, `new` tokens wanted."""
    draw = random.Random(seed)
    head = tuple(random.Random(0).randrange(FIRST_WORD, WORDS) for _ in range(shared))
    return [
        GenerateRequest(
            id=f"{seed}/{number}",
            messages=(),
            prompt_ids=head
            + tuple(draw.randrange(FIRST_WORD, WORDS) for _ in range(draw.choice(prompt) - shared)),
            sampling=Sampling(max_tokens=draw.choice(new)),
            seed=draw.getrandbits(60),
            deadline_s=600.0,
        )
        for number in range(count)
    ]


def decoder_of(folder: str, batch: int, pool_tokens: int, batch_invariant: bool) -> Decoder:
    """A fresh engine core that never ends a completion early."""
    model = SlotModel(
        folder,
        device=torch.device("cpu"),
        dtype=torch.float32,
        batch=batch,
        context_tokens=512,
        block_tokens=16,
        pool_tokens=pool_tokens,
    )
    decoder = Decoder(model, batch, batch_invariant, prefill_tokens=2048)
    decoder.endings.end_ids = frozenset()
    return decoder


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU time of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def beside_generate(folder: str, batch: int, new: int, rounds: int) -> None:
    """Equal prompts, equal lengths, sampling at temperature 1, no prefix reuse."""
    reference = AutoModelForCausalLM.from_pretrained(folder).eval()
    decoder = decoder_of(folder, batch, pool_tokens=0, batch_invariant=False)

    def library(number: int) -> None:
        prompts = torch.tensor([r.prompt_ids for r in work(number)])
        with torch.inference_mode():
            out = reference.generate(
                prompts,
                attention_mask=torch.ones_like(prompts),
                max_new_tokens=new,
                do_sample=True,
                top_k=0,
                eos_token_id=None,
                pad_token_id=0,
            )
        assert out.shape[1] == prompts.shape[1] + new

    def ours(number: int) -> None:
        completions = run_all(decoder, work(number))
        assert all(c.completion_tokens == new for c in completions)

    def work(number: int) -> list[GenerateRequest]:
        return requests(batch, range(128, 129), range(new, new + 1), 0, number)

    library(0), ours(0)
    pairs = [
        (seconds(lambda: library(n)), seconds(lambda: ours(n)))  # noqa: B023
        for n in range(1, rounds + 1)
    ]
    theirs, mine = (
        batch * new / statistics.median(wall for wall, _ in column)
        for column in zip(*pairs, strict=True)
    )
    by_wall, by_cpu = (statistics.median(a[i] / b[i] for a, b in pairs) for i in (0, 1))
    print(
        f"batch {batch}, prompt 128, new {new:>3}: generate {theirs:6.0f} tokens/s, "
        f"ours {mine:6.0f} tokens/s, ratio {by_wall:.2f} (at least 0.80; {by_cpu:.2f} by CPU time)"
    )


def episodes(folder: str, batch: int, batch_invariant: bool, rounds: int) -> None:
    """Requests as memory episodes make them."""
    for shared in (0, 64):
        decoder = decoder_of(folder, batch, 65536, batch_invariant)
        rates = []
        for number in range(rounds + 1):
            work = requests(4 * batch, range(100, 151), range(8, 13), shared, number)
            elapsed, _ = seconds(lambda: run_all(decoder, work))  # noqa: B023
            new = sum(r.sampling.max_tokens for r in work)
            every = new + sum(len(r.prompt_ids or ()) for r in work)
            rates.append((len(work) / elapsed, new / elapsed, every / elapsed))
        calls, new_rate, every_rate = (
            statistics.median(column) for column in zip(*rates[1:], strict=True)
        )
        print(
            f"episodes, {shared:>2} prompt tokens shared"
            f"{', batch-invariant' if batch_invariant else '':17}: {calls:4.0f} requests/s, "
            f"{new_rate:5.0f} new and {every_rate:6.0f} tokens/s in all"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    import tiny_model

    with tempfile.TemporaryDirectory() as folder:
        tiny_model.build_model(Path(folder))
        print(f"Qwen2, 0.6 M parameters, float32, {options.threads} threads")
        for new in (10, 64):
            beside_generate(folder, options.batch, new, options.rounds)
        for batch_invariant in (False, True):
            episodes(folder, options.batch, batch_invariant, options.rounds)


if __name__ == "__main__":
    main()
