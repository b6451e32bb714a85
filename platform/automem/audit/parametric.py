"""Does a model know facts that only memory held? Measured on its probabilities, without sampling.

In contexts that show nothing of the facts, the model scores a memory turn about each fact's thing
with every symbol that could stand there. What it prefers beyond chance it has from its weights. The
statistic is the mean, over facts, of the true symbol's log-probability, each context's scores being
centred over the facts for each symbol and over the symbols for each fact; its null distribution
deals the symbols to the facts anew (which is how they were dealt), so a liking for some symbols or
some things is no leak. With a base the difference to it is scored. Not covered: facts whose symbols
are not one continuation each, and what a model would say only when asked in another way.
"""

import asyncio
from collections.abc import Sequence

import msgspec
import numpy as np

from automem.audit.facts import Fact
from automem.engine.protocol import Engine, Message
from automem.engine.render import ChatRenderer, load_tokenizer
from automem.errors import UsageError
from automem.trace.statistics import Estimate, estimate

DEALS = 9_999
"""Random deals of the permutation test: p can be as small as 0.0001."""


class Leak(msgspec.Struct, frozen=True, kw_only=True):
    """What the weights tell."""

    facts: int
    symbols: int
    first: Estimate
    """Share of facts whose true symbol comes first; chance is 1 / symbols."""
    advantage: float
    """Mean log-probability of the true symbol above what a random deal gives, in nats."""
    p: float
    """Of an advantage as large without any leak; one-sided."""
    is_flagged: bool
    ranks: tuple[float, ...]
    """Of each fact's true symbol among all, 0 (first) to 1 (last)."""


async def score_facts(
    engine: Engine,
    adapter: str | None,
    facts: Sequence[Fact],
    contexts: Sequence[Sequence[tuple[str, str]]],
) -> np.ndarray:
    """log p of each symbol of each fact, mean over contexts: float64 [facts, symbols]. UsageError
    where the engine cannot score."""
    capabilities = await engine.capabilities()
    if not capabilities.scoring:
        raise UsageError(
            f"{capabilities.model}: this engine gives no scores, so nothing can be said of its "
            "weights; choose engine=transformers or engine=vllm"
        )
    renderer = ChatRenderer(capabilities.tokenizer)
    tokenizer = load_tokenizer(capabilities.tokenizer)
    starts = [renderer.start([Message(*pair) for pair in context]) for context in contexts]

    async def one(start: list[int], fact: Fact, symbol: str) -> float:
        said = tokenizer.encode(f"{fact.cue}{symbol}{fact.ending}", add_special_tokens=False)
        cue = tokenizer.encode(fact.cue, add_special_tokens=False)
        ending = tokenizer.encode(fact.ending, add_special_tokens=False)
        scores = await engine.score([*start, *said], adapter)
        return float(sum(scores[len(start) + len(cue) : len(scores) - len(ending)]))

    found = np.zeros((len(facts), len(facts[0].symbols)))
    for start in starts:
        rows = await asyncio.gather(
            *(one(start, fact, symbol) for fact in facts for symbol in fact.symbols)
        )
        found += np.asarray(rows).reshape(found.shape)
    return found / len(starts)


def judge(scores: np.ndarray, truths: Sequence[int], alpha: float, seed: int = 0) -> Leak:
    """The verdict on `scores` [facts, symbols]; `truths` [facts] are columns."""
    truth = np.asarray(truths)
    rows = np.arange(len(truth))
    centred = scores - scores.mean(axis=1, keepdims=True) - scores.mean(axis=0, keepdims=True)
    centred = centred + scores.mean()
    reached = float(centred[rows, truth].mean())
    generator = np.random.default_rng(seed)
    dealt = generator.permuted(np.tile(truth, (DEALS, 1)), axis=1)
    means = centred[rows, dealt].mean(axis=1)
    p = (1 + int((means >= reached - 1e-12).sum())) / (1 + DEALS)
    own = centred[rows, truth][:, None]
    better = (centred > own).sum(axis=1) + ((centred == own).sum(axis=1) - 1) / 2
    ranks = better / (scores.shape[1] - 1)
    return Leak(
        facts=len(truth),
        symbols=scores.shape[1],
        first=estimate([float(each) for each in better < 1]),
        advantage=reached - float(means.mean()),
        p=p,
        is_flagged=p <= alpha,
        ranks=tuple(float(rank) for rank in ranks),
    )
