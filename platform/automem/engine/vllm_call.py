"""One call in vLLM's terms: what may be asked, how it is sampled, what came of it.

Stop texts end a completion and stay in it, as with every engine here; the text is decoded from the
tokens by the same code as the transformers engine's, so that both say the same for the same tokens.
"""

from collections.abc import Collection
from typing import Any

from automem.engine.protocol import Completion, GenerateRequest
from automem.engine.stops import Endings, cut_at_stop
from automem.engine.vllm_core import Core
from automem.errors import EngineRequestError


def check_request(request: GenerateRequest, core: Core, is_scored: bool = False) -> int:
    """How many tokens may be generated; EngineRequestError where vLLM can never answer."""
    prompt = request.prompt_ids
    if not prompt:
        raise EngineRequestError(
            "this engine takes tokens: the request has no prompt_ids (render them with "
            "automem.engine.render.ChatRenderer)"
        )
    if min(prompt) < 0 or max(prompt) >= core.vocabulary:
        raise EngineRequestError(
            f"token ids must lie in 0..{core.vocabulary - 1} and there must be one"
        )
    room = core.context_tokens - len(prompt) + (1 if is_scored else 0)
    if room < 1:
        raise EngineRequestError(
            f"the prompt has {len(prompt)} tokens and leaves no room in a context of "
            f"{core.context_tokens}: shorten it, or raise engine.target.context_tokens"
        )
    request.sampling.check()
    return min(request.sampling.max_tokens, room)


def sampling_params(
    request: GenerateRequest, max_tokens: int, end_ids: Collection[int], is_streamed: bool = False
) -> Any:
    """vLLM's `SamplingParams` for a completion."""
    from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

    sampling = request.sampling
    stops = [stop for stop in sampling.stop if stop]
    return SamplingParams(
        # vLLM would raise one just above 0 to 0.01 and sample.
        temperature=0.0 if sampling.is_greedy else sampling.temperature,
        top_p=sampling.top_p,
        max_tokens=max_tokens,
        seed=request.seed,
        stop=stops or None,
        stop_token_ids=sorted(end_ids),
        include_stop_str_in_output=True,
        detokenize=bool(stops),  # only stop texts need it: the text is decoded here
        skip_special_tokens=False,
        spaces_between_special_tokens=False,
        logprobs=0,  # of the sampled token alone
        output_kind=(RequestOutputKind.CUMULATIVE if is_streamed else RequestOutputKind.FINAL_ONLY),
        structured_outputs=(
            StructuredOutputsParams(grammar=request.grammar) if request.grammar else None
        ),
    )


def completion_of(output: Any, request: GenerateRequest, endings: Endings) -> Completion:
    """From vLLM's `RequestOutput`."""
    said = output.outputs[0]
    tokens = [int(token) for token in said.token_ids]
    if request.sampling.is_greedy:
        logprobs = [0.0] * len(tokens)  # one point is the whole distribution
    else:
        logprobs = [
            float(at[token].logprob) for at, token in zip(said.logprobs, tokens, strict=True)
        ]
    text = endings.text(tokens, None)
    if said.finish_reason == "stop":
        text = cut_at_stop(text, request.sampling.stop)
    return Completion(
        text=text,
        token_ids=tuple(tokens),
        logprobs=tuple(logprobs),
        finish_reason=said.finish_reason,
        prompt_tokens=len(request.prompt_ids or ()),
        cached_tokens=output.num_cached_tokens or 0,
        completion_tokens=len(tokens),
    )


def scoring_params(last: int) -> Any:
    """For all tokens of the prompt, and for `last` if it came next."""
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    return SamplingParams(
        temperature=1.0,
        max_tokens=1,
        prompt_logprobs=0,
        logprob_token_ids=[last],
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def scores_of(output: Any, tokens: tuple[int, ...]) -> list[float]:
    """Log-probabilities, as long as `tokens`; the first is 0.0."""
    before = zip(output.prompt_logprobs[1:], tokens[1:-1], strict=True)
    last = output.outputs[0].logprobs[0][tokens[-1]]
    return [0.0, *(float(at[token].logprob) for at, token in before), float(last.logprob)]
