import pytest
from support.traces import SYSTEM, play

import automem.trace.texts as texts_module
from automem.errors import StoreError
from automem.trace.blobs import blob_name
from automem.trace.events import Blob, Role, Routine, Turn
from automem.trace.texts import Texts, full_prompt


def test_a_turn_that_continues_another_shows_the_shared_messages_then_its_own():
    events = play(3)
    commit = next(e for e in events if isinstance(e, Turn) and e.role is Role.GAMEPLAY)
    prompt = full_prompt(events, commit.step, commit.turn)
    assert [role for role, _ in prompt] == ["system", "user", "user"]
    assert prompt[0][1] == SYSTEM
    assert prompt[1][1].startswith("# plan\n# observation\n")
    assert prompt[2][1] == "# commit"


def test_only_the_shared_beginning_of_the_base_is_taken():
    turns = [
        Turn(4, 0, Routine.PLAN, Role.MEMORY, [("system", "s"), ("user", "a")], "x"),
        Turn(4, 1, Routine.PLAN, Role.MEMORY, [("user", "b")], "y", base_turn=0, shared=1),
    ]
    assert full_prompt(turns, 4, 1) == [("system", "s"), ("user", "b")]


def test_a_turn_that_is_not_there_is_named():
    with pytest.raises(StoreError, match="no turn 9 in step 0"):
        full_prompt(play(3), 0, 9)


def test_a_missing_blob_says_that_the_journal_is_incomplete():
    name = blob_name("lost")
    with pytest.raises(StoreError, match=f"{name}, but holds no such blob"):
        Texts().resolve(name)
    assert Texts([Blob(name, "lost")]).resolve(name) == "lost"
    assert Texts().resolve("short") == "short"


def test_only_the_texts_used_last_are_held(monkeypatch):
    monkeypatch.setattr(texts_module, "MAX_TEXTS", 3)
    blobs = [Blob(blob_name(text), text) for text in ("static", "a", "b", "c", "d")]
    texts = Texts()
    for blob in blobs:
        texts.add(blob)
        assert texts.resolve(blobs[0].digest) == "static"
    with pytest.raises(StoreError):
        texts.resolve(blobs[1].digest)
