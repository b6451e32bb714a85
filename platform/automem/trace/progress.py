"""Progress: what an action led to, compared with what is usual at that point of an episode.

`progress(step)` is the discounted return (change of progression) of the next H steps, less the mean
of the same over the episodes of the same seed, or of the whole world where a seed was not played
often enough to tell. The window ends early where a later action used a retrieved line: what follows
is that one's earning. An episode that has ended goes on with no gain, so dying shows as a loss.

SQL over the tables of any number of runs (DuckDB streams them): the view `progress` of
`automem query`, and what selectors read.
"""

HORIZON = 10
"""Steps that count as an action's doing."""
DISCOUNT = 0.9
ENOUGH_PLAYS = 4
"""Episodes of one seed from which on its own mean is taken."""

USES = """
select run, episode, step, turn, index, unnest(used) as place from retrievals
where routine = 'plan'
"""
"""Which lines (by retrieval and place) the step's action used, by the words of action and
reasoning; a relation of these columns can take its place."""


def progress_sql(
    horizon: int = HORIZON,
    discount: float = DISCOUNT,
    enough_plays: int = ENOUGH_PLAYS,
    uses: str = f"({USES})",
) -> str:
    """A select with columns run, episode, step, window (steps that count), gain (of this step) and
    progress; one row for each step that has an action."""
    return f"""
with plays as (
    select world, seed, count(*) as seed_plays,
           sum(count(*)) over (partition by world) as world_plays
    from episodes group by world, seed),
gains as (
    select s.run, s.episode, s.step, e.world, e.seed, coalesce(s.gain, 0) as gain
    from steps s join episodes e using (run, episode) where s.action is not null),
seed_sums as (select world, seed, step, sum(gain) as total from gains group by all),
world_sums as (select world, step, sum(gain) as total from gains group by all),
used_steps as (select distinct run, episode, step from {uses}),
windows as (
    select g.*, least({int(horizon)}, coalesce(
        min(case when u.step is not null then g.step end) over (
            partition by g.run, g.episode order by g.step
            rows between 1 following and unbounded following) - g.step,
        {int(horizon)})) as size
    from gains g left join used_steps u using (run, episode, step)),
ahead as (select *, unnest(range(size)) as later from windows)
select a.run, a.episode, a.step, any_value(a.size) as window, any_value(a.gain) as gain,
       sum(pow({float(discount)!r}, a.later) * (coalesce(g.gain, 0) - coalesce(
           case when p.seed_plays >= {int(enough_plays)} then s.total / p.seed_plays
                else w.total / p.world_plays end, 0))) as progress
from ahead a
join plays p on p.world = a.world and p.seed = a.seed
left join gains g on g.run = a.run and g.episode = a.episode and g.step = a.step + a.later
left join seed_sums s on s.world = a.world and s.seed = a.seed and s.step = a.step + a.later
left join world_sums w on w.world = a.world and w.step = a.step + a.later
group by a.run, a.episode, a.step
"""
