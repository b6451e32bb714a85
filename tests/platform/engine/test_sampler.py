"""Counter-based sampling."""

import numpy as np
import torch

from automem.engine.sampler import sample, uniforms


def draw(logits, uniform, temperature=1.0, top_p=None, greedy=None):
    rows = len(logits)
    return sample(
        logits,
        torch.tensor(uniform, dtype=torch.float64),
        torch.full((rows, 1), temperature),
        None if top_p is None else torch.full((rows, 1), top_p),
        None if greedy is None else torch.tensor(greedy),
    )


def test_uniforms_depend_on_seed_and_step_alone_and_are_uniform():
    seeds = np.arange(20_000, dtype=np.uint64)
    steps = np.full(20_000, 3, dtype=np.uint64)
    numbers = uniforms(seeds, steps)
    assert numbers[7] == uniforms(seeds[7:8], steps[7:8])[0]
    assert numbers.min() >= 0
    assert numbers.max() < 1
    histogram, _ = np.histogram(numbers, bins=20, range=(0, 1))
    assert abs(histogram - 1000).max() < 150  # 5 standard deviations of a bin
    later = uniforms(seeds, steps + np.uint64(1))
    assert abs(np.corrcoef(numbers, later)[0, 1]) < 0.03


def test_frequencies_follow_the_softmax_at_the_temperature():
    logits = torch.tensor([[0.0, 1.0, 2.0]]).expand(30_000, 3)
    numbers = uniforms(np.arange(30_000, dtype=np.uint64), np.zeros(30_000, dtype=np.uint64))
    tokens, logprobs = draw(logits, numbers, temperature=2.0)
    expected = torch.softmax(torch.tensor([0.0, 0.5, 1.0]), dim=0)
    frequencies = torch.bincount(tokens, minlength=3) / 30_000
    assert torch.allclose(frequencies, expected, atol=0.015)
    assert torch.allclose(logprobs.exp().float(), expected[tokens], atol=1e-6)


def test_top_p_keeps_the_smallest_set_that_holds_it_and_logprobs_are_of_what_is_left():
    probabilities = torch.tensor([[0.1, 0.4, 0.3, 0.2]])
    numbers = [(i + 0.5) / 1000 for i in range(1000)]
    tokens, logprobs = draw(probabilities.log().expand(1000, 4), numbers, top_p=0.6)
    assert set(tokens.tolist()) == {1, 2}
    kept = {1: 0.4 / 0.7, 2: 0.3 / 0.7}
    for token, logprob in zip(tokens.tolist(), logprobs.tolist(), strict=True):
        assert abs(np.exp(logprob) - kept[token]) < 1e-6


def test_greedy_rows_take_the_likeliest_token_with_certainty():
    logits = torch.tensor([[0.0, 3.0, 1.0], [0.0, 3.0, 1.0]])
    tokens, logprobs = draw(logits, [0.999999, 0.999999], greedy=[True, False])
    assert tokens.tolist() == [1, 2]
    assert logprobs[0] == 0.0 > logprobs[1]


def test_impossible_tokens_are_never_drawn_even_at_the_ends():
    logits = torch.tensor([[-torch.inf, 0.0, 0.0, -torch.inf]]).expand(2, 4)
    tokens, _ = draw(logits, [0.0, 1 - 2**-52])
    assert tokens.tolist() == [1, 2]


def test_the_likeliest_token_stays_however_small_top_p_is():
    tokens, logprobs = draw(torch.tensor([[0.0, 2.0, 1.0]]).expand(2, 3), [0.0, 0.999], top_p=1e-46)
    assert tokens.tolist() == [1, 1]
    assert logprobs.tolist() == [0.0, 0.0]


def test_logits_that_are_no_numbers_are_told_by_the_log_probability_and_harm_no_other_row():
    logits = torch.tensor([[0.0, torch.nan, 1.0], [0.0, 2.0, 1.0]])
    for top_p in (None, 0.5):
        tokens, logprobs = draw(logits, [0.5, 0.5], top_p=top_p)
        assert 0 <= tokens[0] < 3
        assert logprobs.isnan().tolist() == [True, False]
        assert tokens[1] == 1


def test_a_row_does_not_depend_on_the_other_rows():
    torch.manual_seed(0)
    logits = torch.randn(64, 500)
    numbers = uniforms(np.arange(64, dtype=np.uint64), np.zeros(64, dtype=np.uint64))
    tokens, logprobs = draw(logits, numbers, top_p=0.9)
    for row in (0, 31, 63):
        token, logprob = draw(logits[row : row + 1], numbers[row : row + 1], top_p=0.9)
        assert (token[0], logprob[0]) == (tokens[row], logprobs[row])
