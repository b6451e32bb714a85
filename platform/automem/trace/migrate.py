"""Schema versions of traces: what this program reads, and the way there from older ones.

A journal's `EpisodeStarted` names its schema. The present one is read as it is; an older one goes
through `MIGRATIONS`, one step per version; a newer one, or one that no step leads away from, is
refused with what to do. A step takes one record as plain JSON and gives the records that replace
it: a version that needs more context than that needs a program, not a step.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import msgspec

from automem.errors import StoreError
from automem.trace.events import SCHEMA, Event

Record: TypeAlias = dict[str, Any]
Step: TypeAlias = Callable[[Record], list[Record]]

MIGRATIONS: dict[int, Step] = {}
"""From version n to n + 1. Empty: version 1 is the first that was ever written."""


def check_schema(
    version: int, current: int = SCHEMA, migrations: Mapping[int, Step] = MIGRATIONS
) -> None:
    """StoreError where a trace of this version cannot be read."""
    if version > current:
        raise StoreError(
            f"the trace has schema {version}, this program reads up to {current}: it was written "
            "by a newer AutoMem; update this one (pip install --upgrade automem)"
        )
    missing = [number for number in range(version, current) if number not in migrations]
    if missing:
        raise StoreError(
            f"the trace has schema {version}, this program reads {current} and knows no way from "
            f"{missing[0]} to {missing[0] + 1}; read it with the AutoMem that wrote it"
        )


def schema_of(records: Iterable[Mapping[str, Any]]) -> int:
    """The schema that the trace's `episode` record names; StoreError where there is none."""
    for record in records:
        if record.get("kind") == "episode":
            return int(record["schema"])
    raise StoreError("the trace holds no `episode` record: it is incomplete")


def upgrade(
    records: Iterable[Record],
    version: int,
    current: int = SCHEMA,
    migrations: Mapping[int, Step] = MIGRATIONS,
) -> Iterator[Record]:
    """The records of a trace of schema `version` as the present schema has them."""
    check_schema(version, current, migrations)
    for record in records:
        upgraded = [record]
        for number in range(version, current):
            upgraded = [new for old in upgraded for new in migrations[number](old)]
        for new in upgraded:
            yield {**new, "schema": current} if new.get("kind") == "episode" else new


def events_of(records: Iterable[Record]) -> list[Event]:
    """Events of a trace of any readable schema, from its records as plain JSON."""
    known = list(records)
    try:
        return [msgspec.convert(record, Event) for record in upgrade(known, schema_of(known))]
    except msgspec.ValidationError as error:
        raise StoreError(f"a record of the trace is not understood: {error}") from error
