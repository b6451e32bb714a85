"""What a selector is, and how one is made from `conf/selector/`."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import msgspec

from automem.errors import UsageError
from automem.suggest import no_such
from automem_learners.select.evidence import EvidenceSettings
from automem_learners.select.payoff import PayoffSettings
from automem_learners.select.provenance import ProvenanceSelector
from automem_learners.select.traces import Settings, Traces, Turn
from automem_learners.select.verdict import Verdict


class Selector(Protocol):
    """Judges turns. Plugged in by `_target_`; keeps no state between uses but its `notes`."""

    name: str
    is_thinned: bool
    """Whether balance and caps apply; a control is taken as it is drawn."""
    settings: Settings
    """What counts as progress."""
    notes: dict[str, str]
    """After judging: what the report should say of how it was done."""

    def judge(self, traces: Traces) -> Iterator[tuple[Turn, Verdict]]:
        """Every turn of the memory role once, in the order of `Traces.turns`."""
        ...


def provenance(
    progress: Mapping[str, Any] | None = None,
    evidence: Mapping[str, Any] | None = None,
    payoff: Mapping[str, Any] | None = None,
) -> ProvenanceSelector:
    """The provenance selector from plain data; UsageError for a field that it does not have."""
    return ProvenanceSelector(
        read(Settings, progress, "progress"),
        read(EvidenceSettings, evidence, "evidence"),
        read(PayoffSettings, payoff, "payoff"),
    )


def read(kind: type[Any], fields: Mapping[str, Any] | None, name: str) -> Any:
    """Settings from plain data; UsageError names the field and the nearest right one."""
    for field in fields or {}:
        if field not in kind.__struct_fields__:
            raise UsageError(no_such(f"field of selector.{name}", field, kind.__struct_fields__))
    try:
        return msgspec.convert(dict(fields or {}), kind)
    except msgspec.ValidationError as error:
        raise UsageError(f"selector.{name}: {error}") from None
