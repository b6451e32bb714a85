"""Bodies of requests and answers over HTTP, as the OpenAPI page shows them.

Completions take unknown fields silently, as OpenAI's clients send many; everything else refuses
them.
"""

import json
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from automem.trace.events import Outcome
from automem_serving.episodes import NewEpisode

_Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]
_Finite = Annotated[float, Field(allow_inf_nan=False)]
"""What a journal can hold, so that a retry compares equal."""


class _Body(BaseModel):
    """A request's body. Half a surrogate pair is no character: no journal and no tokenizer takes
    it, so it is refused wherever it stands."""

    @model_validator(mode="before")
    @classmethod
    def _check_characters(cls, data: Any) -> Any:
        try:
            json.dumps(data, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("a text holds half a character (a lone surrogate)") from None
        except RecursionError:
            raise ValueError("the body is nested too deeply") from None
        return data


class _Strict(_Body):
    model_config = ConfigDict(extra="forbid")


class ProblemBody(BaseModel):
    """What is wrong, what was expected and what to do; the shape is that of OpenAI's API."""

    message: str
    type: str
    code: str
    param: str | None


def _problem(description: str) -> dict[str, Any]:
    """An error of whatever route: JSON also where its answer is another text."""
    body = {
        "type": "object",
        "properties": {"error": ProblemBody.model_json_schema()},
        "required": ["error"],
    }
    return {"description": description, "content": {"application/json": {"schema": body}}}


PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": _problem("The request is at fault."),
    503: _problem("Nothing is lost: send the same again."),
}
"""What every route may answer besides its own, for the OpenAPI page."""


class EpisodeRequest(_Strict):
    """Make an episode: give `world` or `task`."""

    world: str | None = Field(None, max_length=64, description="a registered world, by name")
    task: str | None = Field(
        None, min_length=1, max_length=20_000, description="the task in your own words"
    )
    policy: str = Field("current", max_length=64, description="a version or alias; pinned for life")
    scaffold: str | None = Field(
        None, max_length=64, description="a registered scaffold instead of the policy's own"
    )
    fallback_action: str | None = Field(
        None, min_length=1, max_length=200, description="the action where the model gives none"
    )
    max_steps: int | None = Field(None, ge=1, le=1_000_000)

    def wanted(self) -> NewEpisode:
        """As the service takes it."""
        return NewEpisode(**self.model_dump())


class OutcomeBody(_Strict):
    """How the last action came out; left out for the first act."""

    progression: float = Field(default=0.0, ge=0.0, le=1.0)
    reward: float = Field(default=0.0, allow_inf_nan=False)
    terminated: bool = False
    truncated: bool = False
    invalid_action: bool = False
    info: dict[str, str | bool | _Whole | _Finite | None] = Field(default={}, max_length=32)

    def outcome(self) -> Outcome:
        """As the journal has it."""
        return Outcome(**self.model_dump())


class ActRequest(_Strict):
    """What the world shows now; the answer is the next action."""

    observation: str
    outcome: OutcomeBody = Field(default_factory=OutcomeBody)
    step: int | None = Field(
        None, ge=0, description="refused with 409 unless this act is the next one"
    )


class ToolRequest(_Body):
    """A command of the `memory_20250818` tool, as a model gave it (`tool_use.input`). What is
    wrong with it is told in the answer, to the model; unknown fields are left out."""

    command: Any = Field(None, description="view, create, str_replace, insert, delete or rename")
    path: Any = Field(None, description="/memories, or beneath it", examples=["/memories/notes.md"])
    view_range: Any = Field(None, description="[first, last] line of a file to view; -1: the end")
    file_text: Any = Field(None, description="create: the whole text")
    old_str: Any = Field(None, description="str_replace: a text that is there exactly once")
    new_str: Any = Field(None, description="str_replace: what takes its place")
    insert_line: Any = Field(None, description="insert: after this line; 0 is the beginning")
    insert_text: Any = Field(None, description="insert: the lines")
    old_path: Any = Field(None, description="rename")
    new_path: Any = Field(None, description="rename")

    def command_fields(self) -> dict[str, Any]:
        """What was given."""
        return self.model_dump(exclude_unset=True)


class ToolAnswerBody(BaseModel):
    """The answer to a command: `content` and `is_error` are those of a `tool_result`."""

    episode: str
    content: str
    is_error: bool
    changed_files: list[str]


class EpisodeBody(BaseModel):
    """An episode and how it stands."""

    id: str
    object: str = "episode"
    world: str
    policy: str
    scaffold: str
    fallback_action: str
    max_steps: int
    created: float
    step: int
    progression: float
    done: bool
    stop: str | None
    pending_key: str | None


class OperationBody(BaseModel):
    """One memory operation of an act."""

    routine: str
    turn: int
    op: str
    arguments: dict[str, Any]
    status: str
    result: str


class UsageBody(BaseModel):
    """Tokens and model time of an act."""

    calls: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    model_s: float


class AnswerBody(BaseModel):
    """The answer to an act."""

    episode: str
    policy: str
    step: int
    action: str | None
    source: str | None
    done: bool
    stop: str | None
    operations: list[OperationBody]
    changed_files: list[str]
    usage: UsageBody


class MemoryFile(BaseModel):
    """A memory file in the index."""

    name: str
    lines: int
    bytes: int


class MemoryBody(BaseModel):
    """The memory directory."""

    episode: str
    step: int
    files: list[MemoryFile]


class FileDiff(BaseModel):
    """How one file changed."""

    file: str
    change: str = Field(description="`added`, `removed` or `changed`")
    diff: str = Field(description="unified diff")


class DiffBody(BaseModel):
    """How memory changed since act `since` was answered; null: since the beginning."""

    episode: str
    since: int | None
    step: int
    files: list[FileDiff]


class ChatMessage(BaseModel):
    """One message; content is text, or parts of text."""

    role: str = Field(max_length=32)
    content: str | list[dict[str, Any]] | None = ""
    tool_call_id: str = ""


class StreamOptions(BaseModel):
    """OpenAI's."""

    include_usage: bool = False


class ChatRequest(_Body):
    """OpenAI's chat completion request, as far as an engine here can follow it; what it cannot and
    what would change the answer is named here too, to be refused."""

    model: str = Field(max_length=200)
    messages: list[ChatMessage] = Field(min_length=1, max_length=4096)
    temperature: float | None = Field(None, ge=0.0, le=2.0, allow_inf_nan=False)
    top_p: float | None = Field(None, gt=0.0, le=1.0, allow_inf_nan=False)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    stop: str | list[str] | None = None
    seed: int | None = None
    n: int | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    logprobs: bool | None = False
    tools: list[dict[str, Any]] | None = None
    functions: list[dict[str, Any]] | None = None
    response_format: dict[str, Any] | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: dict[str, Any] | None = None
    user: str | None = None


class ScaffoldRequest(_Strict):
    """Register a scaffold: its files by name. `hooks.py` is code and is not taken over HTTP."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$", examples=["crafter-v2"])
    files: dict[str, str] = Field(
        min_length=1, max_length=16, description="scaffold.yaml and the five templates (*.j2)"
    )


class PromoteRequest(_Strict):
    """Move an alias."""

    version: str = Field(max_length=64)
    share: float = Field(1.0, gt=0.0, le=1.0)
    expected_revision: int | None = Field(None, ge=0)


class RollbackRequest(_Strict):
    """Undo the newest promotion."""

    expected_revision: int | None = Field(None, ge=0)
