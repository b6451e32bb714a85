"""Traces as selectors read them: every turn of the memory role with the facts about it.

DuckDB over the Parquet tables of any number of runs: it joins and sorts in a bounded part of memory
and spills the rest to disk, on one machine and without a cluster to start; the turns then come by
as a stream, in order. (Ray Data would spread the same scan over nodes, but its joins hold their
input in the object store, and what is read here, texts without tokens, is small beside what
training reads.)
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from automem.rollout.redactions import forgotten_turns
from automem.trace.progress import DISCOUNT, ENOUGH_PLAYS, HORIZON, USES, progress_sql
from automem.trace.query import connect, run_names
from automem_learners.select.verdict import Kind, TurnKey, form_of, kind_of
from automem_learners.turns import is_forgotten

BATCH = 2_000


class Done(msgspec.Struct, frozen=True):
    """One operation of a turn."""

    op: str
    status: str
    file: str | None
    argument: str | None
    redundant: int
    """Lines that it wrote and that stood there already."""

    @property
    def spelled(self) -> str:
        asked = "" if self.argument is None or self.op in ("TAIL",) else f"|{self.argument}"
        return f"{self.op} {self.file or ''}{asked}"


class Written(msgspec.Struct, frozen=True):
    """One line that a turn wrote, and what came of it."""

    file: str
    text: str
    retrieved: int
    """Times that an operation returned it or a prompt showed it."""
    used: int
    """Actions that used it."""
    mean: float | None
    """Progress of the actions that used it, on average."""
    best_step: int | None
    """Step of the one that led furthest."""
    earned: float
    """Sum over the PLANs that had it in context: progress, shared out among the lines there."""
    contradicted: int | None


class Turn(msgspec.Struct, frozen=True):
    """One turn of the memory role."""

    key: TurnKey
    world: str
    seed: int
    episode_progression: float
    kind: Kind
    completion: str
    kept: int
    finish_reason: str
    tokens: int
    malformed: int
    observation: str
    action: str | None
    ops: tuple[Done, ...]
    written: tuple[Written, ...]
    returned: int
    """Lines that its operations returned."""
    used: int
    """Of these, lines that the step's action used."""
    named: tuple[str, ...]
    """Words by which the action showed it."""
    progress: float | None
    """What the step's action led to; None where there was none."""
    gain: float | None
    shown_used: int
    """Lines that the prompt shows unasked and that the action used."""
    seen_lines: tuple[str, ...]
    """In LOG: lines of memory that came back before this turn, or stand in its prompt."""

    @property
    def form(self) -> str:
        """Its near-duplicate cluster."""
        return f"{self.kind}: {form_of(self.kept_text)}"

    @property
    def kept_text(self) -> str:
        """What of the completion stays in the context: about what would be trained."""
        return self.completion if self.kept < 0 else self.completion[: self.kept]

    @property
    def ops_form(self) -> str:
        """What it did, numbers and words left out."""
        return "; ".join(form_of(op.spelled) for op in self.ops)


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What counts as progress: `automem.trace.progress`."""

    horizon: int = HORIZON
    discount: float = DISCOUNT
    enough_plays: int = ENOUGH_PLAYS


class Traces:
    """The finished episodes of some runs."""

    def __init__(self, runs: Sequence[Path], settings: Settings | None = None) -> None:
        """UsageError where no episode is finished."""
        self.settings = settings or Settings()
        self.runs = run_names(runs)
        """Name to folder."""
        self.connection: duckdb.DuckDBPyConnection = connect(runs)
        self._forgotten: dict[tuple[str, str], dict[int, int]] = {}
        self._spill = tempfile.TemporaryDirectory(prefix="automem-select-")
        self.connection.execute(f"set temp_directory = '{self._spill.name}'")
        self.connection.execute("set preserve_insertion_order = false")
        self.set_uses(USES)

    def close(self) -> None:
        self.connection.close()
        self._spill.cleanup()

    def __enter__(self) -> "Traces":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """All rows of a small answer."""
        return self.connection.execute(sql).fetchall()

    def is_forgotten(self, key: TurnKey) -> bool:
        """Whether the turn was masked after it was played, or continues one that was: it can be
        trained on no more."""
        known = self._forgotten.get((key.run, key.episode))
        if known is None:
            known = forgotten_turns(self.runs[key.run] / "episodes" / key.episode)
            self._forgotten[key.run, key.episode] = known
        return is_forgotten(key.step, key.turn, known)

    def set_uses(self, sql: str) -> None:
        """Which retrieved lines were used: a select with the columns run, episode, step, turn,
        index, place."""
        run = self.connection.execute
        run(f"create or replace temp table uses as {sql}")
        chosen = self.settings
        progress = progress_sql(chosen.horizon, chosen.discount, chosen.enough_plays, "uses")
        run(f"create or replace temp table led_to as {progress}")
        run(f"create or replace temp view lines_shown as {_LINES_SHOWN}")
        run(f"create or replace temp view line_credit as {_LINE_CREDIT}")
        run(f"create or replace temp view turn_facts as {_TURN_FACTS}")

    def turns(self, where: str = "true") -> Iterator[Turn]:
        """Every turn of the memory role, by run, episode, step and turn. A stream: nothing else may
        be asked of the traces until it has ended."""
        cursor = self.connection.execute(
            f"select * from turn_facts where {where} order by run, episode, step, turn"
        )
        columns = [column[0] for column in cursor.description or ()]
        while batch := cursor.fetchmany(BATCH):
            for values in batch:
                yield _turn(dict(zip(columns, values, strict=True)))


def _turn(row: dict[str, Any]) -> Turn:
    ops = tuple(Done(**op) for op in row["ops"] or ())
    names = tuple(op.op for op in ops)
    return Turn(
        key=TurnKey(row["run"], row["episode"], row["step"], row["turn"]),
        kind=kind_of(row["routine"], names, bool(row["has_asked"])),
        ops=ops,
        written=tuple(Written(**line) for line in row["written"] or ()),
        named=tuple(sorted({word for words in row["named"] or () for word in words})),
        seen_lines=tuple(row["seen_lines"] or ()),
        **{name: row[name] for name in _PLAIN},
    )


_PLAIN = ("world", "seed", "episode_progression", "completion", "kept", "finish_reason", "tokens",
          "malformed", "observation", "action", "returned", "used", "progress", "gain",
          "shown_used")  # fmt: skip

_LINES_SHOWN = """
select run, episode, step as at_step, turn as at_turn, index as at_index, routine, op,
       len(writers) as lines, unnest(range(len(writers))) as place, unnest(writers) as writer
