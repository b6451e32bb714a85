"""Reviewers that are models: a conversation with tools until a revision is submitted.

The model studies the traces with the toolbox and calls `submit_revision`. What breaks a constraint
is answered with what is wrong, and it may submit again; its last submission is given as it is, for
the lineage to record. Promise: every call, answer and cost stands in `transcript.jsonl` of the
request's workspace as it happens; the budget ends a review; an endpoint that is down is a
ReviewError that may be tried again. Not covered: going on with a conversation after a kill; it
begins anew.
"""

import asyncio
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from automem.agent.scaffold_files import HOOKS
from automem.loops.reviewers.brief import FORMAT, METHOD, situation
from automem.loops.reviewers.budget import Account, read_limits
from automem.loops.reviewers.constraints import check_revision, explain
from automem.loops.reviewers.interface import (
    ReviewError,
    ReviewRequest,
    Revision,
    Tool,
    Toolbox,
)
from automem.loops.reviewers.plain_text import is_unicode, unicode_only
from automem.loops.reviewers.ranges import check_least
from automem.loops.reviewers.speaking import (
    EndpointError,
    Result,
    Said,
    Speaker,
    Told,
    ToolUse,
    Turn,
)

SUBMIT = Tool(
    "submit_revision",
    "Give the revised scaffold. Only files that change need to be there; each is given whole.",
    {
        "type": "object",
        "properties": {
            "files": {
                "type": "object",
                "description": "file name to its whole new text, such as scaffold.yaml",
                "additionalProperties": {"type": "string"},
            },
            "reasons": {
                "type": "string",
                "description": "first a title on one line; then what in the episodes speaks for it",
            },
            "knowledge": {
                "type": "array",
                "items": {"type": "string"},
                "description": "added lines that are knowledge of the task, word for word",
            },
        },
        "required": ["files", "reasons"],
        "additionalProperties": False,
    },
)
_ASK = "Study the episodes with the tools, then call submit_revision once."
_NUDGE = "Go on with a tool; submit_revision ends the review."
_HURRY = "The budget is nearly used up: call submit_revision now."
_HURRY_AT = 0.8
_DROPPED = "(dropped to make room; ask again for what you still need)"
_KEPT_RESULTS = 4


class _Submission(msgspec.Struct, forbid_unknown_fields=True):
    files: dict[str, str]
    reasons: str
    knowledge: list[str] = []


class ModelReviewer:
    """See the module's docstring."""

    def __init__(
        self,
        name: str,
        speaker: Speaker,
        *,
        budget: Mapping[str, Any],
        prices: Mapping[str, Any],
        submissions: int = 3,
        context_tokens: int = 150_000,
        most_idle: int = 3,
    ) -> None:
        """`submissions`: how often it may submit; the last one stands. `context_tokens`: longest
        prompt; older results of tools are dropped before it is reached. `most_idle`: answers in a
        row without a tool call before the review is over."""
        for option, value in (
            ("submissions", submissions),
            ("context_tokens", context_tokens),
            ("most_idle", most_idle),
        ):
            check_least(option, value, 1)
        self.name = name
        self._speaker = speaker
        self._limits, self._prices = read_limits(budget, prices)
        self._submissions = submissions
        self._context_tokens = context_tokens
        self._most_idle = most_idle

    async def review(self, request: ReviewRequest, toolbox: Toolbox) -> Revision:
        """See `Reviewer`."""
        account = Account(self._limits, self._prices)
        log = _Transcript(request.workspace / "transcript.jsonl")
        log.add("review", reviewer=self.name, model=self._speaker.model, parent=request.parent)
        try:
            async with asyncio.timeout(self._limits.seconds):
                revision = await _Review(self, request, toolbox, account, log).run()
        except TimeoutError:
            raise self._over(f"{self._limits.seconds:g} seconds", account, log) from None
        except EndpointError as error:
            log.add("failed", error=str(error), spent=msgspec.to_builtins(account.spent))
            raise ReviewError(
                f"{self.name}: {error}", is_retryable=error.may_pass, spent=account.spent
            ) from error
        finally:
            await self._speaker.close()
        log.add("revision", spent=msgspec.to_builtins(revision.spent))
        return revision

    def _over(self, limit: str, account: Account, log: "_Transcript") -> ReviewError:
        log.add("failed", error=f"budget used up: {limit}")
        return ReviewError(
            f"{self.name}: the budget of {limit} is used up without a revision",
            is_retryable=False,
            spent=account.spent,
        )


