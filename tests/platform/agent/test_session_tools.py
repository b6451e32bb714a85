"""The session with an engine that answers in native tool calls."""

from collections.abc import Callable
from pathlib import Path

from support.agent_harness import CountingGame, SpyEngine, make_session, play

from automem.agent.roles import AgentOptions
from automem.engine.protocol import Completion, GenerateRequest, ToolCall
from automem.trace.events import Turn


class ToolEngine(SpyEngine):
    """Answers with native tool calls: a list of (name, arguments) instead of text."""

    def __init__(self, answer: Callable[[GenerateRequest], list[tuple[str, str]]]) -> None:
        super().__init__(lambda view, request: "")
        self._calls = answer

    async def generate(self, request: GenerateRequest) -> Completion:
        self.requests.append(request)
        calls = self._calls(request)
        return Completion(
            text="",
            finish_reason="tool_calls",
            tool_calls=tuple(
                ToolCall(f"{request.id}-{index}", name, arguments)
                for index, (name, arguments) in enumerate(calls)
            ),
        )


async def test_the_tools_dialect_answers_each_native_call_and_hands_over(tmp_path: Path) -> None:
    def answer(request: GenerateRequest) -> list[tuple[str, str]]:
        text = "\n".join(message.content for message in request.messages)
        if "# log" in text:
            return [("append", '{"file": "notes.txt", "text": "seen"}'), ("done", "{}")]
        if "# commit" in text:
            return [("commit_action", '{"action": "go"}')]
        if any(message.role == "tool" for message in request.messages):
            return [("commit_action", '{"action": "early"}')]
        return [("tail", '{"file": "notes.txt", "lines": 1}'), ("search", "not json")]

    engine = ToolEngine(answer)
    session, recorder, sandbox = make_session(
        tmp_path, engine, options=AgentOptions(dialect="tools")
    )
    assert await play(session, CountingGame(2)) == ["go", "go"]
    assert sandbox.read_text("notes.txt") == "seen\nseen\n"
    commit = engine.requests[2]
    assert [m.role for m in commit.messages] == [
        *("system", "user", "assistant", "tool", "tool"),
        "user",
    ]
    answered = {m.tool_call_id for m in commit.messages if m.role == "tool"}
    assert answered == {call.id for call in commit.messages[2].tool_calls}
    names = {tool["function"]["name"] for tool in commit.tools}
    assert {"commit_action", "tail"} <= names
    assert "append" not in names
    malformed = [
        turn.malformed for turn in recorder.events if isinstance(turn, Turn) and turn.malformed
    ]
    assert len(malformed) == 2
