import msgspec
from support.traces import play

from automem.trace.compare import canonical, first_difference
from automem.trace.events import Attempt, Blob, Committed, Failed, Observed, Turn


def test_times_hosts_attempts_and_failures_do_not_make_a_difference():
    events = play(3)
    other = []
    for event in events:
        match event:
            case Observed():
                event = msgspec.structs.replace(event, time=9.0, world_s=9.0)
            case Turn():
                event = msgspec.structs.replace(event, seconds=9.0, cached_tokens=0)
            case Committed():
                other.append(Failed(event.step, "engine", "timed out", True))
        other.append(event)
    other.insert(40, Attempt(2, 1, 40, "host-b", 1, 0.0))
    assert first_difference(events, other) == ""


def test_texts_are_compared_by_content_not_by_when_they_were_stored():
    events = play(3)
    blobs = [event for event in events if isinstance(event, Blob)]
    others = [event for event in events if not isinstance(event, Blob)]
    assert first_difference(events, [*blobs, *blobs, *others]) == ""
    assert not any(record["kind"] == "blob" for record in canonical(events))


def test_the_first_difference_is_named_with_its_step_field_and_both_values():
    events = play(3)
    place = next(i for i, e in enumerate(events) if isinstance(e, Committed) and e.step == 5)
    changed = [*events]
    changed[place] = msgspec.structs.replace(events[place], action="flip 99")
    said = first_difference(events, changed)
    assert "(step 5)" in said
    assert "commit: action:" in said
    assert "flip 99" in said


def test_a_trace_that_stops_early_is_a_difference():
    events = play(3)
    assert "only the first trace goes on, with " in first_difference(events, events[:-1])


def test_a_line_of_memory_that_looks_like_a_blob_name_is_just_a_line():
    name = "b:" + "0" * 32
    events = play(3)
    place = next(i for i, e in enumerate(events) if getattr(e, "edit", None) and e.edit.inserted)
    edit = msgspec.structs.replace(events[place].edit, inserted=name)
    events[place] = msgspec.structs.replace(events[place], edit=edit)
    assert any(record.get("edit", {}) and name in str(record) for record in canonical(events))