class _Review:
    """One review under way."""

    def __init__(
        self,
        reviewer: ModelReviewer,
        request: ReviewRequest,
        toolbox: Toolbox,
        account: Account,
        log: "_Transcript",
    ) -> None:
        self._by, self._request, self._toolbox = reviewer, request, toolbox
        self._account, self._log = account, log
        self._turns: list[Turn] = [Told(text=f"{situation(request)}\n\n{_ASK}")]
        self._submitted = 0
        self._idle = 0

    async def run(self) -> Revision:
        by = self._by
        log, account, turns = self._log, self._account, self._turns
        log.add("told", text=turns[0].text)
        tools = (*self._toolbox.tools, SUBMIT)
        while True:
            used, limit = account.share()
            if used >= 1:
                raise by._over(limit, account, log)
            said = await by._speaker.answer(f"{METHOD}\n{FORMAT}", turns, tools)
            account.add(said.tokens_in, said.tokens_out)
            log.add("said", **_shown(said))
            said = _sendable(said)
            turns.append(said)
            revision, told = await self._answer(said)
            if revision is not None:
                return revision
            if account.share()[0] >= _HURRY_AT:
                told = msgspec.structs.replace(told, text=f"{told.text}\n{_HURRY}".strip())
            log.add("told", **msgspec.to_builtins(told))
            turns.append(told)
            if said.tokens_in + said.tokens_out > 0.8 * by._context_tokens:
                _make_room(turns)

    async def _answer(self, said: Said) -> tuple[Revision | None, Told]:
        results: list[Result] = []
        for use in said.uses:
            if use.problem:
                results.append(Result(use.id, f"error: {use.problem}"))
            elif use.name == SUBMIT.name:
                revision, text = await asyncio.to_thread(self._submit, use)
                if revision is not None:
                    return revision, Told()
                results.append(Result(use.id, text))
            else:
                text = await asyncio.to_thread(self._toolbox.call, use.name, use.arguments)
                results.append(Result(use.id, text))
        self._idle = 0 if said.uses else self._idle + 1
        if self._idle >= self._by._most_idle:
            raise ReviewError(
                f"{self._by.name}: {self._idle} answers in a row used no tool and gave no revision",
                is_retryable=False,
                spent=self._account.spent,
            )
        return None, Told(tuple(results), "" if said.uses else _NUDGE)

    def _submit(self, use: ToolUse) -> tuple[Revision | None, str]:
        """The revision, or what is wrong with it while it may be mended."""
        self._submitted += 1
        is_last = self._submitted >= self._by._submissions
        left = f"You may submit {self._by._submissions - self._submitted} more times."
        try:
            given = msgspec.convert(use.arguments, _Submission)
        except msgspec.ValidationError as error:
            if is_last:
                raise ReviewError(
                    f"{self._by.name}: {self._submitted} submissions, the last one malformed: "
                    f"{error}",
                    is_retryable=False,
                    spent=self._account.spent,
                ) from error
            return None, f"error: the submission is malformed: {error}. {left}"
        files = {**self._request.files, **given.files}
        if not files.get(HOOKS, "x").strip():
            del files[HOOKS]
        wrong = check_revision(self._request.files, files, self._request.rules)
        if wrong and not is_last:
            return None, f"This revision cannot be played:\n{explain(wrong)}\n{left}"
        revision = Revision(
            files=files,
            reasons=given.reasons,
            knowledge=tuple(given.knowledge),
            reviewer=self._by.name,
            spent=self._account.spent,
        )
        return revision, ""


def _sendable(said: Said) -> Said:
    """The turn without halves of surrogate pairs, which tools, files and requests cannot take; a
    call that has one is answered with that and not carried out."""
    uses = [
        use
        if is_unicode([use.id, use.name, use.arguments])
        else ToolUse(unicode_only(use.id), unicode_only(use.name), {}, "not Unicode text")
        for use in said.uses
    ]
    return msgspec.structs.replace(
        said, text=unicode_only(said.text), uses=tuple(uses), raw=unicode_only(said.raw)
    )


def _make_room(turns: list[Turn]) -> None:
    """Drop what tools answered, all but the last few turns of it."""
    told = [index for index, turn in enumerate(turns) if isinstance(turn, Told) and turn.results]
    for index in told[:-_KEPT_RESULTS]:
        turn = turns[index]
        assert isinstance(turn, Told)
        turns[index] = Told(tuple(Result(r.id, _DROPPED) for r in turn.results), turn.text)


def _shown(said: Said) -> dict[str, Any]:
    return {
        "text": said.text,
        "uses": msgspec.to_builtins(said.uses),
        "tokens_in": said.tokens_in,
        "tokens_out": said.tokens_out,
        "stopped": said.stopped,
    }


class _Transcript:
    """Appended to as things happen, so that it tells of a killed review, too."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path

    def add(self, what: str, **values: Any) -> None:
        line = json.dumps({"what": what, "at": time.time(), **values}, ensure_ascii=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
