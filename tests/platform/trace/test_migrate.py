import msgspec
import pytest
from support.traces import play

from automem.errors import StoreError
from automem.trace.events import SCHEMA, EpisodeStarted
from automem.trace.migrate import check_schema, events_of, schema_of, upgrade
from automem.trace.rows import rows
from automem.trace.story import tell


def test_the_present_schema_is_read_as_it_is():
    events = play(1, cards=8, max_steps=6)
    assert events_of([msgspec.to_builtins(event) for event in events]) == events


def test_a_newer_schema_is_refused_with_what_to_do():
    records = [{"kind": "episode", "schema": SCHEMA + 1}]
    with pytest.raises(StoreError, match="written by a newer AutoMem; update this one"):
        events_of(records)


def test_an_old_schema_without_a_way_here_is_refused():
    with pytest.raises(StoreError, match=r"knows no way from 0 to 1"):
        check_schema(0)


def test_migration_steps_are_taken_one_version_after_the_other():
    def split(record):  # 0 -> 1: what was one record of two parts becomes two
        if record["kind"] != "both":
            return [record]
        return [{"kind": "a", "v": record["v"]}, {"kind": "b", "v": record["v"]}]

    def double(record):  # 1 -> 2
        return [{**record, "v": record["v"] * 2} if "v" in record else record]

    old = [{"kind": "episode", "schema": 0}, {"kind": "both", "v": 3}]
    new = list(upgrade(old, 0, current=2, migrations={0: split, 1: double}))
    assert new == [
        {"kind": "episode", "schema": 2},
        {"kind": "a", "v": 6},
        {"kind": "b", "v": 6},
    ]


def test_a_trace_without_its_first_record_is_incomplete():
    with pytest.raises(StoreError, match="no `episode` record"):
        schema_of([{"kind": "attempt"}])


def test_tables_and_stories_refuse_a_trace_of_a_newer_schema():
    events = play(1, cards=8, max_steps=6)
    newer = [
        msgspec.structs.replace(e, schema=SCHEMA + 1) if isinstance(e, EpisodeStarted) else e
        for e in events
    ]
    for read in (tell, lambda found: list(rows(found))):
        with pytest.raises(StoreError, match="written by a newer AutoMem"):
            read(newer)
