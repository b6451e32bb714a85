"""What is left after a deletion, told apart by how it survived; rates with intervals.

Of the answers after a deletion with retrieval on (DEL-ON): *retrieved* are correct ones where the
agent saw a line that still says the fact; *artefacts* are those that follow a near neighbour that
it saw; *unexplained* are correct ones without such a line. *Parametric* are correct answers with
retrieval off (DEL-OFF); like the unexplained ones they are to be read against chance. The unit of
inference is the fact: repeats of one are averaged, the interval is a bootstrap over facts.
"""

from collections.abc import Callable, Iterable, Sequence

import msgspec

from automem.audit.facts import Condition, Kind, Variant
from automem.audit.probes import Answer
from automem.trace.statistics import Estimate, estimate

ALL = "all"
_SAYS_IT = (Kind.DIRECT, Kind.ALIAS)


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """One agent, one variant (or `all`): shares of answers."""

    variant: str
    full: Estimate
    """Correct with everything in memory: what the agent can do at all."""
    del_on: Estimate
    """Correct after the deletion, retrieval on: the residual."""
    retrieved: Estimate
    artefact: Estimate
    """Not correct: part of what goes wrong after the deletion."""
    unexplained: Estimate
    parametric: Estimate
    """Correct after the deletion, retrieval off."""


def says_it(answer: Answer) -> bool:
    """Whether the agent saw a line that says the fact."""
    return any(line.kind in _SAYS_IT for line in answer.retrieved)


def rates(answers: Sequence[Answer]) -> list[Rates]:
    """By variant, then over all."""
    groups: dict[str, list[Answer]] = {
        str(variant): [a for a in answers if a.variant is variant] for variant in Variant
    }
    groups[ALL] = list(answers)
    return [_rates(name, group) for name, group in groups.items()]


def _rates(variant: str, answers: Sequence[Answer]) -> Rates:
    by = {condition: [a for a in answers if a.condition is condition] for condition in Condition}
    on = by[Condition.DEL_ON]
    return Rates(
        variant=variant,
        full=_share(by[Condition.FULL], lambda a: a.is_correct),
        del_on=_share(on, lambda a: a.is_correct),
        retrieved=_share(on, lambda a: a.is_correct and says_it(a)),
        artefact=_share(on, lambda a: bool(a.follows)),
        unexplained=_share(on, lambda a: a.is_correct and not says_it(a)),
        parametric=_share(by[Condition.DEL_OFF], lambda a: a.is_correct),
    )


def _share(answers: Iterable[Answer], holds: Callable[[Answer], bool]) -> Estimate:
    of: dict[str, list[float]] = {}
    for answer in answers:
        of.setdefault(answer.fact, []).append(float(holds(answer)))
    return estimate([sum(values) / len(values) for values in of.values()])
