"""Traces of real sessions over a real tokenizer, for training data: what is said is scripted, how
it is prompted, tokenised and recorded is not."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec
from support.agent_harness import CountingGame, SpyEngine, make_session, make_spec, play

from automem.agent.prompt_view import PromptView
from automem.agent.recorder import MemoryRecorder
from automem.agent.roles import AgentOptions
from automem.engine.protocol import Completion, Engine, GenerateRequest
from automem.engine.render import ChatRenderer, load_tokenizer
from automem.seeds import seeds_from
from automem.trace.events import Ended, Event, StopReason

Answer = Callable[[PromptView, GenerateRequest], str]


class TokenEngine(SpyEngine):
    """Says what a function says, in tokens, each of log-probability -0.5; closes its turns."""

    def __init__(self, answer: Answer, base: str, closes: bool = True) -> None:
        super().__init__(answer)
        self._tokenizer = load_tokenizer(base)
        self._end = ChatRenderer(base).turn_end if closes else None

    async def generate(self, request: GenerateRequest) -> Completion:
        text = (await super().generate(request)).text
        ids = self._tokenizer.encode(text, add_special_tokens=False)
        ids += [] if self._end is None else [self._end]
        return Completion(text=text, token_ids=tuple(ids), logprobs=(-0.5,) * len(ids))


def diligent(view: PromptView, request: GenerateRequest) -> str:
    """Notes what it sees and says so too often; reads before it commits."""
    if view.wants_commit:
        return "I saw enough. <|ACTION|>go<|END|>"
    if view.routine == "log":
        if view.results:
            return "<|DONE|>"
        return f"A note:\n<|APPEND|>notes.txt|saw {view.observation}<|END|>\n<|DONE|>\nEnough said."
    if not view.results:
        return "<|READ|>notes.txt<|END|> and then I shall go"
    return "<|TAIL|>notes.txt|1<|END|>" if len(view.results) < 2 else "<|ACTION|>go<|END|>"


def play_trace(
    folder: Path,
    base: str,
    answer: Answer = diligent,
    *,
    steps: int = 3,
    engine: SpyEngine | None = None,
    options: AgentOptions | None = None,
) -> list[Event]:
    """Events of a finished episode of the counting game, on a seed of the `train` range.

    An engine that is no `TokenEngine` is a chat engine: no tokens are recorded."""
    engine = engine or TokenEngine(answer, base)
    renderer = ChatRenderer(base) if isinstance(engine, TokenEngine) else None
    return asyncio.run(play_with(engine, renderer, folder, steps=steps, options=options))


async def play_with(
    engine: Engine,
    renderer: ChatRenderer | None,
    folder: Path,
    *,
    steps: int = 3,
    options: AgentOptions | None = None,
    adapter: str | None = None,
) -> list[Event]:
    """As `play_trace`, by any engine."""
    recorder = MemoryRecorder()
    recorder.append(msgspec.structs.replace(make_spec(), seed=seeds_from("train", 1)[0]))
    session, recorder, _ = make_session(
        folder, engine, recorder=recorder, renderer=renderer, options=options, adapter=adapter
    )
    await play(session, CountingGame(steps))
    recorder.append(Ended(StopReason.SOLVED, 1.0, steps))
    return recorder.events
