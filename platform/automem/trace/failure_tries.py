"""What was tried in a run, and which tries failed: the rows that `automem.trace.failures` counts.

A try is an action, a memory operation or an answer; a sign is a way to fail that can be read off
the traces of any world. Stretches are runs of consecutive steps of an episode that show the same
sign. Not covered: failures that leave no sign, such as a legal, effective, but bad move.
"""

from typing import NamedTuple

import duckdb

from automem.trace.metrics import WRITING

CIRCLE_STEPS = 5
"""An observation that was seen up to so many steps before counts as walking in a circle."""
_LONGEST_TRY = 400
"""Characters of a try that are compared."""


class Sign(NamedTuple):
    """A way to fail."""

    name: str
    meaning: str
    is_foreseeable: bool
    """Whether the try can be looked at before it is made: only then can a filter test it."""


SIGNS = (
    Sign("invalid action", "the world refused the action and did its fallback", True),
    Sign("no change", "the action was taken, the observation stayed the same", True),
    Sign("circling", f"the observation returned to one of the {CIRCLE_STEPS} before it", True),
    Sign("no commit", "the model committed no action: the world's fallback was taken", False),
    Sign("empty search", "a SEARCH found nothing", True),
    Sign("refused operation", "a memory operation was answered with an error", True),
    Sign("rewriting", "a write whose every line already stood in the file", True),
    Sign("malformed", "text that looks like an operation and is none", False),
    Sign("stalled", "no progression for more steps than the patience", False),
)

LEVELS = {
    "exact": "the text of the try itself",
    "form": "in lower case, each number a #, each quoted text a …",
    "shape": "the action's first word; the operation and its file",
    "kind": "the sign alone",
}
"""What two failures must share to count as the same, from fine to coarse."""

_MACROS = r"""
create or replace temp macro normalised(said) as trim(regexp_replace(regexp_replace(
    regexp_replace(lower(said), '"[^"]*"|''[^'']*''', '…', 'g'),
    '-?\d+(\.\d+)?', '#', 'g'), '\s+', ' ', 'g'));
create or replace temp macro shape(sign, said) as case
    when sign in ('invalid action', 'no change', 'circling', 'stalled')
    then regexp_extract(normalised(said), '^\S+')
    else regexp_extract(normalised(said), '^\S+( \S+)?') end;
"""

_TRIES = """
create or replace temp table tries as
with windows as (
    select run, episode, step, action, source, invalid_action, unproductive,
           lead(hash(observation)) over w as after, {earlier} as earlier,
           step - coalesce(max(case when gain > 0 then step end) over (
               partition by run, episode order by step
               rows between unbounded preceding and current row), -1) as drought
    from steps window w as (partition by run, episode order by step)),
played as (select * from windows where unproductive is not null),
asked as (select * from played where source <> 'fallback'),
said as (
    select run, episode, step, turn * 1000 + index as place, op, status, written_lines,
           redundant_lines, concat_ws(' ', op, file, argument, text) as said
    from ops where turn >= 0),
answers as (
    select run, episode, step, max_by(completion, turn) as said from turns group by all),
every as (
    select run, episode, step, 0 as place, 'invalid action' as sign, action as said,
           invalid_action as failed from asked
    union all select run, episode, step, 0, 'no change', action,
           unproductive and not invalid_action from asked
    union all select run, episode, step, 0, 'circling', action,
           not unproductive and list_contains(earlier, after) from asked
    union all select run, episode, step, 0, 'no commit', a.said, true
        from played join answers a using (run, episode, step) where source = 'fallback'
    union all select run, episode, step, 0, 'stalled', action, true
        from played where drought > {patience}
    union all select run, episode, step, place, 'empty search', said, status = 'empty'
        from said where op = 'SEARCH' and status <> 'error'
    union all select run, episode, step, place, 'refused operation', said, status = 'error'
        from said
    union all select run, episode, step, place, 'rewriting', said,
           status = 'unchanged' or (written_lines > 0 and redundant_lines >= written_lines)
        from said where op in ({writing}) and status <> 'error'
    union all select run, episode, step, turn, 'malformed', malformed[1], true
        from turns where len(malformed) > 0)
select run, episode, step, place, sign, failed, left(said, {longest}) as exact,
       normalised(left(said, {longest})) as form, shape(sign, left(said, {longest})) as shape,
       sign as kind
from every
"""

_STRETCHES = """
create or replace temp table stretches as
with failing as (
    select run, episode, sign, step, min_by(exact, place) as exact from tries where failed
    group by all),
islands as (
    select *, step - row_number() over (partition by run, episode, sign order by step) as island
    from failing),
whole as (
    select run, episode, sign, min(step) as first, max(step) as last, count(*) as steps,
           case when sign = 'stalled' then mode(exact) else min_by(exact, step) end as exact
    from islands group by run, episode, sign, island)
select *, normalised(exact) as form, shape(sign, exact) as shape, sign as kind from whole
"""

_HALVES = """
create or replace temp table halves as
select run, episode, (dense_rank() over (order by world, seed) - 1) % 2 as half from episodes
"""


def collect(connection: duckdb.DuckDBPyConnection, patience: int) -> None:
    """Make the temporary tables `tries`, `stretches` and `halves` (0 or 1, by seed: all plays of a
    seed fall into the same half) on a connection of `automem.trace.query.connect`. `patience`:
    steps without a gain of progression after which an episode is stalled."""
    earlier = ", ".join(
        f"lag(hash(observation), {number}) over w" for number in range(1, CIRCLE_STEPS + 1)
    )
    connection.execute(_MACROS)
    connection.execute(
        _TRIES.format(
            earlier=f"[{earlier}]",
            patience=int(patience),
            longest=_LONGEST_TRY,
            writing=", ".join(f"'{op}'" for op in sorted(WRITING)),
        )
    )
    connection.execute(_STRETCHES)
    connection.execute(_HALVES)
