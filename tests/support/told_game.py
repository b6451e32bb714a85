"""Small traces told step by step, by a real session over a real memory folder: what the world says,
what the memory role answers in LOG and PLAN, what the gameplay role commits."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from support.agent_harness import SpyEngine, make_scaffold, make_session, make_spec

from automem.agent.prompt_view import PromptView
from automem.agent.scaffold import Scaffold
from automem.engine.protocol import GenerateRequest
from automem.trace.events import Attempt, Ended, Event, Outcome, Routine, StopReason


@dataclass(frozen=True)
class Told:
    """One step. `progression` is what the world reports with this observation."""

    see: str
    log: tuple[str, ...] = ()
    plan: tuple[str, ...] = ()
    do: str = "wait"
    """The action, or the whole text of the committing turn where it holds a tag."""
    progression: float = 0.0


def append(line: str, file: str = "notes.txt") -> str:
    return f"<|APPEND|>{file}|{line}<|END|><|DONE|>"


def search(keyword: str, file: str = "notes.txt") -> str:
    return f"<|SEARCH|>{file}|{keyword}<|END|>"


async def play_told(
    folder: Path,
    steps: Sequence[Told],
    scaffold: Scaffold | None = None,
    *,
    seed: int = 1,
    replicate: int = 0,
    instruction: str = "Find pairs.",
) -> list[Event]:
    """The events of one finished episode; the last step's observation is the terminal one."""

    def answer(view: PromptView, request: GenerateRequest) -> str:
        step = steps[int(request.id.split("/")[1])]
        if view.wants_commit:
            return step.do if "<|" in step.do else f"<|ACTION|>{step.do}<|END|>"
        said = step.log if view.routine is Routine.LOG else step.plan
        nothing = "<|DONE|>" if view.routine is Routine.LOG else ""
        return said[view.turns] if view.turns < len(said) else nothing

    session, recorder, sandbox = make_session(
        folder / f"memory-{seed}-{replicate}", SpyEngine(answer), scaffold or make_scaffold()
    )
    started = msgspec.structs.replace(
        make_spec(instruction),
        episode=f"toy-{seed}-{replicate}", seed=seed, replicate=replicate, max_steps=len(steps) - 1,
    )  # fmt: skip
    recorder.append(Attempt(1, 0, 0, "host", 1, 0.0))
    recorder.append(started)
    try:
        await session.start()
        for number, step in enumerate(steps):
            is_last = number == len(steps) - 1
            outcome = Outcome(progression=step.progression, truncated=is_last)
            if is_last:
                await session.close(outcome, step.see)
            else:
                await session.step(step.see, outcome)
    finally:
        sandbox.close()
    recorder.append(Ended(StopReason.CAP, steps[-1].progression, len(steps) - 1))
    return recorder.events
