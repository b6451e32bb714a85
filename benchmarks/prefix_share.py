"""How much of every prompt an engine finds in its cache: static part first, against as published.

    python benchmarks/prefix_share.py [--episodes 8] [--steps 30] [--engine transformers|vllm]

The same episodes of Crafter (scripted player, scaffold v0) are played once; their prompts are then
asked twice of the untrained byte-level model, one token each, step by step as they came: as our
scaffolds order them (what never changes in a system message, the present after it), and with the
same words in the order in which the paper's prompts name them (LOG: action, observation, files,
then the rest; PLAN: instruction, observation, files, then the rest). Prints, per routine, the share
of prompt tokens that came from the cache and the prompt tokens computed per step. A token is a byte
here: shares carry over to other tokenizers, counts do not.
"""

import argparse
import asyncio
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from automem.commands.plan import spec_from
from automem.config import compose
from automem.engine.build import build_engine
from automem.engine.protocol import Completion, Engine, GenerateRequest, Message, Sampling
from automem.engine.render import ChatRenderer
from automem.engine.scripted import ScriptedEngine
from automem.rollout.run import run_rollout

CONTEXT = 8192
ENGINES: dict[str, dict[str, Any]] = {
    "transformers": {
        "_target_": "automem.engine.transformers.TransformersEngine",
        "model": "random",
        "max_batch": 8,
        "block_tokens": 32,
        "prefix_cache_tokens": 262144,
    },
    "vllm": {
        "_target_": "automem.engine.vllm.VllmEngine",
        "model": "random",
        "max_batch": 8,
        "block_tokens": 32,
        "cache_gb": 0.5,
        "max_lora_rank": 0,
    },
}


class RecordingEngine(ScriptedEngine):
    """A scripted player whose requests are kept."""

    requests: ClassVar[list[GenerateRequest]] = []

    async def generate(self, request: GenerateRequest) -> Completion:
        """As a scripted engine's."""
        self.requests.append(request)
        return await super().generate(request)


def recorded(episodes: int, steps: int) -> list[GenerateRequest]:
    """Every call of the episodes, in the order in which they were made."""
    config = compose(
        overrides=[
            "env=crafter",
            "engine=scripted",
            "scaffold=v0",
            "rollout.workers=0",
            "rollout.seeds=train",
            f"rollout.episodes={episodes}",
            f"rollout.max_steps={steps}",
        ]
    )
    spec = spec_from(config)
    [(name, engine)] = spec.engines.items()
    target = {**engine.target, "_target_": f"{RecordingEngine.__module__}.RecordingEngine"}
    spec = msgspec.structs.replace(
        spec, engines={name: msgspec.structs.replace(engine, target=target)}
    )
    with tempfile.TemporaryDirectory() as folder:
        run_rollout(spec, Path(folder) / "run")
    return RecordingEngine.requests


def as_published(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The same words: what the paper names first comes first, in one user message."""
    system, opening, *later = messages
    before, mark, rest = system.content.partition("# your files")
    if opening.content.startswith("# plan"):
        text = "\n".join((before, opening.content, mark + rest))
    else:
        text = "\n".join((opening.content, system.content))
    return (Message("user", text), *later)


async def ask(
    engine: Engine, requests: Sequence[GenerateRequest], published: bool, salt: str
) -> Counter[str]:
    """Prompt and cached tokens by routine; every call waits for the one before it."""
    renderer = ChatRenderer("random")
    found: Counter[str] = Counter()
    for request in requests:
        messages = as_published(request.messages) if published else request.messages
        ids = tuple(renderer.start(messages))[: CONTEXT - 1]
        answer = await engine.generate(
            GenerateRequest(
                id=f"{salt}/{request.id}",
                messages=(),
                prompt_ids=ids,
                sampling=Sampling(max_tokens=1),
                cache_salt=salt,
                deadline_s=600.0,
            )
        )
        routine = "PLAN" if any("# plan" in m.content[:7] for m in request.messages) else "LOG"
        found[f"{routine} prompt"] += answer.prompt_tokens
        found[f"{routine} cached"] += answer.cached_tokens
        found[f"{routine} calls"] += 1
    return found


async def measure(name: str, requests: Sequence[GenerateRequest], steps: int) -> None:
    """Both orders on one engine, under different salts."""
    engine = build_engine(ENGINES[name])
    await engine.capabilities()
    print(f"{name}: {len(requests)} calls, {steps} steps, blocks of 32 tokens (bytes)")
    for order in ("static first", "as published"):
        found = await ask(engine, requests, order == "as published", order)
        shares = []
        for routine in ("LOG", "PLAN"):
            share = found[f"{routine} cached"] / max(1, found[f"{routine} prompt"])
            shares.append(f"{routine} {100 * share:.0f} %")
        computed = sum(found[f"{r} prompt"] - found[f"{r} cached"] for r in ("LOG", "PLAN"))
        prompt = found["LOG prompt"] + found["PLAN prompt"]
        share = 100 * (1 - computed / prompt)
        print(
            f"  {order:>12}: from cache {share:.0f} % ({', '.join(shares)}); "
            f"{computed / steps:.0f} of {prompt / steps:.0f} prompt tokens computed per step"
        )
    await engine.close()


def main() -> None:
    """Play, then ask twice."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=8)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--engine", choices=[*ENGINES], default="transformers")
    options = parser.parse_args()
    requests = recorded(options.episodes, options.steps)
    asyncio.run(measure(options.engine, requests, options.episodes * options.steps))


if __name__ == "__main__":
    main()
