"""The provenance selector: a turn is good where the trace shows what came of it.

- A write is good if a line of it came back later and the action that had it made progress.
- A consultation is good if what it returned was used.
- A LOG without a write is good where nothing was left to remember: memory, in its own context, says
  already what the observation says; or writing never pays where the observation is like this.
- A PLAN that hands over at once is good where looking up never pays where the observation is like
  this, or where the lines that its prompt shows were used with progress; one that hands over after
  looking is good if what it had found was used.
- Malformed, refused, cut off and duplicate turns and empty searches are never good; neither is a
  form that pays far less often than the best of its kind, however lucky one turn of it was.
"""

from collections.abc import Iterable, Iterator
from itertools import groupby

from automem.memory.ops import READING
from automem.trace.credit import singled_out, words
from automem_learners.select.evidence import Evidence, EvidenceSettings
from automem_learners.select.payoff import Payoffs, PayoffSettings
from automem_learners.select.traces import Settings, Traces, Turn
from automem_learners.select.verdict import Kind, Verdict

ACTIVE = (Kind.WRITE, Kind.CONSULT)


class ProvenanceSelector:
    """See the module's docstring."""

    name = "provenance"
    is_thinned = True

    def __init__(
        self,
        progress: Settings | None = None,
        evidence: EvidenceSettings | None = None,
        payoff: PayoffSettings | None = None,
    ) -> None:
        self.settings = progress or Settings()
        self._evidence_settings = evidence or EvidenceSettings()
        self._payoff_settings = payoff or PayoffSettings()
        self.notes: dict[str, str] = {}
        """What the report should say of how it judged."""

    def judge(self, traces: Traces) -> Iterator[tuple[Turn, Verdict]]:
        """Every turn of the memory role with its verdict, in order. Reads the traces four times."""
        evidence = Evidence(self._evidence_settings)
        evidence.gather(traces.turns())
        self.notes |= {f"evidence in {w}": text for w, text in evidence.describe().items()}
        payoffs: dict[tuple[str, Kind], Payoffs] = {}
        active = (turn for turn in traces.turns() if turn.kind in ACTIVE and not flaw(turn))
        for turn in active:
            found = payoffs.setdefault((turn.world, turn.kind), Payoffs(self._payoff_settings))
            found.add_place(turn.observation, evidence.has_paid(turn))
        # Forms are compared where such turns pay at all: good ones are used in wrong places too.
        active = (turn for turn in traces.turns() if turn.kind in ACTIVE and not flaw(turn))
        for turn in active:
            found = payoffs[turn.world, turn.kind]
            if not found.worthless_place(turn.observation):
                found.add_form(turn.ops_form, evidence.has_paid(turn))
        for (world, kind), found in sorted(payoffs.items()):
            self.notes[f"{kind} in {world}"] = f"{found.hits} of {found.tries} sound ones paid"
        judge = _Judge(evidence, payoffs, Payoffs(self._payoff_settings))
        yield from judge.judge(traces.turns())


def flaw(turn: Turn) -> str:
    """Why a turn can never be good, whatever came of it; empty where nothing is wrong with it.

    Empty and duplicate turns are sound in this sense: they count as tries that did not pay."""
    if turn.malformed:
        return "malformed"
    if turn.finish_reason == "length":
        return "cut off at the limit of tokens"
    if any(op.status == "error" for op in turn.ops):
        return "refused"
    return ""


def waste(turn: Turn) -> str:
    """What was wasted: duplicates and empty searches are never selected."""
    if any(op.status == "unchanged" or op.redundant for op in turn.ops):
        return "duplicate"
    writes = [op for op in turn.ops if op.op not in READING]
    if len({(op.op, op.file, op.argument) for op in writes if op.argument}) < sum(
        op.argument is not None for op in writes
    ):
        return "duplicate"
    if any(op.op == "SEARCH" and op.status == "empty" for op in turn.ops):
        return "empty search"
    return ""


