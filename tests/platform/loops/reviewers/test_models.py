"""Reviewers that are models, by the official clients, against a recorded one."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.reviewer_server import (
    Call,
    ReviewerServer,
    Say,
    Silence,
    Status,
    Step,
    serving,
    submit,
)
from support.reviews import START, failed, node, played, request

from automem.config import conf_dir
from automem.errors import UsageError
from automem.loops.reviewers.budget import read_limits
from automem.loops.reviewers.interface import ReviewError, ReviewRequest, Revision
from automem.loops.reviewers.toolbox import TraceToolbox

openai = pytest.importorskip("openai", reason="pip install 'automem[reviewers]'")
anthropic = pytest.importorskip("anthropic", reason="pip install 'automem[reviewers]'")

SHOWN = START["scaffold.yaml"].replace("purpose: card rank}", "purpose: card rank, show_last: 9}")
GOOD = submit({"scaffold.yaml": SHOWN}, "show nine lines\nmost searches find nothing")
WORDING = submit({"log.system.j2": START["log.system.j2"] + "\nwrite what you see\n"})
PROTOCOLS = ("openai", "anthropic")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return played(tmp_path_factory.mktemp("runs") / "study", 2)


def reviewer(protocol: str, server: ReviewerServer, **changes: Any) -> Any:
    from automem.loops.reviewers.anthropic import anthropic_reviewer
    from automem.loops.reviewers.openai import openai_reviewer

    if protocol == "openai":
        return openai_reviewer("recorded", server.openai_url, **changes)
    return anthropic_reviewer("recorded", server.anthropic_url, **changes)


def ask(protocol: str, server: ReviewerServer, asked: ReviewRequest, **changes: Any) -> Revision:
    return asyncio.run(
        reviewer(protocol, server, **changes).review(asked, TraceToolbox(asked.runs))
    )


def transcript(asked: ReviewRequest) -> list[dict[str, Any]]:
    lines = (asked.workspace / "transcript.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_model_studies_the_traces_and_submits(protocol: str, tmp_path: Path, run: Path) -> None:
    steps: Sequence[Step] = [
        (Call("list_episodes"), Call("findings")),
        Call("read_steps", {"episode": "concentration-1-0", "first": 3, "last": 4}),
        GOOD,
    ]
    asked = request(tmp_path, run, history=(node("n1", "one file only", gain=-0.01),))
    with serving(steps) as server:
        revision = ask(protocol, server, asked, prices={"input": 2.0, "output": 10.0})
        assert server.told("one file only")  # the lineage
        assert server.told("empty_searches: ")  # an answer of the toolbox
        assert server.told("== step 3, progression")
        assert len(server.requests) == 3
    assert revision.files == {**START, "scaffold.yaml": SHOWN}
    assert revision.reasons.startswith("show nine lines")
    assert revision.reviewer == protocol
    assert (revision.spent.tokens_in, revision.spent.tokens_out) == (3_000, 300)
    assert revision.spent.money == pytest.approx(3_000 * 2e-6 + 300 * 10e-6)
    kinds = [entry["what"] for entry in transcript(asked)]
    assert kinds == ["review", "told", "said", "told", "said", "told", "said", "revision"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_broken_constraint_is_told_and_can_be_mended(
    protocol: str, tmp_path: Path, run: Path
) -> None:
    with serving([WORDING, GOOD]) as server:
        revision = ask(protocol, server, request(tmp_path, run))
        assert server.told("only wording differs")
    assert revision.files["scaffold.yaml"] == SHOWN


def test_the_last_submission_stands_though_it_breaks_a_constraint(
    tmp_path: Path, run: Path
) -> None:
    with serving([WORDING, WORDING]) as server:
        revision = ask("openai", server, request(tmp_path, run), submissions=2)
    assert revision.files["log.system.j2"] != START["log.system.j2"]


@pytest.mark.parametrize(
    "malformed",
    [
        Call("submit_revision", {"files": "all of them"}),
        Call("submit_revision", '{"files": {'),
        Call("submit_revision", "[1, 2]"),
        Call("submit_revisions", {}),
        submit({"../../etc/passwd": "x", "scaffold.yaml": "files: ["}),
    ],
)
def test_a_malformed_revision_is_told_and_can_be_mended(
    malformed: Call, tmp_path: Path, run: Path
) -> None:
    with serving([malformed, GOOD]) as server:
        revision = ask("openai", server, request(tmp_path, run))
        assert len(server.requests) == 2
    assert revision.files["scaffold.yaml"] == SHOWN


def test_only_malformed_revisions_spend_the_attempt(tmp_path: Path, run: Path) -> None:
    with (
        serving([Call("submit_revision", {"reasons": "none"})] * 2) as server,
        pytest.raises(ReviewError, match="the last one malformed") as caught,
    ):
        ask("anthropic", server, request(tmp_path, run), submissions=2)
    assert not caught.value.is_retryable
    assert caught.value.spent.calls == 2


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_full_endpoint_is_asked_again_when_it_says(
    protocol: str, tmp_path: Path, run: Path
) -> None:
    with serving([Status(429, retry_after="1"), GOOD]) as server:
        revision = ask(protocol, server, request(tmp_path, run))
        assert server.times[1] - server.times[0] >= 0.95
    assert revision.files["scaffold.yaml"] == SHOWN


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_silent_endpoint_is_asked_again(protocol: str, tmp_path: Path, run: Path) -> None:
    with serving([Silence(20), GOOD]) as server:
        revision = ask(protocol, server, request(tmp_path, run), timeout_s=0.5)
        assert len(server.requests) == 2
    assert revision.files["scaffold.yaml"] == SHOWN


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_endpoint_that_stays_away_leaves_the_attempt_to_be_made(
    protocol: str, tmp_path: Path, run: Path
) -> None:
    with (
        serving([Status(503)] * 4) as server,
        pytest.raises(ReviewError, match="503") as caught,
    ):
        ask(protocol, server, request(tmp_path, run), retries=1)
    assert caught.value.is_retryable


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_wrong_key_or_model_is_the_persons_to_mend(
    protocol: str, tmp_path: Path, run: Path
) -> None:
    with (
        serving([Status(401)]) as server,
        pytest.raises(UsageError, match=r"refuses \(401\).*\n.*reviewer.model"),
    ):
        ask(protocol, server, request(tmp_path, run))


@pytest.mark.parametrize(
    ("budget", "limit"),
    [({"tokens": 5_000}, "5000 tokens"), ({"calls": 5}, "5 calls"), ({"money": 0.0045}, "money")],
)
def test_a_budget_ends_a_review(
    budget: dict[str, float], limit: str, tmp_path: Path, run: Path
) -> None:
    with (
        serving([Call("list_episodes")] * 9) as server,
        pytest.raises(ReviewError, match=f"{limit}.* used up") as caught,
    ):
        ask("openai", server, request(tmp_path, run), budget=budget, prices={"input": 1.0})
    assert not caught.value.is_retryable
    assert caught.value.spent.calls == len(server.requests) <= 5
    assert server.told("call submit_revision now")


def test_time_is_a_budget_even_in_the_middle_of_a_call(tmp_path: Path, run: Path) -> None:
    asked = request(tmp_path, run)
    with (
        serving([Silence(20)]) as server,
        pytest.raises(ReviewError, match=r"0\.5 seconds is used up"),
    ):
        ask("anthropic", server, asked, budget={"seconds": 0.5})
    assert transcript(asked)[-1]["what"] == "failed"


def test_talk_without_a_tool_is_nudged_and_then_over(tmp_path: Path, run: Path) -> None:
    with (
        serving([Say("let me think"), Say(""), Say("done")]) as server,
        pytest.raises(ReviewError, match="used no tool"),
    ):
        ask("anthropic", server, request(tmp_path, run))
    assert server.told("submit_revision ends the review")


def test_what_the_model_thought_goes_back_to_it(tmp_path: Path, run: Path) -> None:
    with serving([Call("list_episodes"), GOOD]) as server:
        ask("anthropic", server, request(tmp_path, run))
        assert server.told('"signature": "signed"')


def test_old_results_make_room_in_a_long_review(tmp_path: Path, run: Path) -> None:
    with serving([Call("list_episodes")] * 7 + [GOOD]) as server:
        ask("openai", server, request(tmp_path, run), context_tokens=1_000)
        results = [m for m in server.requests[-1]["messages"] if m["role"] == "tool"]
    assert ["dropped" in result["content"] for result in results] == [True] * 3 + [False] * 4


def test_a_continuation_is_shown_what_became_of_it(tmp_path: Path, run: Path) -> None:
    lost = node("n3", "show all", error="plan.j2 line 3: unexpected end")
    asked = request(tmp_path, run, failed=failed(lost, dict(START)))
    with serving([GOOD]) as server:
        ask("openai", server, asked)
        assert server.told("Your last revision did not stand")
        assert server.told("plan.j2 line 3: unexpected end")


def test_no_key_is_sent_to_a_file_or_a_transcript(
    tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    asked = request(tmp_path, run)
    with serving([GOOD]) as server:
        ask("openai", server, asked)
        assert server.headers[0]["Authorization"] == "Bearer sk-very-secret"
    assert "sk-very-secret" not in (asked.workspace / "transcript.jsonl").read_text()


def test_without_a_key_or_an_address_it_says_so_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from automem.loops.reviewers.openai import openai_reviewer

    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(UsageError, match="OPENAI_API_KEY is not set"):
        openai_reviewer("some-model")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budget": {"token": 5}}, "tokens"),
        ({"budget": {"money": 1.0}}, "reviewer.prices"),
        ({"budget": {"calls": 0}}, "above 0"),
        ({"submissions": 0}, "submissions"),
    ],
)
def test_wrong_settings_are_told_before_anything_is_spent(
    changes: dict[str, Any], message: str
) -> None:
    from automem.loops.reviewers.openai import openai_reviewer

    with pytest.raises(UsageError, match=message):
        openai_reviewer("m", "http://127.0.0.1:9/v1", **changes)


HALF = "\ud83d"
"""Half of a surrogate pair: JSON can spell it, nothing else can hold it."""


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "call",
    [
        Call("search", {"text": HALF}),
        Call("sql", {"query": f"select '{HALF}'"}),
        Call(f"search{HALF}", {"text": "owl"}),
        submit({"plan.j2": HALF}),
        submit({HALF: "x"}),
        submit({"scaffold.yaml": SHOWN}, f"show nine lines {HALF}"),
        submit({"scaffold.yaml": SHOWN}, knowledge=[HALF]),
    ],
)
def test_half_a_surrogate_pair_in_a_call_is_told_and_the_review_goes_on(
    protocol: str, call: Call, tmp_path: Path, run: Path
) -> None:
    with serving([call, GOOD]) as server:
        revision = ask(protocol, server, request(tmp_path, run))
        assert server.told("error: not Unicode text")
    assert revision.files["scaffold.yaml"] == SHOWN


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_half_a_surrogate_pair_in_what_is_said_does_not_stop_the_review(
    protocol: str, tmp_path: Path, run: Path
) -> None:
    with serving([Say(f"hm {HALF}"), GOOD]) as server:
        assert ask(protocol, server, request(tmp_path, run)).files["scaffold.yaml"] == SHOWN
        assert server.told("hm ?")


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("retries", -1),
        ("retries", None),
        ("timeout_s", 0),
        ("max_tokens", 0),
        ("submissions", 0),
        ("context_tokens", None),
        ("most_idle", 0),
    ],
)
def test_a_number_that_cannot_work_is_told_by_its_name(
    protocol: str, option: str, value: Any
) -> None:
    with (
        serving([]) as server,
        pytest.raises(UsageError, match=rf"reviewer\.{option} must be at least"),
    ):
        reviewer(protocol, server, **{option: value})


def test_the_openai_client_leaves_the_attempt_to_be_made_where_it_would_wait_for_long(
    tmp_path: Path, run: Path
) -> None:
    """As docs/reviewers.md says."""
    with serving([Status(429, retry_after="121"), GOOD]) as server:
        with pytest.raises(ReviewError, match="429") as caught:
            ask("openai", server, request(tmp_path, run))
        assert len(server.requests) == 1
    assert caught.value.is_retryable


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_limit_may_be_null_where_the_configuration_says_so(protocol: str) -> None:
    lines = (conf_dir() / "reviewer" / f"{protocol}.yaml").read_text().splitlines()
    begin = next(n for n, line in enumerate(lines) if line.startswith("budget:"))
    assert "null" not in lines[begin]
    for line in lines[begin + 1 : begin + 5]:
        name = line.partition(":")[0].strip()
        if "null: no limit" in line:
            assert getattr(read_limits({name: None}, {})[0], name) is None
        else:
            with pytest.raises(UsageError, match=name):
                read_limits({name: None}, {})
