"""Whole loops, simulated: verdicts are the gate's own, chance is held down, an effect is seen."""

import json
from pathlib import Path

import numpy as np
import pytest

from automem.loops.evolve_plan import Plan
from automem.loops.evolve_power import Draws, Players, simulate
from automem.loops.gate import Rule, Verdict, confirm, race, sign_flip_p

SCORES = json.loads(
    (Path(__file__).parents[3] / "benchmarks" / "results" / "gate_scores.json").read_text()
)
RULE = Rule(confirmations=10, pairs=16, race=(4, 8), flips=999, minimum_gain=0.02)


def rows(count: int, pairs: int, seed: int = 0) -> np.ndarray:
    """Paired differences of recorded scores, some of them with an effect."""
    generator = np.random.default_rng(seed)
    drawn = generator.choice(SCORES["base"], size=(2, count, pairs))
    return drawn[0] - drawn[1] + generator.choice([0.0, 0.05, 0.1], size=(count, 1))


@pytest.mark.parametrize("seed", [0, 3])
def test_a_simulated_verdict_is_the_gates_own_for_the_same_pairs(seed: int) -> None:
    draws, differences = Draws(RULE, seed), rows(60, RULE.pairs, seed)
    for row, p, accepted in zip(
        differences, draws.p(differences), draws.accepts(differences), strict=True
    ):
        assert p == pytest.approx(sign_flip_p({"game": row}, RULE.flips, seed))
        verdict = confirm(RULE, {"game": [(value, 0.0) for value in row]}, seed).verdict
        assert accepted == (verdict is Verdict.ACCEPTED)


def test_a_simulated_race_eliminates_whom_the_gate_eliminates() -> None:
    draws, differences = Draws(RULE), rows(60, RULE.race[-1])
    for row, survived in zip(differences, draws.survives(differences), strict=True):
        looks = [
            race(RULE, {"game": [(value, 0.0) for value in row[:goal]]}).verdict
            for goal in RULE.race
        ]
        assert survived == (Verdict.ELIMINATED not in looks)


@pytest.mark.parametrize("scores", ["base", "specialist", "solved or not"])
def test_whole_loops_without_an_effect_rarely_accept_anything(scores: str) -> None:
    pool = SCORES.get(scores, [0.0] * 7 + [1.0] * 3)
    rates = simulate(Plan(rule=RULE), Players(champion=pool), runs=600, seed=5)
    assert rates.accepted <= RULE.alpha + 3 * (RULE.alpha * (1 - RULE.alpha) / rates.runs) ** 0.5
    assert rates.better == 0.0
    assert 0 < rates.confirmations <= RULE.confirmations
    assert 0 < rates.raced_out < 1


def test_a_clear_effect_is_found_and_a_larger_one_more_often() -> None:
    found = [
        simulate(
            Plan(rule=RULE),
            Players(champion=SCORES["base"], better=SCORES["specialist"], share=share),
            runs=100,
        ).better
        for share in (0.05, 0.5)
    ]
    assert found[0] < found[1]
    assert found[1] > 0.9


def test_one_better_attempt_among_many_is_what_is_accepted() -> None:
    players = Players(
        champion=SCORES["base"], better=SCORES["specialist"], share=0.6, is_only_one=True
    )
    rates = simulate(Plan(rule=RULE), players, runs=100)
    assert players.gain > 0.1
    assert rates.better > 0.6
    assert rates.accepted - rates.better < 0.05


def test_a_loop_never_uses_more_confirmations_than_were_declared() -> None:
    rule = Rule(confirmations=2, pairs=16, race=(4,), flips=999)
    rates = simulate(Plan(rule=rule), Players(champion=SCORES["base"]), runs=200)
    assert rates.confirmations <= 2
