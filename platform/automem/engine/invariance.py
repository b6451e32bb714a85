"""The self-check of the batch-invariant mode: a claim about kernels, tested where it is made.

Fixed shapes leave one assumption: a kernel computes every row alike. It holds for the CPU libraries
we know; a capability that traces rest on is verified at every start all the same.
"""

from automem.engine.decode import Decoder, run_all
from automem.engine.protocol import GenerateRequest, Sampling
from automem.engine.slot_model import SlotModel
from automem.errors import EngineError
from automem.seeds import derive

_COMPANY = 7
"""Calls beside the one that is watched: different slots, rows and lengths."""


def check_invariance(decoder: Decoder, model: SlotModel, batch: int) -> None:
    """Answer one call alone and in company; EngineError where the answers differ in a bit."""

    def request(name: str, number: int) -> GenerateRequest:
        block = model.cache.shape.block
        length = min((2 + number % 3) * block + 5, model.context_tokens - 4)
        return GenerateRequest(
            id=name,
            messages=(),
            prompt_ids=tuple(
                derive("invariance", number, i) % model.vocabulary for i in range(length)
            ),
            sampling=Sampling(max_tokens=4),
            seed=number,
            cache_salt=name,  # nothing shared: both answers are computed
        )

    alone = run_all(decoder, [request("alone", 0)])[0]
    company = [request(f"other {n}", n) for n in range(1, min(_COMPANY, batch - 1) + 1)]
    together = run_all(decoder, [*company, request("together", 0)])[-1]
    if (alone.token_ids, alone.logprobs) != (together.token_ids, together.logprobs):
        raise EngineError(
            "batch_invariant cannot be had here: this machine's matrix kernels give a row other "
            "bits in other company. Try engine.threads=1, or engine.batch_invariant=false"
        )
