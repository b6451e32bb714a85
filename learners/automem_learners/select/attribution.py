"""The attribution selector: what a retrieved line did to the action, by the model's own measure.

A line's score is log p(what the gameplay role committed | its context) less the same without the
line, in nats, by the engine's scoring call: nothing is generated. A line at or above the threshold
was used; a write earns what its lines earned, and every other verdict is the provenance selector's.
Sees what words do not: a map that was followed without being named. Costs one forward pass for each
line looked at (and one for each step), so steps are drawn until a budget is spent.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from automem.engine.protocol import Engine, Message
from automem.engine.render import ChatRenderer, load_tokenizer
from automem.errors import UsageError
from automem.seeds import derive
from automem_learners.select.provenance import ProvenanceSelector
from automem_learners.select.selector import provenance
from automem_learners.select.traces import Settings, Traces, Turn
from automem_learners.select.verdict import Verdict

_SHOWING = ("# results", "# memory ")

_SHOWN_LINES = """
select l.run, l.episode, l.at_step, l.at_turn, l.at_index, l.place, w.text
from lines_shown l join writes w on w.run = l.run and w.episode = l.episode
    and w.step = l.writer.step and w.turn = l.writer.turn and w.index = l.writer.index
    and w.line = l.writer.line and w.file = l.writer.file
where l.routine = 'plan' and l.lines <= {most}
"""
_COMMITS = """
select t.run, t.episode, t.step, max(t.turn) as turn
from turns t join steps s using (run, episode, step)
where s.source = 'model' and t.role = 'gameplay' group by all
"""
_CALLS = """
with calls as ({commits}), shown as ({shown})
select c.run, c.episode, c.step, c.turn, t.completion, t.kept, t.adapter, t.token_ids,
       (select list({{'role': p.role, 'text': p.text}} order by p.message) from prompts p
        where p.run = c.run and p.episode = c.episode and p.step = c.step and p.turn = c.turn)
           as messages,
       list({{'turn': l.at_turn, 'index': l.at_index, 'place': l.place, 'text': l.text}}
            order by l.at_turn, l.at_index, l.place) as lines
