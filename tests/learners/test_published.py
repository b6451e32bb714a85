"""The published rules, one by one, and the conversations they make."""

from pathlib import Path

import pytest
from support.agent_harness import SpyEngine
from support.played_traces import diligent, play_trace

from automem.agent.prompt_view import PromptView
from automem.engine.protocol import GenerateRequest
from automem.engine.render import decode, load_tokenizer
from automem.memory.dialects.tags import TagsDialect
from automem.trace.events import Event, Routine
from automem_learners.published import (
    PublishedReader,
    cut_after_last_op,
    has_code_fence,
    trained_text,
    up_to_done,
    without_commit,
)

DIALECT = TagsDialect()
NOTE = "<|APPEND|>a.txt|x<|END|>"
LOOK = "<|READ|>a.txt<|END|>"
GO = "<|ACTION|>go<|END|>"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"{NOTE}<|DONE|>", f"{NOTE}<|DONE|>"),
        (f"{NOTE}<|DONE|> and more {NOTE}", f"{NOTE}<|DONE|>"),
        (f"{NOTE} no end", f"{NOTE} no end"),
    ],
)
def test_log_goes_up_to_done(text: str, left: str) -> None:
    assert up_to_done(text, DIALECT.parse(text)) == left


@pytest.mark.parametrize(
    ("text", "left"),
    [(f"{LOOK} so {GO} then", f"{LOOK} so "), (LOOK, LOOK), (GO, "")],
)
def test_the_commit_is_stripped_from_plan(text: str, left: str) -> None:
    assert without_commit(text, DIALECT.parse(text)) == left


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"why: {LOOK} and so on", f"why: {LOOK}"),
        (f"{LOOK}{NOTE} ...", f"{LOOK}{NOTE}"),
        (f"{NOTE}\n<|DONE|>", f"{NOTE}\n<|DONE|>"),
        ("no operation <|DONE|>", ""),
        ("nothing", ""),
    ],
)
def test_what_follows_the_last_operation_is_cut(text: str, left: str) -> None:
    assert cut_after_last_op(text, DIALECT.parse(text)) == left


def test_a_code_fence_is_seen() -> None:
    assert has_code_fence(f"```\n{LOOK}\n```")
    assert not has_code_fence(f"`{LOOK}`")


def test_the_rules_are_applied_per_routine() -> None:
    assert trained_text(f"{LOOK} hm {GO}", Routine.PLAN, DIALECT) == LOOK
    assert trained_text(f"{NOTE}<|DONE|> bye", Routine.LOG, DIALECT) == f"{NOTE}<|DONE|>"


@pytest.fixture(scope="module")
def chat_events(tmp_path_factory: pytest.TempPathFactory) -> list[Event]:
    """A trace of a chat engine: texts alone."""
    return play_trace(tmp_path_factory.mktemp("memory"), "", engine=SpyEngine(diligent))


def test_routines_of_chat_engines_become_conversations(base: str, chat_events: list[Event]) -> None:
    rows = list(PublishedReader(base, DIALECT).conversations(chat_events))
    assert {row.kind for row in rows} == {"log", "plan"}
    tokenizer = load_tokenizer(base)
    for row in rows:
        trained = decode(tokenizer, row.token_ids[row.weights > 0].tolist())
        assert "ACTION" not in trained
        assert "Enough said" not in trained
        assert row.logprobs is None


def test_every_turn_of_a_routine_is_trained_its_results_are_context(
    base: str, chat_events: list[Event]
) -> None:
    rows = list(PublishedReader(base, DIALECT).conversations(chat_events))
    plan = next(row for row in rows if row.kind == "plan" and row.step == 1)
    tokenizer = load_tokenizer(base)
    trained = decode(tokenizer, plan.token_ids[plan.weights > 0].tolist())
    assert trained == "<|READ|>notes.txt<|END|><|im_end|><|TAIL|>notes.txt|1<|END|><|im_end|>"
    context = decode(tokenizer, plan.token_ids[plan.weights == 0].tolist())
    assert "# results" in context
    whole = decode(tokenizer, plan.token_ids.tolist())
    assert whole.endswith("<|TAIL|>notes.txt|1<|END|><|im_end|>")


def test_only_selected_routines_are_taken(base: str, chat_events: list[Event]) -> None:
    [row] = PublishedReader(base, DIALECT).conversations(chat_events, {(1, 0)})
    assert (row.step, row.kind) == (1, "log")


def test_routines_without_an_operation_or_with_a_code_fence_are_dropped(
    base: str, tmp_path: Path
) -> None:
    def fenced(view: PromptView, request: GenerateRequest) -> str:
        if view.wants_commit or view.routine == "plan":
            return GO
        return f"```\n{NOTE}\n```\n{LOOK}<|DONE|>" if not view.results else "<|DONE|>"

    events = play_trace(tmp_path, base, engine=SpyEngine(fenced))
    assert not list(PublishedReader(base, DIALECT).conversations(events))
