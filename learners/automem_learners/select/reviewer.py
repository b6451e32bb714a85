"""The reviewer selector: a strong model judges turns that a selector shortlisted.

It is shown what the agent was shown and said, and what came of it, and answers with a verdict and
a reason; an answer that is none is asked for once more and then counts as "no verdict". Its word is
final for shortlisted turns; the others are turned down as not shortlisted.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import msgspec

from automem.engine.protocol import Engine, GenerateRequest, Message, Sampling
from automem.errors import EngineError, UsageError
from automem.seeds import derive
from automem_learners.select.selector import Selector
from automem_learners.select.traces import Settings, Traces, Turn
from automem_learners.select.verdict import TurnKey, Verdict


class Case(msgspec.Struct, frozen=True):
    """One turn to be judged."""

    name: str
    """Episode, step and turn."""
    kind: str
    prompt: str
    """What the memory role was shown last."""
    completion: str
    outcome: str
    """What came of it, in words."""


class Opinion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A judge's answer, as JSON: `{"good": true, "reason": "..."}`."""

    good: bool
    reason: str


class Judge(Protocol):
    """Who gives opinions: a model, a person, a rule."""

    async def judge(self, cases: Sequence[Case]) -> list[Opinion | None]:
        """One opinion for each case, in order; None where there is none."""
        ...


INSTRUCTION = """\
You review how an agent keeps its memory. It plays a long game and sees only the present; what it
does not write into its files is lost. You are shown one turn of its memory role: what it was shown,
what it answered, and what came of it later. Would a better note-taker do well to learn this turn?
Judge the memory decision, not the game: was what matters written, once, where it will be found; was
what is needed looked up; was nothing done where nothing was to be done?
Answer with one JSON object and nothing else: {"good": true or false, "reason": "one sentence"}"""

_ASK_AGAIN = (
    'That is no verdict. Answer with {"good": true or false, "reason": "one sentence"} only.'
)
_OBJECT = re.compile(r"\{.*\}", re.DOTALL)


class EngineJudge:
    """A judge that is a model behind any engine that takes messages."""

    def __init__(
        self,
        engine: Engine,
        max_tokens: int = 300,
        temperature: float = 0.0,
        concurrency: int = 16,
        deadline_s: float = 120.0,
    ) -> None:
        self._engine = engine
        self._sampling = Sampling(temperature=temperature, max_tokens=max_tokens)
        self._concurrency = concurrency
        self._deadline_s = deadline_s

    async def judge(self, cases: Sequence[Case]) -> list[Opinion | None]:
        """See `Judge`; EngineError where the model cannot be reached at all."""
        if (await self._engine.capabilities()).token_ids:
            await self._engine.close()
            raise UsageError(
                "selector=reviewer asks a strong model in chat: engine=openai engine.base_url=... "
                "engine.model=... (this engine completes tokens)"
            )
        gate = asyncio.Semaphore(self._concurrency)

        async def one(case: Case) -> Opinion | EngineError | None:
            async with gate:
                try:
                    return await self._ask(case)
                except EngineError as error:
                    return error

        try:
            answers = await asyncio.gather(*(one(case) for case in cases))
        finally:
            await self._engine.close()
        errors = [answer for answer in answers if isinstance(answer, EngineError)]
        if errors and len(errors) == len(answers):
            raise errors[0]
        return [None if isinstance(answer, EngineError) else answer for answer in answers]

    async def _ask(self, case: Case) -> Opinion | None:
        messages = [Message("system", INSTRUCTION), Message("user", spell(case))]
        for attempt in range(2):
            completion = await self._engine.generate(
                GenerateRequest(
                    id=f"review/{case.name}/{attempt}",
                    messages=tuple(messages),
                    sampling=self._sampling,
                    seed=derive("review", case.name, attempt),
                    deadline_s=self._deadline_s,
                )
            )
            opinion = read_opinion(completion.text)
            if opinion is not None:
                return opinion
            messages += [Message("assistant", completion.text), Message("user", _ASK_AGAIN)]
        return None