from retrievals
"""

_LINE_CREDIT = """
select l.run, l.episode, l.writer.step as step, l.writer.turn as turn, l.writer.index as index,
       l.writer.line as line,
       count(u.place) as used,
       avg(case when u.place is not null then p.progress end) as mean,
       arg_max(l.at_step, p.progress) filter (where u.place is not null) as best_step,
       coalesce(sum(p.progress / l.lines), 0) as earned
from lines_shown l
left join uses u on u.run = l.run and u.episode = l.episode and u.step = l.at_step
    and u.turn = l.at_turn and u.index = l.at_index and u.place = l.place
left join led_to p on p.run = l.run and p.episode = l.episode and p.step = l.at_step
where l.routine = 'plan' and l.writer.turn >= 0
group by all
"""

_TURN_FACTS = """
with done as (
    select run, episode, step, turn,
           list({'op': op, 'status': status, 'file': file, 'argument': argument,
                 'redundant': coalesce(redundant_lines, 0)} order by index) as ops
    from ops where turn >= 0 group by all),
wrote as (
    select w.run, w.episode, w.step, w.turn,
           list({'file': w.file, 'text': w.text, 'retrieved': w.retrieved + w.shown,
                 'used': coalesce(c.used, 0), 'mean': c.mean, 'best_step': c.best_step,
                 'earned': coalesce(c.earned, 0), 'contradicted': w.contradicted}
                order by w.index, w.line) as written
    from writes w left join line_credit c
        using (run, episode, step, turn, index, line)
    where w.turn >= 0 group by all),
use_counts as (
    select run, episode, step, turn, index, count(*) as used from uses group by all),
asked as (
    select r.run, r.episode, r.step, r.turn,
           sum(len(r.writers)) filter (where r.index >= 0) as returned,
           coalesce(sum(u.used) filter (where r.index >= 0), 0) as used,
           coalesce(sum(u.used) filter (where r.index < 0), 0) as shown_used,
           list(r.named) as named
    from retrievals r left join use_counts u using (run, episode, step, turn, index)
    group by all),
log_lines as (
    select l.run, l.episode, l.at_step as step, l.at_turn as turn, l.at_index as index, w.text
    from lines_shown l join writes w on w.run = l.run and w.episode = l.episode
        and w.step = l.writer.step and w.turn = l.writer.turn and w.index = l.writer.index
        and w.line = l.writer.line and w.file = l.writer.file
    where l.routine = 'log'),
seen as (
    select t.run, t.episode, t.step, t.turn, list(l.text) as seen_lines
    from turns t join log_lines l on l.run = t.run and l.episode = t.episode and l.step = t.step
        and (l.turn < t.turn or l.index < 0)
    where t.routine = 'log' group by all),
first_asked as (
    select run, episode, step, routine, min(turn) as first_turn
    from ops where turn >= 0 group by all)
select t.run, t.episode, t.step, t.turn, t.routine, t.completion, t.kept, t.finish_reason,
       t.tokens_out as tokens, len(t.malformed) as malformed, e.world, e.seed,
       e.progression as episode_progression, s.observation, s.action, s.gain, d.ops,
       w.written, coalesce(a.returned, 0)::int as returned, coalesce(a.used, 0)::int as used,
       coalesce(a.shown_used, 0)::int as shown_used, a.named, p.progress, n.seen_lines,
       coalesce(f.first_turn < t.turn, false) as has_asked
from turns t
join episodes e using (run, episode)
join steps s using (run, episode, step)
left join done d using (run, episode, step, turn)
left join wrote w using (run, episode, step, turn)
left join asked a using (run, episode, step, turn)
left join led_to p using (run, episode, step)
left join seen n using (run, episode, step, turn)
left join first_asked f using (run, episode, step, routine)
where t.role = 'memory'
"""
