"""Where failures hide: clusters of failed stretches, how scattered they are, and whether a filter
that is learned from them would hold anything.

After arXiv 2607.00870: a filter learned from 785,797 logged rejections stayed empty, because they
were spread over too many forms; and a filter selects only if it tests the same evidence as the
verifier. So this counts forms at four levels, says how much the frequent ones cover, and tries the
filter out: learned on one half of the seeds, tested on the other. It flags, and deletes nothing.
"""

from collections.abc import Sequence
from pathlib import Path

import duckdb
import msgspec

from automem.errors import UsageError
from automem.suggest import no_such
from automem.trace.failure_tries import LEVELS, SIGNS, collect
from automem.trace.query import connect, run_names

EXAMPLES = 3
"""Stretches that a cluster shows, of different episodes where there are."""
_TOP = 10
"""Forms whose coverage stands beside the share of singletons."""
_LEAST_EPISODES = 2
"""Episodes in which a form must have failed for a filter to hold it."""
_LEAST_SHARE = 0.5
"""Of a form's tries that must have failed: below it, rejecting costs more than it saves."""


class Options(msgspec.Struct, frozen=True):
    """What is counted, and how."""

    level: str = "form"
    """Of the clusters: a name of `LEVELS`."""
    patience: int = 25
    """Steps without a gain of progression after which an episode is stalled."""
    support: int = 5
    """Failed stretches of a form from which on a filter would hold it."""

    def check(self) -> None:
        """UsageError where a value makes no sense."""
        if self.level not in LEVELS:
            raise UsageError(no_such("level", self.level, LEVELS))
        if self.patience < 1:
            raise UsageError(f"--patience must be at least 1 step, got {self.patience}")
        if self.support < 2:
            raise UsageError(
                f"--support must be at least 2: one stretch is no form, got {self.support}"
            )


class Example(msgspec.Struct, frozen=True):
    """One failed stretch."""

    run: str
    """Folder of the run."""
    episode: str
    step: int
    """Its first step."""
    last: int
    said: str
    """The try that began it; of a stall, its most frequent action."""


class Cluster(msgspec.Struct, frozen=True):
    """Failed stretches of one form."""

    sign: str
    form: str
    stretches: int
    steps: int
    episodes: int
    covered: float
    """Share of all failed stretches in this cluster and those above it."""
    failed: int | None
    """Of the tries of this form; null where the try cannot be looked at before it is made."""
    tries: int | None
    examples: list[Example]


class SignCount(msgspec.Struct, frozen=True):
    """One sign in these runs."""

    sign: str
    meaning: str
    stretches: int
    steps: int
    longest: int
    """Steps."""


class Scatter(msgspec.Struct, frozen=True):
    """How scattered failures are when told apart at one level, and what a filter would come to."""

    level: str
    forms: int
    singletons: int
    """Forms that failed in one stretch only."""
    singleton_mass: float
    """Share of failed stretches that are of such forms."""
    top_mass: float
    """Share of failed stretches in the ten largest forms."""
    frequent: int
    """Forms frequent enough for a filter, in the half of the seeds that it learns from."""
    kept: int
    """Of these, the ones that fail in at least half of their tries: the filter."""
    caught: float | None
    """Share of the other half's failed stretches that the filter would catch; null: one seed."""
    wrong: float | None
    """Share of the tries it rejects there that would have worked; null: it rejects none."""


class Failures(msgspec.Struct, frozen=True):
    """What `failures` found."""

    runs: list[str]
    episodes: int
    steps: int
    """Executed actions."""
    failed_steps: int
    """Steps with at least one sign."""
    stretches: int
    options: Options
    signs: list[SignCount]
    clusters: list[Cluster]
    """Largest first; all of them."""
    scatter: list[Scatter]
    """One for each level, from fine to coarse."""
    verdict: str
    """What a learned filter would come to, in a sentence or two."""

    @property
    def is_filter_empty(self) -> bool:
        """Whether a filter at the level of the clusters would hold no form."""
        return all(one.kept == 0 for one in self.scatter if one.level == self.options.level)


def failures(runs: Sequence[Path], options: Options | None = None) -> Failures:
    """Read the finished episodes of these runs; UsageError where there are none."""
    options = options or Options()
    options.check()
    connection = connect(runs)
    try:
        collect(connection, options.patience)
        return _found(connection, run_names(runs), options)
    finally:
        connection.close()


def _found(
    connection: duckdb.DuckDBPyConnection, names: dict[str, Path], options: Options
) -> Failures:
    def number(sql: str) -> int:
        row = connection.execute(sql).fetchone()
        assert row is not None
        return int(row[0])

    stretches = number("select count(*) from stretches")
    scatter = [_scatter(connection, level, options.support) for level in LEVELS]
    chosen = next(one for one in scatter if one.level == options.level)
    return Failures(
        runs=[str(path) for path in names.values()],
        episodes=number("select count(*) from episodes"),
        steps=number("select count(*) from steps where unproductive is not null"),
        failed_steps=number(
            "select count(*) from (select distinct run, episode, step from tries where failed)"
        ),
        stretches=stretches,
        options=options,
        signs=_signs(connection),
        clusters=_clusters(connection, names, options.level, stretches),
        scatter=scatter,
        verdict=_verdict(chosen, stretches, options.support),
    )


def _signs(connection: duckdb.DuckDBPyConnection) -> list[SignCount]:
    rows = connection.execute(
        "select sign, count(*), sum(steps)::bigint, max(steps) from stretches group by sign"
    ).fetchall()
    found = {sign: counts for sign, *counts in rows}
    return [SignCount(s.name, s.meaning, *found.get(s.name, (0, 0, 0))) for s in SIGNS]


