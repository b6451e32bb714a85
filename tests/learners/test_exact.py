"""Exact data: the very tokens of the trace, or a clear refusal."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from support.played_traces import SpyEngine, TokenEngine, diligent, play_trace

from automem.engine.render import ChatRenderer, decode, load_tokenizer
from automem.errors import UsageError
from automem.memory.dialects.tags import TagsDialect
from automem.trace.events import Event, Role, Turn
from automem_learners.dataset import DataKind, digest_ids, write_dataset
from automem_learners.exact import ExactReader, check_verbatim


@pytest.fixture(scope="module")
def events(base: str, tmp_path_factory: pytest.TempPathFactory) -> list[Event]:
    return play_trace(tmp_path_factory.mktemp("memory"), base)


@pytest.fixture(scope="module")
def reader(base: str) -> ExactReader:
    return ExactReader(base, TagsDialect())


def memory_turns(events: list[Event]) -> list[Turn]:
    return [e for e in events if isinstance(e, Turn) and e.role is Role.MEMORY]


def places(turns: list[Turn]) -> set[tuple[int, int]]:
    return {(turn.step, turn.turn) for turn in turns}


def with_turn(events: list[Event], turn: Turn, **changes: object) -> list[Event]:
    """The trace with one turn changed."""
    return [msgspec.structs.replace(e, **changes) if e is turn else e for e in events]


def test_prompts_render_to_the_recorded_digest_over_whole_episodes(
    events: list[Event], reader: ExactReader
) -> None:
    turns = memory_turns(events)
    rows = list(reader.conversations(events, places(turns)))
    assert len(rows) == len(turns) > 6
    for row, turn in zip(rows, turns, strict=True):
        context = row.token_ids[row.weights == 0]
        assert digest_ids(context) == turn.prompt_ids == row.prompt_digest
        assert (row.step, row.turn) == (turn.step, turn.turn)
        assert row.kind in (turn.routine, "handover")


def test_only_the_selected_turn_is_trained_earlier_ones_are_context(
    base: str, events: list[Event], reader: ExactReader
) -> None:
    second = next(t for t in memory_turns(events) if t.turn == 1 and t.routine == "plan")
    [row] = reader.conversations(events, {(second.step, second.turn)})
    tokenizer = load_tokenizer(base)
    assert "TAIL" in decode(tokenizer, row.token_ids[row.weights > 0].tolist())
    context = decode(tokenizer, row.token_ids[row.weights == 0].tolist())
    assert "<|READ|>notes.txt<|END|>" in context
    assert np.all(np.diff(np.flatnonzero(row.weights)) == 1)


def test_what_follows_the_last_operation_is_cut_and_the_turn_closed(
    base: str, events: list[Event], reader: ExactReader
) -> None:
    [row] = reader.conversations(events, {(0, 0)})  # "<|READ|>...<|END|> and then I shall go"
    trained = row.token_ids[row.weights > 0].tolist()
    renderer, tokenizer = ChatRenderer(base), load_tokenizer(base)
    assert trained[-1] == renderer.turn_end
    assert decode(tokenizer, trained[:-1]) == "<|READ|>notes.txt<|END|>"
    assert row.messages[-1] == ("assistant", "<|READ|>notes.txt<|END|>")


def test_the_end_of_a_cut_turn_is_the_only_synthetic_token(
    events: list[Event], reader: ExactReader
) -> None:
    for turn in memory_turns(events):
        [row] = reader.conversations(events, {(turn.step, turn.turn)})
        trained = row.token_ids[row.weights > 0].tolist()
        assert row.synthetic in (0, 1)
        generated = trained[: len(trained) - row.synthetic]
        assert turn.token_ids is not None
        assert generated == turn.token_ids[: len(generated)]
        assert row.logprobs is not None
        assert np.count_nonzero(row.logprobs) == len(generated)


def test_log_keeps_the_done_that_ends_it(
    base: str, events: list[Event], reader: ExactReader
) -> None:
    first_log = next(t for t in memory_turns(events) if t.routine == "log")
    [row] = reader.conversations(events, {(first_log.step, first_log.turn)})
    said = row.messages[-1][1]
    assert said.startswith("A note:")
    assert said.endswith("<|DONE|>")
    assert "Enough said" not in decode(load_tokenizer(base), row.token_ids.tolist())


def test_a_turn_that_hands_over_trains_the_opening_of_its_commit_and_not_the_action(
    base: str, tmp_path: Path
) -> None:
    events = play_trace(tmp_path, base, lambda view, request: "<|ACTION|>go<|END|>", steps=1)
    [row] = ExactReader(base, TagsDialect()).conversations(events, {(0, 0)})
    trained = row.token_ids[row.weights > 0].tolist()
    assert decode(load_tokenizer(base), trained) == "<|ACTION|>"
    assert (row.kind, row.synthetic) == ("handover", 0)


def test_an_action_behind_reasoning_leaves_nothing_to_train(base: str, tmp_path: Path) -> None:
    said = "I had better go. <|ACTION|>go<|END|>"
    events = play_trace(tmp_path, base, lambda view, request: said, steps=1)
    assert list(ExactReader(base, TagsDialect()).conversations(events, {(0, 0)})) == []


def test_a_turn_cut_off_by_its_length_is_not_taught_to_end(
    base: str, events: list[Event], reader: ExactReader, tmp_path: Path
) -> None:
    engine = TokenEngine(lambda view, request: "<|LIST|><|END|>", base, closes=False)
    events = play_trace(tmp_path, base, engine=engine, steps=1)
    turn = memory_turns(events)[0]
    [row] = reader.conversations(
        with_turn(events, turn, finish_reason="length"), {(turn.step, turn.turn)}
    )
    assert row.synthetic == 0
    assert row.token_ids[-1] != ChatRenderer(base).turn_end


def test_another_tokenizer_is_noticed(events: list[Event], tmp_path: Path) -> None:
    from support.tiny_model import build_tokenizer

    build_tokenizer(tmp_path, vocab_size=300)
    reader = ExactReader(str(tmp_path), TagsDialect())
    with pytest.raises(UsageError, match="does not render to the tokens that were played"):
        list(reader.conversations(events, {(0, 0)}))


def test_tokens_that_do_not_say_the_text_are_noticed(
    events: list[Event], reader: ExactReader
) -> None:
    turn = memory_turns(events)[0]
    assert turn.token_ids is not None
    wrong = with_turn(events, turn, token_ids=[*turn.token_ids[1:]])
    with pytest.raises(UsageError, match="do not say the recorded text"):
        list(reader.conversations(wrong, {(turn.step, turn.turn)}))


def test_a_trace_without_token_ids_is_refused_with_the_reason(base: str, tmp_path: Path) -> None:
    events = play_trace(tmp_path, base, engine=SpyEngine(diligent))
    with pytest.raises(UsageError, match=r"holds no token ids.*make `published` data"):
        list(ExactReader(base, TagsDialect()).conversations(events, {(0, 0)}))


def test_turns_of_the_gameplay_role_are_no_training_data(
    events: list[Event], reader: ExactReader
) -> None:
    commit = next(e for e in events if isinstance(e, Turn) and e.role is Role.GAMEPLAY)
    with pytest.raises(UsageError, match="gameplay role's: its model stays untouched"):
        list(reader.conversations(events, {(commit.step, commit.turn)}))


def test_a_selection_from_another_trace_is_refused(
    events: list[Event], reader: ExactReader
) -> None:
    with pytest.raises(UsageError, match="no turn 77 in step 1"):
        list(reader.conversations(events, {(0, 0), (1, 77)}))


def test_training_on_verbatim_turns_is_checked_against_the_trace(
    base: str, events: list[Event], reader: ExactReader, tmp_path: Path
) -> None:
    """Defect of the reference: the "verbatim" turns were never compared with the trace."""
    rows = list(reader.conversations(events, places(memory_turns(events))))
    made = {"kind": DataKind.EXACT, "base_model": base, "made_by": "a test"}
    dataset = write_dataset(tmp_path / "good", rows, **made)
    assert check_verbatim(dataset, events, base, TagsDialect()) == len(rows)
    rows[2].token_ids[3] += 1
    changed = write_dataset(tmp_path / "bad", rows, **made)
    with pytest.raises(UsageError, match="tokens are not those of the trace"):
        check_verbatim(changed, events, base, TagsDialect())