def read_opinion(text: str) -> Opinion | None:
    """The opinion in an answer (a code fence or words around it do not matter), or None."""
    found = _OBJECT.search(text)
    try:
        return msgspec.json.decode(found[0], type=Opinion) if found else None
    except msgspec.DecodeError:
        return None


def spell(case: Case) -> str:
    """A case as the model reads it."""
    return (
        f"## what it was shown\n{case.prompt}\n\n## what it answered\n{case.completion}\n\n"
        f"## what came of it\n{case.outcome}"
    )


class ReviewerSelector:
    """See the module's docstring; implements `Selector`."""

    name = "reviewer"
    is_thinned = True

    def __init__(
        self, judge: Judge, shortlist: Selector, per_kind: int = 100, seed: int = 0
    ) -> None:
        """`judge` sees at most `per_kind` turns of each kind, of those that `shortlist` finds
        good."""
        if per_kind < 1:
            raise UsageError(f"selector.per_kind must be at least 1, got {per_kind}")
        self._judge = judge
        self._shortlist = shortlist
        self._per_kind = per_kind
        self._seed = seed
        self.settings: Settings = shortlist.settings
        self.notes: dict[str, str] = {}

    def judge(self, traces: Traces) -> Iterator[tuple[Turn, Verdict]]:
        """See `Selector`."""
        listed = [(turn, v) for turn, v in self._shortlist.judge(traces) if v.is_good]
        listed.sort(
            key=lambda pair: derive("review", self._seed, *msgspec.structs.astuple(pair[0].key))
        )
        taken: Counter[str] = Counter()
        chosen: list[tuple[Turn, Verdict]] = []
        for turn, verdict in listed:
            taken[turn.kind] += 1
            if taken[turn.kind] <= self._per_kind:
                chosen.append((turn, verdict))
        cases = [_case(turn, verdict, _prompt(traces, turn)) for turn, verdict in chosen]
        opinions = asyncio.run(self._judge.judge(cases))
        found = {turn.key: opinion for (turn, _), opinion in zip(chosen, opinions, strict=True)}
        agreed = sum(opinion is not None and opinion.good for opinion in opinions)
        self.notes = {
            **self._shortlist.notes,
            "reviewed": f"{len(cases)} of {len(listed)} shortlisted by {self._shortlist.name}, "
            f"{agreed} found good, {sum(o is None for o in opinions)} without a verdict",
        }
        for turn in traces.turns():
            yield turn, _verdict(turn, found)


def _verdict(turn: Turn, found: Mapping[TurnKey, Opinion | None]) -> Verdict:
    if turn.key not in found:
        return Verdict(False, "not shortlisted", value=0.0)
    opinion = found[turn.key]
    if opinion is None:
        return Verdict(False, "the reviewer gave no verdict", value=0.0)
    reason = "the reviewer found it good" if opinion.good else "the reviewer found it bad"
    return Verdict(opinion.good, reason, opinion.reason, float(opinion.good))


def _prompt(traces: Traces, turn: Turn) -> str:
    key = turn.key
    rows = traces.connection.execute(
        "select role, text from prompts where run = ? and episode = ? and step = ? and turn = ? "
        "order by message",
        [key.run, key.episode, key.step, key.turn],
    ).fetchall()
    return "\n\n".join(f"[{role}]\n{text}" for role, text in rows)


def _case(turn: Turn, verdict: Verdict, prompt: str) -> Case:
    key = turn.key
    lines = [f"the step's action: {turn.action or 'none, the episode was over'}"]
    if turn.progress is not None:
        lines.append(f"what it led to, beside the usual at that point: {turn.progress:+.3f}")
    if turn.returned:
        lines.append(f"{turn.returned} lines came back, {turn.used} were used")
    for line in turn.written:
        lines.append(f"the line `{line.text}` came back {line.retrieved} times, used {line.used}")
    lines.append(f"the trace says: {verdict.reason}. {verdict.detail}".rstrip())
    return Case(
        f"{key.episode}/{key.step}/{key.turn}", turn.kind.value, prompt, turn.completion,
        "\n".join(lines),
    )  # fmt: skip