def _clusters(
    connection: duckdb.DuckDBPyConnection, names: dict[str, Path], level: str, total: int
) -> list[Cluster]:
    tried = {
        (sign, form): (failed, tries)
        for sign, form, failed, tries in connection.execute(
            f"select sign, {level}, count(*) filter (failed), count(*) from tries group by all"
        ).fetchall()
    }
    examples: dict[tuple[str, str], list[Example]] = {}
    for sign, form, run, *rest in connection.execute(_EXAMPLES.format(level=level)).fetchall():
        examples.setdefault((sign, form), []).append(Example(str(names[run]), *rest))
    foreseeable = {sign.name for sign in SIGNS if sign.is_foreseeable}
    clusters, seen = [], 0
    for sign, form, stretches, steps, episodes in connection.execute(
        f"""select sign, {level}, count(*), sum(steps)::bigint, count(distinct (run, episode))
            from stretches group by all order by 3 desc, 4 desc, 1, 2"""
    ).fetchall():
        seen += stretches
        failed, tries = tried[sign, form] if sign in foreseeable else (None, None)
        shown = examples[sign, form]
        clusters.append(
            Cluster(sign, form, stretches, steps, episodes, seen / total, failed, tries, shown)
        )
    return clusters


_EXAMPLES = f"""
with ranked as (
    select *, row_number() over (
        partition by sign, {{level}}, run, episode order by steps desc, first) as within
    from stretches),
chosen as (
    select *, row_number() over (
        partition by sign, {{level}} order by within, steps desc, run, episode, first) as place
    from ranked)
select sign, {{level}}, run, episode, first, last, exact from chosen
where place <= {EXAMPLES} order by sign, {{level}}, place
"""

_SCATTER = f"""
with forms as (select sign, {{level}}, count(*) as size from stretches group by all),
ranked as (select *, row_number() over (order by size desc) as place from forms)
select count(*), count(*) filter (size = 1), coalesce(sum(size) filter (size = 1), 0)::bigint,
       coalesce(sum(size) filter (place <= {_TOP}), 0)::bigint, coalesce(sum(size), 0)::bigint
from ranked
"""

_LEARN = f"""
create or replace temp table learned as
with frequent as (
    select sign, {{level}} as form from stretches join halves using (run, episode)
    where half = 0 and sign in ({{foreseeable}}) group by all
    having count(*) >= {{support}} and count(distinct (run, episode)) >= {_LEAST_EPISODES}),
tried as (
    select sign, {{level}} as form, avg(failed::int) as share
    from tries join halves using (run, episode) where half = 0 group by all)
select sign, form, share >= {_LEAST_SHARE} as kept from frequent join tried using (sign, form)
"""

_CATCH = """
select count(*), count(*) filter (exists (
    select 1 from learned l where l.kept and l.sign = s.sign and l.form = s.{level}))
from stretches s join halves using (run, episode) where half = 1
"""

_REJECT = """
select count(*), count(*) filter (not failed) from tries t join halves using (run, episode)
where half = 1 and exists (
    select 1 from learned l where l.kept and l.sign = t.sign and l.form = t.{level})
"""


def _scatter(connection: duckdb.DuckDBPyConnection, level: str, support: int) -> Scatter:
    def row(sql: str) -> tuple[int, ...]:
        found = connection.execute(sql.format(level=level)).fetchone()
        assert found is not None
        return tuple(int(value) for value in found)

    forms, singletons, alone, top, total = row(_SCATTER)
    foreseeable = ", ".join(f"'{sign.name}'" for sign in SIGNS if sign.is_foreseeable)
    connection.execute(_LEARN.format(level=level, support=int(support), foreseeable=foreseeable))
    frequent, kept = row("select count(*), count(*) filter (kept) from learned")
    unseen, caught = row(_CATCH)
    rejected, worked = row(_REJECT)
    return Scatter(
        level=level,
        forms=forms,
        singletons=singletons,
        singleton_mass=alone / total if total else 0.0,
        top_mass=top / total if total else 0.0,
        frequent=frequent,
        kept=kept,
        caught=caught / unseen if unseen else None,
        wrong=worked / rejected if rejected else None,
    )


def _verdict(scatter: Scatter, stretches: int, support: int) -> str:
    if not stretches:
        return "No step shows a sign of failure: there is nothing to learn a filter from."
    if scatter.kept:
        verdict = (
            f"A filter learned from these failures would hold {scatter.kept} of "
            f"{scatter.forms:,} forms."
        )
        if scatter.caught is None:
            return f"{verdict} What it catches cannot be said: all episodes are of one seed."
        wrong = "none" if scatter.wrong is None else f"{scatter.wrong:.0%}"
        return (
            f"{verdict} On seeds it has not seen it would catch {scatter.caught:.0%} of the failed "
            f"stretches, and of the tries it rejects there {wrong} would have worked."
        )
    start = "A filter learned from these failures would be EMPTY: "
    if scatter.frequent:
        return (
            f"{start}{scatter.frequent} forms are frequent, and each works more often than it "
            "fails, so what is tested before the try is not what decides."
        )
    return (
        f"{start}no form that can be tested beforehand fails {support} times in "
        f"{_LEAST_EPISODES} episodes of half of the seeds; {scatter.singleton_mass:.0%} of the "
        "failed stretches are of forms that occur once."
    )