class _Judge:
    """Gives the verdicts, one step after the other."""

    def __init__(
        self, evidence: Evidence, payoffs: dict[tuple[str, Kind], Payoffs], none: Payoffs
    ) -> None:
        self._evidence = evidence
        self._payoffs = payoffs
        self._none = none

    def judge(self, turns: Iterable[Turn]) -> Iterator[tuple[Turn, Verdict]]:
        for _, step in groupby(turns, key=lambda t: (t.key.run, t.key.episode, t.key.step)):
            yield from self._judge_step(list(step))

    def _judge_step(self, turns: list[Turn]) -> Iterator[tuple[Turn, Verdict]]:
        verdicts: dict[int, Verdict] = {}
        for number, turn in enumerate(turns):
            if turn.kind is not Kind.LOG_READ:
                verdicts[number] = self._verdict(turn, turns[:number], verdicts)
        for number, turn in enumerate(turns):
            if turn.kind is Kind.LOG_READ:
                verdicts[number] = self._log_read(turn, turns[number + 1 :], verdicts, number + 1)
        for number, turn in enumerate(turns):
            yield turn, verdicts[number]

    def _payoff(self, turn: Turn, kind: Kind) -> Payoffs:
        return self._payoffs.get((turn.world, kind), self._none)

    def _verdict(self, turn: Turn, before: list[Turn], known: dict[int, Verdict]) -> Verdict:
        reason = flaw(turn) or waste(turn)
        if reason:
            return Verdict(False, reason, value=0.0)
        match turn.kind:
            case Kind.WRITE | Kind.CONSULT:
                return self._active(turn)
            case Kind.LOG_NOTHING:
                return self._log_nothing(turn)
            case Kind.LOG_END:
                return self._log_end(turn, before, known)
            case Kind.PLAN_END:
                return self._plan_end(before)
            case _:
                return self._plan_nothing(turn)

    def _active(self, turn: Turn) -> Verdict:
        """A write or a consultation."""
        by_name = self._evidence.is_by_name(turn.world)
        why = _WHY[turn.kind] if by_name else "progress followed where it was in context"
        payoffs = self._payoff(turn, turn.kind)
        if detail := payoffs.bad_form(turn.ops_form):
            return Verdict(False, "a form that seldom pays", f"{turn.ops_form}: {detail}", 0.0)
        if detail := payoffs.worthless_place(turn.observation):
            return Verdict(False, "where it seldom pays", detail, 0.0)
        paid = self._evidence.payment(turn)
        if paid is not None:
            return Verdict(True, why, paid[1], paid[0])
        if turn.kind is Kind.CONSULT and by_name and turn.used:
            return Verdict(True, why, f"the action names {', '.join(turn.named)}", 0.0)
        return Verdict(False, _why_not(turn, by_name), value=0.0)

    def _log_nothing(self, turn: Turn) -> Verdict:
        if line := _says_already(turn):
            return Verdict(True, "memory, in view, says it already", f"`{line}`")
        if detail := self._payoff(turn, Kind.WRITE).worthless_place(turn.observation):
            return Verdict(True, "nothing to remember there", detail)
        return Verdict(False, "nothing shows that there was nothing to remember", value=0.0)

    def _log_end(self, turn: Turn, before: list[Turn], known: dict[int, Verdict]) -> Verdict:
        log = [n for n, other in enumerate(before) if other.kind in (Kind.WRITE, Kind.LOG_READ)]
        if any(before[n].kind is Kind.WRITE and known[n].is_good for n in log):
            return Verdict(True, "what was worth it had been written")
        if not any(before[n].kind is Kind.WRITE for n in log):
            return self._log_nothing(turn)
        return Verdict(False, "ends a LOG whose writes are not good", value=0.0)

    def _log_read(
        self, turn: Turn, after: list[Turn], known: dict[int, Verdict], offset: int
    ) -> Verdict:
        reason = flaw(turn) or waste(turn)
        if reason:
            return Verdict(False, reason, value=0.0)
        for number, other in enumerate(after, offset):
            if other.kind is Kind.WRITE and known[number].is_good and turn.returned:
                return Verdict(True, "a good write followed from it", known[number].detail)
        return Verdict(False, "no good write followed from it", value=0.0)

    def _plan_end(self, before: list[Turn]) -> Verdict:
        found = [other for other in before if other.kind is Kind.CONSULT]
        if any(other.used for other in found):
            return Verdict(True, "what had been found was used")
        if any(self._evidence.has_paid(other) for other in found):
            return Verdict(True, "progress followed what had been found")
        return Verdict(False, "what had been found was not used", value=0.0)

    def _plan_nothing(self, turn: Turn) -> Verdict:
        if turn.shown_used and (turn.progress or 0.0) > 0:
            return Verdict(True, "the lines in view were used, with progress")
        if detail := self._payoff(turn, Kind.CONSULT).worthless_place(turn.observation):
            return Verdict(True, "nothing to look up there", detail)
        return Verdict(False, "nothing shows that there was nothing to look up", value=0.0)


_WHY = {
    Kind.WRITE: "a line that it wrote was used, with progress",
    Kind.CONSULT: "what it returned was used",
}


def _why_not(turn: Turn, by_name: bool) -> str:
    has_come_back = turn.returned or any(line.retrieved for line in turn.written)
    if has_come_back and not by_name:
        return "too little followed where it was in context"
    if turn.kind is Kind.CONSULT:
        return "what it returned was not used" if turn.returned else "it returned no lines"
    if not turn.written:
        return "it left no line"
    if not any(line.retrieved for line in turn.written):
        return "no line of it ever came back"
    if not any(line.used for line in turn.written):
        return "its lines came back, unused"
    if any(line.contradicted is not None for line in turn.written):
        return "used without progress, contradicted later"
    return "used without progress"


def _says_already(turn: Turn) -> str:
    """A line in this LOG's context that holds nothing but what the observation says."""
    present = singled_out(turn.observation)
    for line in turn.seen_lines:
        said = set(words(line))
        if len(said) > 1 and said <= present:
            return line
    return ""
