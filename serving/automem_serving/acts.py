"""Acts, and what is checked before one is carried out: that it is the one that comes next."""

import msgspec

from automem.agent.recorder import History
from automem.rollout.recovery import stored_name
from automem.trace.events import Observed, Outcome
from automem_serving.problems import ApiError


class Act(msgspec.Struct, frozen=True):
    """One act: what the world shows, and how the last action came out."""

    observation: str
    outcome: Outcome
    """Its `action` is filled in from the journal."""
    key: str = ""
    step: int | None = None
    """Refused with 409 where another act is the next one."""


def check_same(known: Observed, act: Act) -> None:
    """422 unless the act is the one that was sent under its key before."""
    sent = msgspec.structs.replace(act.outcome, action=known.outcome.action)
    is_same = known.observation == stored_name(act.observation) and known.outcome == sent
    if not is_same or act.step not in (None, known.step):
        raise ApiError(
            422,
            "idempotency_key_reused",
            f"this Idempotency-Key was sent with another body, for act {known.step}; use a new key",
        )


def check_finishes(pending: Observed, act: Act) -> None:
    """409 (or 422) unless the act is the one that was begun and not finished."""
    if pending.key != act.key:
        raise under_way(pending)
    try:
        check_same(pending, act)
    except ApiError:
        if act.key:
            raise
        raise under_way(pending) from None


def under_way(pending: Observed) -> ApiError:
    """409: another act has to be finished first."""
    return ApiError(
        409,
        "act_pending",
        f"act {pending.step} was begun and not finished: send it again as it was, with its "
        "Idempotency-Key (the episode's `pending_key`)",
    )


def check_step(step: int, wanted: int | None) -> None:
    """409 where the caller means another act than the next one."""
    if wanted is not None and wanted != step:
        raise ApiError(409, "step_mismatch", f"the next act is {step}, not {wanted}", "step")


def pending_act(history: History | None) -> Observed | None:
    """What was observed for the act that was begun and not finished."""
    first = history.pending[0] if history is not None and history.pending else None
    return first if isinstance(first, Observed) else None
