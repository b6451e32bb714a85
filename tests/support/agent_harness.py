"""A small agent to test with: a scaffold, a player made of a function, a game of three lines."""

from collections.abc import Callable, Sequence
from pathlib import Path

from automem.agent.conversation import Renderer
from automem.agent.prompt_view import PromptView, read_prompt
from automem.agent.recorder import History, MemoryRecorder
from automem.agent.roles import AgentOptions, RoleBinding, Roles
from automem.agent.scaffold import (
    FileSchema,
    Notice,
    RoutineSchema,
    Scaffold,
    ScaffoldSchema,
)
from automem.agent.session import AgentSession
from automem.engine.protocol import (
    Capabilities,
    Completion,
    GenerateRequest,
    Message,
    Sampling,
)
from automem.memory.sandbox import Quota, Sandbox
from automem.trace.events import SCHEMA, EpisodeStarted, Outcome

READING = ("READ", "SEARCH", "TAIL", "COUNT", "LIST")
WRITING = ("APPEND", "WRITE", "CREATE", "UPSERT", "REPLACE", "DELETE")
LOG_TEMPLATE = """\
# log
# action
{{ action }}
# changed
{{ "yes" if changed else "no" }}
# observation
{{ observation }}
# files
{% for file in index %}
{{ file.name }} {{ file.lines }}
{% endfor %}
"""
PLAN_TEMPLATE = """\
# plan
# observation
{{ observation }}
# files
{% for file in index %}
{{ file.name }} {{ file.lines }}
{% endfor %}
{% for file in shown %}
# memory {{ file.name }}
{{ file.text }}
{% endfor %}
{% if notices %}
# notice
{{ notices | join("\\n") }}
{% endif %}
"""
TEMPLATES = {
    "log.system": "Keep notes. {{ instruction }}",
    "log": LOG_TEMPLATE,
    "plan.system": "Play. {{ instruction }}\n{{ operations | join('\\n') }}",
    "plan": PLAN_TEMPLATE,
    "commit": "{% if forced %}# commit now{% else %}# commit{% endif %}",
}


def make_scaffold(
    files: Sequence[FileSchema] = (FileSchema("notes.txt"),),
    log_ops: Sequence[str] = (*READING, *WRITING),
    plan_ops: Sequence[str] = READING,
    log_turns: int = 4,
    plan_turns: int = 4,
    commit_turns: int = 3,
    ops_per_turn: int = 6,
    notices: Sequence[Notice] = (),
    result_tokens: int = 200,
) -> Scaffold:
    """A scaffold of one file unless told otherwise."""
    schema = ScaffoldSchema(
        name="test",
        files=tuple(files),
        log=RoutineSchema(tuple(log_ops), log_turns),
        plan=RoutineSchema(tuple(plan_ops), plan_turns),
        commit_turns=commit_turns,
        ops_per_turn=ops_per_turn,
        notices=tuple(notices),
        result_tokens=result_tokens,
    )
    return Scaffold(schema, TEMPLATES)


class SpyEngine:
    """An engine that answers by a function of the prompt and keeps every request."""

    def __init__(self, answer: Callable[[PromptView, GenerateRequest], str]) -> None:
        self._answer = answer
        self.requests: list[GenerateRequest] = []

    async def capabilities(self) -> Capabilities:
        return Capabilities(model="spy")

    async def generate(self, request: GenerateRequest) -> Completion:
        self.requests.append(request)
        text = self._answer(read_prompt(request.messages), request)
        ids = None if request.prompt_ids is None else tuple(text.encode())
        return Completion(text=text, token_ids=ids)

    async def score(self, token_ids: Sequence[int], adapter: str | None = None) -> list[float]:
        return [0.0 for _ in token_ids]

    async def load_adapter(self, name: str, path: str) -> None: ...

    async def close(self) -> None: ...


class ByteRenderer:
    """One token per byte; turns are separated by the byte 0."""

    def start(self, messages: Sequence[Message], tools: Sequence[dict] = ()) -> list[int]:
        return [b for m in messages for b in (*m.content.encode(), 0)]

    def extend(
        self, ids: Sequence[int], completion_ids: Sequence[int], messages: Sequence[Message]
    ) -> list[int]:
        return [*ids, *completion_ids, 0, *self.start(messages)]

    def cut_ids(self, token_ids: Sequence[int], text: str, kept_chars: int) -> list[int]:
        return list(token_ids[: len(text[:kept_chars].encode())])


class ByteCounter:
    def count(self, text: str) -> int:
        return len(text.encode())


def make_spec(instruction: str = "Count.") -> EpisodeStarted:
    return EpisodeStarted(
        schema=SCHEMA,
        episode="toy-1-0",
        world="toy",
        seed=1,
        replicate=0,
        run_seed=7,
        max_steps=9,
        policy="spy",
        scaffold="test",
        instruction=instruction,
        fallback_action="wait",
    )


def make_session(
    folder: Path,
    engine: SpyEngine,
    scaffold: Scaffold | None = None,
    *,
    recorder: MemoryRecorder | None = None,
    history: History | None = None,
    options: AgentOptions | None = None,
    renderer: Renderer | None = None,
    adapter: str | None = None,
    context_tokens: int = 0,
) -> tuple[AgentSession, MemoryRecorder, Sandbox]:
    """A session over `folder`; the memory directory is rebuilt where a history is given."""
    scaffold = scaffold or make_scaffold()
    recorder = recorder or MemoryRecorder()
    sandbox = Sandbox.open(folder, Quota())
    if history is not None:
        sandbox.rebuild(history.files)
    gameplay = RoleBinding(
        engine=engine,
        counter=ByteCounter(),
        renderer=renderer,
        sampling=Sampling(max_tokens=64),
        context_tokens=context_tokens,
    )
    memory = RoleBinding(
        engine=engine,
        counter=ByteCounter(),
        renderer=renderer,
        adapter=adapter,
        sampling=Sampling(max_tokens=64),
        context_tokens=context_tokens,
    )
    session = AgentSession(
        make_spec(), scaffold, Roles(memory, gameplay), sandbox, recorder, options, history
    )
    return session, recorder, sandbox


class CountingGame:
    """Says the number of steps modulo three: the smallest deterministic world."""

    def __init__(self, steps: int = 4) -> None:
        self.steps = steps
        self.step_index = 0

    def observe(self) -> tuple[str, Outcome]:
        progression = self.step_index / self.steps
        return f"tick {self.step_index % 3}", Outcome(
            progression=progression, terminated=self.step_index >= self.steps
        )

    def act(self, action: str) -> None:
        self.step_index += 1


async def play(session: AgentSession, game: CountingGame) -> list[str]:
    """Play the game to its end; the actions."""
    await session.start()
    actions = []
    observation, outcome = game.observe()
    while not outcome.is_final:
        action = await session.step(observation, outcome)
        actions.append(action)
        game.act(action)
        observation, outcome = game.observe()
        outcome = Outcome(
            progression=outcome.progression, terminated=outcome.terminated, action=action
        )
    await session.close(outcome, observation)
    return actions
