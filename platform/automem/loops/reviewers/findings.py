"""The paper's failure statistics: what whole episodes say about how memory is used.

Each figure is a share over all episodes of a request, from the Parquet tables, defined here and
nowhere else. A share over nothing is None. Not covered: what to do about them (`catalogue.py`).
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from automem.trace.query import connect

STRETCH = 3
"""Unproductive actions in a row that count as being stuck."""
SEPARATORS = (": ", " = ", "=", " - ", " | ", " is ", " ")
"""Between key and text of a line, in the order in which they are looked for."""
_SAMPLED_LINES = 2_000
_MOST_ALIKE = 0.8
"""Share of a file's lines from which on they count as all having one form."""


class FileFindings(msgspec.Struct, frozen=True, kw_only=True):
    """How one memory file was used."""

    name: str
    written: int = 0
    """Lines that the agent wrote."""
    returned: int = 0
    """Of these, lines that came back, by an operation or unasked, at least once."""
    used: int = 0
    """Of these, lines that an action used."""
    repeated: int = 0
    contradicted: int = 0
    """Lines after which another one of the same key was written."""
    searches: int = 0
    """Operations that asked it for lines, in PLAN."""
    empty: int = 0
    """Of these, those that found nothing."""
    longest: int = 0
    """Most lines that were written to it in one episode."""
    distance: float | None = None
    """Median number of newer lines in the file when an action used one."""
    separator: str | None = None
    """What stands between key and text in most lines; None where they have no such form."""


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """See the module's docstring. Shares are of 1."""

    episodes: int
    steps: int
    progression: float
    redundant_writes: float | None
    """Of written lines: those that stood in the file already."""
    contradicted: float | None
    """Of written lines: those after which another one of the same key was written."""
    never_returned: float | None
    """Of written lines: those that no later prompt or operation ever showed again."""
    empty_searches: float | None
    failed_ops: float | None
    cut_results: float | None
    """Of results that hold lines: those that a cap cut short."""
    unconsulted: float | None
    """Of steps with something in memory: those whose PLAN saw none of it."""
    unlogged: float | None
    """Of steps whose observation changed: those after which LOG wrote nothing."""
    stuck: float | None
    """Of actions: those in stretches of at least three unproductive ones."""
    repeated: float | None
    """Of actions: those that were taken a third time in a row, or more."""
    oscillating: float | None
    """Of actions: those that end a, b, a, b."""
    uncommitted: float | None
    """Of actions: those that were forced, or the world's fallback."""
    context: float
    """Median of the longest call of a step, in tokens."""
    context_growth: float | None
    """The same in the last tenth of the steps over the first tenth."""
    turns_log: float
    """Mean of model calls in a LOG."""
    turns_plan: float
    files: tuple[FileFindings, ...]
    """Every file that was written to or asked for."""
    ops: dict[str, dict[str, int]]
    """Routine to operation to how often it was used."""

    def file(self, name: str) -> FileFindings:
        """Of a file; all zero where nobody touched it."""
        return next((file for file in self.files if file.name == name), FileFindings(name=name))


def find(runs: Sequence[Path]) -> Findings:
    """Compute all; UsageError where no episode is finished."""
    with closing(connect(runs)) as connection:

        def all_of(sql: str) -> list[tuple[Any, ...]]:
            return connection.execute(sql).fetchall()

        episodes, steps, progression = all_of(
            "select count(*), sum(steps), avg(progression) from episodes"
        )[0]
        turns = dict(all_of(_TURNS))
        ops: dict[str, dict[str, int]] = {"log": {}, "plan": {}}
        for routine, op, count in all_of(_OPS):
            ops.setdefault(routine, {})[op] = count
        shares: dict[str, Any] = {}
        for names, sql in _SHARES:
            shares |= zip(names, all_of(sql)[0], strict=True)
        return Findings(
            episodes=episodes,
            steps=int(steps or 0),
            progression=progression,
            **{**shares, "context": shares["context"] or 0.0},
            turns_log=turns.get("log", 0.0),
            turns_plan=turns.get("plan", 0.0),
            files=_files(all_of),
            ops=ops,
        )


def _files(all_of: Callable[[str], list[tuple[Any, ...]]]) -> tuple[FileFindings, ...]:
    distances = dict(all_of(_DISTANCES))
    separators = _separators(all_of(_SAMPLE))
    return tuple(
        FileFindings(
            name=name,
            **dict(zip(_FILE_FIELDS, counts, strict=True)),
            distance=distances.get(name),
            separator=separators.get(name),
        )
        for name, *counts in all_of(_FILES)
    )


def _separators(rows: Sequence[tuple[Any, ...]]) -> dict[str, str]:
    """File to the separator that most of its lines have after a key without white space."""
    lines: dict[str, list[str]] = {}
    for file, text in rows:
        lines.setdefault(file, []).append(text)
    return {
        file: separator
        for file, texts in lines.items()
        if (separator := next((s for s in SEPARATORS if _are_keyed(texts, s)), ""))
    }


def _are_keyed(lines: Sequence[str], separator: str) -> bool:
    def is_keyed(line: str) -> bool:
        key, found, text = line.partition(separator)
        return bool(found and key and text.strip()) and " " not in key

    return sum(map(is_keyed, lines)) >= _MOST_ALIKE * len(lines)


