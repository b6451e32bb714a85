"""Gated episodes as decisions and rewards, and the table that is made of arms."""

from pathlib import Path

import pytest
from support.toy_world import toy_spec

from automem.errors import StoreError
from automem.rollout.chain import read_events
from automem.rollout.run import run_rollout
from automem.trace.events import Gated, Observed, Turn
from automem_learners.metamemory.results import row, verdict
from automem_learners.metamemory.traces import (
    Price,
    mean_tokens,
    read_traces,
    shares,
    trace_of,
)

EVEN = (1 / 3, 1 / 3, 1 / 3)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("runs") / "gated"
    spec = toy_spec(seeds=[0, 1], agent={"gate": "every_k", "gating": {"every": 2}})
    assert run_rollout(spec, run_dir).is_complete
    return run_dir


def test_a_trace_has_a_decision_for_each_action(run: Path) -> None:
    first, second = read_traces(run)
    assert len(first.actions) == len(first.features) == len(first.gains) == len(first.tokens) == 12
    assert first.actions[:3] == [(2, 2), (0, 0), (2, 2)]
    assert first.episode != second.episode


def test_rewards_are_progression_less_the_price_of_tokens(run: Path) -> None:
    trace = read_traces(run)[0]
    events = read_events(run / "episodes" / trace.episode)
    start = next(event for event in events if isinstance(event, Observed)).outcome.progression
    spent = sum(
        event.prompt_tokens + event.completion_tokens
        for event in events
        if isinstance(event, Turn) and event.step < 12
    )
    price = Price(price=0.5, reference_tokens=100.0, steps=12)
    expected = trace.progression - start - 0.5 * spent / (100.0 * 12)
    assert sum(price.rewards(trace)) == pytest.approx(expected)
    assert sum(trace.tokens) == spent


def test_shares_and_tokens_are_over_all_decisions(run: Path) -> None:
    traces = read_traces(run)
    assert shares(traces, 0) == (0.5, 0.0, 0.5)
    assert mean_tokens(traces) == sum(sum(trace.tokens) for trace in traces) / 24


def test_an_episode_without_a_gate_is_refused_with_what_to_do(tmp_path: Path) -> None:
    assert run_rollout(toy_spec(seeds=[0]), tmp_path / "run").is_complete
    events = read_events(tmp_path / "run/episodes/toy-0-0")
    with pytest.raises(StoreError, match=r"play it with agent\.gate=always"):
        trace_of("toy-0-0", events)


def test_a_player_that_fails_keeps_the_decisions_it_made(run: Path) -> None:
    events = read_events(run / "episodes/toy-0-0")
    decided = [n for n, event in enumerate(events) if isinstance(event, Gated)]
    trace = trace_of("toy-0-0", [*events[: decided[5] + 1], events[-1]])  # its sixth step failed
    assert len(trace.actions) == len(trace.gains) == 6
    assert trace.gains[-1] == 0.0


def test_seeds_are_the_unit_of_the_interval() -> None:
    made = row(
        "learned",
        blocks=[[0.5, 0.7], [0.6, 0.6]],
        base=[[0.6, 0.6], [0.5, 0.5]],
        tokens=60.0,
        base_tokens=100.0,
        margin=0.05,
        log=EVEN,
        consult=EVEN,
    )
    assert made.differences == pytest.approx([0.0, 0.1])
    assert made.saved == pytest.approx(0.4)
    assert made.interval is not None
    assert made.is_not_inferior is False  # two seeds: Student's factor is 12.7
    assert verdict(made, 0.05, 0.3).startswith("NOT SHOWN: 40% fewer tokens")


def test_a_gate_that_saves_without_loss_is_shown() -> None:
    blocks = [[0.6, 0.6], [0.61, 0.61], [0.6, 0.6]]
    made = row("learned", blocks, [[0.6, 0.6]] * 3, 60.0, 100.0, 0.05, EVEN, EVEN)
    assert verdict(made, 0.05, 0.3).startswith("SHOWN")
    assert verdict(made, 0.05, 0.5).startswith("NOT SHOWN")


def test_one_training_seed_decides_nothing() -> None:
    made = row("learned", [[0.6]], [[0.6]], 60.0, 100.0, 0.05, EVEN, EVEN)
    assert made.is_not_inferior is None
    assert "nothing is decided" in verdict(made, 0.05, 0.3)
