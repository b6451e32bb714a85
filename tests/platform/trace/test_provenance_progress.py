"""Progress by hand: discounted gain, less the mean at that point, cut where another use begins."""

import pytest
from support.told_game import Told, append, play_told, search
from support.traces import write_run

from automem.trace.progress import progress_sql
from automem.trace.query import connect, query


def steps_of(*progressions):
    return [Told(f"say {n}", progression=value) for n, value in enumerate(progressions)]


async def run_of(tmp_path, *plays):
    events = [await play_told(tmp_path, steps, seed=seed, replicate=replicate)
              for seed, replicate, steps in plays]  # fmt: skip
    return write_run(tmp_path / "run", events)


def progress(run, **options):
    rows = connect([run]).execute(f"select * from ({progress_sql(**options)})").fetchall()
    return {(row[1], row[2]): (row[3], row[5]) for row in rows}


async def test_progress_is_the_discounted_gain_beyond_the_worlds_mean(tmp_path):
    run = await run_of(
        tmp_path, (1, 0, steps_of(0.0, 0.0, 0.4, 0.4)), (2, 0, steps_of(0.0, 0.2, 0.2, 0.2))
    )
    found = progress(run, horizon=2, discount=0.5)
    # Gains: (0, .4, 0) and (.2, 0, 0); means .1, .2, 0.
    assert found["toy-1-0", 0][1] == pytest.approx((0 - 0.1) + 0.5 * (0.4 - 0.2))
    assert found["toy-1-0", 1][1] == pytest.approx((0.4 - 0.2) + 0.5 * 0)
    assert found["toy-2-0", 0][1] == pytest.approx((0.2 - 0.1) + 0.5 * (0 - 0.2))


async def test_a_seed_that_was_played_often_is_its_own_measure(tmp_path):
    run = await run_of(
        tmp_path,
        (1, 0, steps_of(0.0, 0.4)), (1, 1, steps_of(0.0, 0.0)), (2, 0, steps_of(0.0, 0.8)),
    )  # fmt: skip
    found = progress(run, horizon=1, enough_plays=2)
    assert found["toy-1-0", 0][1] == pytest.approx(0.4 - 0.2)
    assert found["toy-2-0", 0][1] == pytest.approx(0.8 - 0.4)  # all three episodes


async def test_an_episode_that_ended_early_earns_nothing_afterwards(tmp_path):
    run = await run_of(
        tmp_path, (1, 0, steps_of(0.0, 0.0)), (2, 0, steps_of(0.0, 0.0, 0.6))
    )  # fmt: skip
    assert progress(run, horizon=2, discount=1.0)["toy-1-0", 0][1] == pytest.approx(-0.3)


async def test_what_follows_a_later_use_is_that_ones_earning(tmp_path):
    steps = [
        Told("new deck"),
        Told("a", (append("17 owl\n03 fox"),)),
        Told("owl first", (), (search("owl"),), "flip 17"),
        Told("hm"),
        Told("fox first", (), (search("fox"),), "flip 03"),
        Told("match", progression=0.5),
    ]
    run = await run_of(tmp_path, (1, 0, steps), (2, 0, steps_of(0, 0, 0, 0, 0, 0)))
    found = progress(run, horizon=10, discount=1.0)
    assert found["toy-1-0", 2] == (2, pytest.approx(0.0))
    assert found["toy-1-0", 4] == (10, pytest.approx(0.25))
    assert found["toy-1-0", 0][0] == 2


async def test_people_can_ask_for_it(tmp_path):
    run = await run_of(tmp_path, (1, 0, steps_of(0.0, 0.4)))
    assert query([run], "select step, gain, progress from progress").rows == [(0, 0.4, 0.0)]