_TURNS = """
select routine, avg(n) from (
  select routine, count(*) as n from turns where role = 'memory'
  group by run, episode, step, routine)
group by routine
"""
_OPS = "select routine, op, count(*) from ops where routine is not null group by all order by all"
_CONTEXT = """
with placed as (
  select context_tokens as n, percent_rank() over (partition by run, episode order by step) as place
  from steps)
select median(n), avg(n) filter (place > 0.9) / nullif(avg(n) filter (place < 0.1), 0) from placed
"""
_OPERATIONS = """
select sum(redundant_lines) / nullif(sum(written_lines), 0),
       count(*) filter (op = 'SEARCH' and status = 'empty')
           / nullif(count(*) filter (op = 'SEARCH'), 0),
       count(*) filter (status = 'error') / nullif(count(*), 0),
       count(*) filter (cut > 0) / nullif(count(*) filter (len(sources) > 0 or cut > 0), 0)
from ops where turn >= 0
"""
_LINES = """
select count(contradicted) / nullif(count(*), 0),
       count(*) filter (shown = 0 and retrieved = 0) / nullif(count(*), 0)
from writes where turn >= 0
"""
_STEPS = """
with seen as (
  select distinct run, episode, step from retrievals where routine = 'plan' and len(writers) > 0),
written as (
  select distinct run, episode, step from ops where routine = 'log' and written_lines > 0)
select count(*) filter (s.memory_lines > 0 and s.action is not null and p.step is null)
           / nullif(count(*) filter (s.memory_lines > 0 and s.action is not null), 0),
       count(*) filter (s.changed and s.step > 0 and w.step is null)
           / nullif(count(*) filter (s.changed and s.step > 0), 0)
from steps s left join seen p using (run, episode, step)
             left join written w using (run, episode, step)
"""
_ACTIONS = f"""
with acted as (
  select run, episode, step, action, source, coalesce(unproductive, false) as lost,
         lag(action, 1) over w as a1, lag(action, 2) over w as a2, lag(action, 3) over w as a3,
         step - row_number() over (partition by run, episode, coalesce(unproductive, false)
                                   order by step) as stretch
  from steps where action is not null
  window w as (partition by run, episode order by step)),
counted as (
  select *, count(*) over (partition by run, episode, lost, stretch) as length from acted)
select avg(cast(lost and length >= {STRETCH} as double)),
       avg(cast(coalesce(action = a1 and action = a2, false) as double)),
       avg(cast(coalesce(action = a2 and a1 = a3 and action <> a1, false) as double)),
       avg(cast(source <> 'model' as double))
from counted
"""
_FILE_FIELDS = (
    "written",
    "returned",
    "used",
    "repeated",
    "contradicted",
    "searches",
    "empty",
    "longest",
)
_FILES = """
with lines as (
  select file, count(*) as written, count(*) filter (shown > 0 or retrieved > 0) as returned,
         count(*) filter (used > 0) as used, count(*) filter (repeats) as repeated,
         count(contradicted) as contradicted
  from writes where turn >= 0 group by file),
asked as (
  select file, count(*) as searches, count(*) filter (status = 'empty') as empty
  from ops where routine = 'plan' and file is not null group by file),
longest as (
  select file, max(n) as longest from
    (select file, count(*) as n from writes where turn >= 0 group by run, episode, file)
  group by file)
select file, coalesce(written, 0), coalesce(returned, 0), coalesce(used, 0),
       coalesce(repeated, 0), coalesce(contradicted, 0), coalesce(searches, 0),
       coalesce(empty, 0), coalesce(longest, 0)
from lines full join asked using (file) full join longest using (file)
order by 2 desc, 1
"""
_DISTANCES = """
with placed as (
  select *, row_number() over (partition by run, episode, file
                               order by step, turn, "index", line) as place
  from writes),
used as (
  select run, episode, step, unnest(used) as place, writers from retrievals
  where routine = 'plan' and len(used) > 0),
found as (
  select run, episode, step, writers[place + 1] as w from used),
standing as (
  select f.run, f.episode, f.step, p.file, p.place from found f join placed p
    on p.run = f.run and p.episode = f.episode and p.file = f.w.file and p.step = f.w.step
       and p.turn = f.w.turn and p."index" = f.w."index" and p.line = f.w.line)
select file, median(newest - place) from (
  select s.file, s.place, max(p.place) as newest from standing s join placed p
    on p.run = s.run and p.episode = s.episode and p.file = s.file and p.step <= s.step
  group by s.run, s.episode, s.step, s.file, s.place)
group by file
"""
_SAMPLE = f"""
select file, text from (
  select file, text, row_number() over (partition by file order by run, episode, step, turn) as n
  from writes where turn >= 0 and text is not null and trim(text) <> '')
where n <= {_SAMPLED_LINES}
"""
_SHARES = (
    (("context", "context_growth"), _CONTEXT),
    (("redundant_writes", "empty_searches", "failed_ops", "cut_results"), _OPERATIONS),
    (("contradicted", "never_returned"), _LINES),
    (("unconsulted", "unlogged"), _STEPS),
    (("stuck", "repeated", "oscillating", "uncommitted"), _ACTIONS),
)
"""Fields of `Findings`, and the query whose columns they are."""