from calls c join turns t using (run, episode, step, turn)
join shown l on l.run = c.run and l.episode = c.episode and l.at_step = c.step
group by all
"""
_USES = """
select run, episode, step, turn, index, place from attributed where score >= {threshold!r}
"""
_ATTRIBUTED = pa.schema(
    [("run", pa.string()), ("episode", pa.string())]
    + [(name, pa.int32()) for name in ("step", "turn", "index", "place")]
    + [("score", pa.float64())]
)


class _Call(NamedTuple):
    """One committing call and the lines in its context."""

    where: tuple[str, str, int]
    messages: list[tuple[str, str]]
    said: str
    adapter: str | None
    lines: list[dict[str, Any]]


class AttributionSelector:
    """See the module's docstring; implements `Selector`."""

    name = "attribution"
    is_thinned = True

    def __init__(
        self,
        engine: Engine,
        threshold: float = 1.0,
        budget: int = 4000,
        lines_per_step: int = 16,
        concurrency: int = 32,
        seed: int = 0,
        progress: Mapping[str, Any] | None = None,
        payoff: Mapping[str, Any] | None = None,
    ) -> None:
        """`budget`: lines that are scored, at most. `lines_per_step`: retrievals of more lines are
        left out."""
        self._engine = engine
        self._threshold = threshold
        if min(budget, lines_per_step, concurrency) < 1:
            raise UsageError(
                "selector.budget, lines_per_step and concurrency must be at least 1, got "
                f"{budget}, {lines_per_step} and {concurrency}"
            )
        self._budget = budget
        self._lines_per_step = lines_per_step
        self._concurrency = concurrency
        self._seed = seed
        self._provenance: ProvenanceSelector = provenance(progress, {"kind": "names"}, payoff)
        self.settings: Settings = self._provenance.settings
        self.notes: dict[str, str] = {}

    def judge(self, traces: Traces) -> Iterator[tuple[Turn, Verdict]]:
        """See `Selector`. UsageError where the engine cannot score."""
        scores = asyncio.run(self._score_all(self._calls(traces)))
        table = pa.Table.from_pylist(scores, schema=_ATTRIBUTED)
        traces.connection.register("attributed", table)
        traces.set_uses(_USES.format(threshold=float(self._threshold)))
        values = [row["score"] for row in scores]
        used = sum(value >= self._threshold for value in values)
        self.notes["lines scored"] = f"{len(values)} of a budget of {self._budget}"
        if values:
            self.notes["lines used"] = (
                f"{used} of {len(values)} at {self._threshold:g} nats or more; "
                f"mean {sum(values) / len(values):+.2f}, most {max(values):+.2f}"
            )
        yield from self._provenance.judge(traces)
        self.notes |= self._provenance.notes

    def _calls(self, traces: Traces) -> list[_Call]:
        shown = _SHOWN_LINES.format(most=int(self._lines_per_step))
        where = traces.rows(
            f"with calls as ({_COMMITS}), shown as ({shown}) "
            "select c.run, c.episode, c.step, count(*) from calls c join shown l "
            "on l.run = c.run and l.episode = c.episode and l.at_step = c.step group by all"
        )
        where.sort(key=lambda row: derive("attribute", self._seed, *row[:3]))
        chosen, left = [], self._budget
        for run, episode, step, lines in where:
            if lines <= left:
                left -= lines
                chosen.append({"run": run, "episode": episode, "step": step})
        if not chosen:
            return []
        traces.connection.register("chosen", pa.Table.from_pylist(chosen))
        commits = f"select c.* from ({_COMMITS}) c join chosen using (run, episode, step)"
        return [_call(row) for row in traces.rows(_CALLS.format(commits=commits, shown=shown))]

    async def _score_all(self, calls: Sequence[_Call]) -> list[dict[str, Any]]:
        try:
            can = await self._engine.capabilities()
            if not can.scoring or not can.tokenizer:
                raise UsageError(
                    f"the engine ({can.model}) cannot score tokens: attribution needs "
                    "engine=transformers or vllm, with the model that played"
                )
            renderer, tokenizer = ChatRenderer(can.tokenizer), load_tokenizer(can.tokenizer)
            gate = asyncio.Semaphore(self._concurrency)

            async def log_p(messages: Sequence[tuple[str, str]], call: _Call) -> float:
                prompt = renderer.start([Message(role, text) for role, text in messages])
                both = [*prompt, *tokenizer.encode(call.said, add_special_tokens=False)]
                async with gate:
                    scores = await self._engine.score(both, call.adapter)
                return sum(scores[len(prompt) :])

            async def attribute(call: _Call) -> list[dict[str, Any]]:
                texts = {line["text"] for line in call.lines}
                without = [without_line(call.messages, text) for text in texts]
                whole, *others = await asyncio.gather(
                    *(log_p(messages, call) for messages in [call.messages, *without])
                )
                score = {text: whole - other for text, other in zip(texts, others, strict=True)}
                run, episode, step = call.where
                return [
                    {"run": run, "episode": episode, "step": step, "turn": line["turn"],
                     "index": line["index"], "place": line["place"], "score": score[line["text"]]}
                    for line in call.lines
                ]  # fmt: skip

            found = await asyncio.gather(*(attribute(call) for call in calls))
        finally:
            await self._engine.close()
        return [row for rows in found for row in rows]


def _call(row: tuple[Any, ...]) -> _Call:
    run, episode, step, _, completion, kept, adapter, _, messages, lines = row
    said = completion if kept < 0 else completion[:kept]
    talk = [(message["role"], message["text"]) for message in messages]
    return _Call((run, episode, step), talk, said, adapter or None, lines)


def without_line(messages: Sequence[tuple[str, str]], line: str) -> list[tuple[str, str]]:
    """The messages as they would read had this line not been in memory: gone from every result and
    from every section of memory. A result that held nothing else says `no match`."""
    changed: list[tuple[str, str]] = []
    for role, text in messages:
        if role in ("user", "tool"):
            is_showing = role == "tool"
            kept: list[str] = []
            for row in text.split("\n"):
                if row.startswith("# "):
                    is_showing = row.startswith(_SHOWING)
                if is_showing and (row == line or row.endswith(f": {line}")):
                    if kept and _is_header(kept[-1]):
                        kept.append(_EMPTY)
                    continue
                if kept and kept[-1] == _EMPTY and is_showing and not _is_header(row) and row:
                    kept.pop()  # the result goes on with another line
                kept.append(row)
            text = "\n".join(kept)
        changed.append((role, text))
    return changed


_EMPTY = "no match"


def _is_header(row: str) -> bool:
    return row.partition(" ")[0] in ("SEARCH", "READ", "TAIL")
