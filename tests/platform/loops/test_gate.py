"""The gate: p values by hand, who is accepted, what stays undecided, the error rate by chance."""

import itertools

import numpy as np
import pytest

from automem.errors import UsageError
from automem.loops.gate import Rule, Verdict, confirm, race, sign_flip_p


def pairs_of(differences: list[float], champion: float = 0.25) -> dict:
    return {"game": [(champion + d, champion) for d in differences]}


def exact_p(differences: list[float]) -> float:
    """Over all 2^n sign patterns."""
    values = np.array(differences)
    observed = values.mean()
    patterns = itertools.product((-1, 1), repeat=len(values))
    means = [float((np.array(signs) * values).mean()) for signs in patterns]
    return float(np.mean([mean >= observed - 1e-12 for mean in means]))


def test_p_agrees_with_the_enumeration_of_all_sign_patterns() -> None:
    differences = [0.2, -0.1, 0.3, 0.05, 0.0, 0.15, -0.05, 0.1, 0.2, 0.1]
    assert sign_flip_p({"game": differences}) == pytest.approx(exact_p(differences), abs=0.004)


def test_p_is_never_zero_and_does_not_depend_on_the_order_of_tasks() -> None:
    strong = [0.5] * 40
    assert sign_flip_p({"a": strong}) == 1 / 100_000
    two = {"a": [0.1, -0.2, 0.3], "b": [0.2, 0.1, -0.1]}
    assert sign_flip_p(two) == sign_flip_p(dict(reversed(two.items())))


def test_signs_are_flipped_within_tasks_and_averaged_over_them() -> None:
    # Each task alone: 2^-3 and 2^-3; together all six signs must be positive for the same mean.
    differences = {"a": [0.3, 0.2, 0.1], "b": [0.1, 0.2, 0.3]}
    assert sign_flip_p(differences) == pytest.approx(2**-6, abs=0.002)


def test_a_clear_gain_is_accepted_and_no_difference_is_rejected() -> None:
    rule = Rule(pairs=16, confirmations=2)
    assert confirm(rule, pairs_of([0.2] * 16)).verdict is Verdict.ACCEPTED
    assert confirm(rule, pairs_of([0.2, -0.2] * 8)).verdict is Verdict.REJECTED
    assert confirm(rule, pairs_of([0.0] * 16)).verdict is Verdict.REJECTED


def test_a_sure_gain_below_the_declared_minimum_is_rejected_with_that_reason() -> None:
    result = confirm(Rule(pairs=16, minimum_gain=0.1), pairs_of([0.05] * 16))
    assert result.verdict is Verdict.REJECTED
    assert "below the declared minimum 0.1" in result.reason


def test_a_comparison_with_a_pending_pair_is_undecided() -> None:
    values = pairs_of([0.5] * 16)
    values["game"][3] = None
    result = confirm(Rule(pairs=16), values)
    assert (result.verdict, result.pending, result.p) == (Verdict.UNDECIDED, 1, None)
    assert race(Rule(pairs=16), values).verdict is Verdict.UNDECIDED


def test_a_rule_that_no_result_could_satisfy_is_refused_at_the_start() -> None:
    with pytest.raises(UsageError, match="at least 6 pairs"):
        Rule(pairs=5, confirmations=5)


def test_a_comparison_of_another_length_than_declared_is_refused() -> None:
    with pytest.raises(UsageError, match="declares 16 pairs"):
        confirm(Rule(pairs=16), pairs_of([0.1] * 15))


def test_racing_eliminates_what_is_clearly_worse_and_never_accepts() -> None:
    rule = Rule()
    assert race(rule, pairs_of([-0.1, -0.2] * 4)).verdict is Verdict.ELIMINATED
    assert race(rule, pairs_of([0.0] * 8)).verdict is Verdict.ELIMINATED
    assert race(rule, pairs_of([0.5] * 32)).verdict is Verdict.SURVIVED


def test_whole_runs_without_an_effect_rarely_accept_anything() -> None:
    rule = Rule(confirmations=3, pairs=12, flips=999, race=(8,))
    generator = np.random.default_rng(5)
    runs, accepted = 200, 0
    for number in range(runs):
        for attempt in range(rule.confirmations):
            scores = generator.beta(2, 6, size=(2, 8 + rule.pairs))
            values = [tuple(pair) for pair in scores.T]
            if race(rule, {"game": values[:8]}).verdict is Verdict.ELIMINATED:
                continue
            seed = number * 10 + attempt
            if confirm(rule, {"game": values[8:]}, seed).verdict is Verdict.ACCEPTED:
                accepted += 1
                break
    bound = rule.alpha + 3 * (rule.alpha * (1 - rule.alpha) / runs) ** 0.5
    assert accepted / runs <= bound
