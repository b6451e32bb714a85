"""Any multi-turn environment of the `verifiers` package as a world. The package is optional.

For its classic interface, `MultiTurnEnv` (single-turn ones included), which releases before 0.4
have: the world plays the model's part, one action a reply. The seed picks the row of the data set.
The agent sees the environment's last answer alone, under the task, which every observation repeats
unless `repeats_task` is false. Progression is the rubric's reward when the episode ends, kept in
[0, 1]; before, it is 0. Not covered: tools that need the model's own calls (replies are text), and
rubrics that ask a model, whose scores may differ from one reading to the next.
"""

import asyncio
import threading
from collections.abc import Coroutine, Mapping, Sequence
from importlib import import_module
from typing import Any, TypeVar

from automem.errors import UsageError
from automem_envs.text_world import Seen, TextWorld

T = TypeVar("T")
FALLBACK = "pass"


class VerifiersWorld(TextWorld[str]):
    """See the module's docstring."""

    def __init__(
        self,
        environment: str | Any,
        arguments: Mapping[str, Any] | None = None,
        instruction: str = "Answer each message; what you reply is taken as it stands.",
        max_steps: int = 100,
        split: str = "eval",
        repeats_task: bool = True,
    ) -> None:
        """`environment`: an installed environment's id, `module:function` of one of yours, or an
        environment; `arguments` are its loader's. `split`: eval or train."""
        super().__init__(max_steps)
        if split not in ("eval", "train"):
            raise UsageError(f"split must be eval or train, got {split!r}")
        self._environment = _loaded(environment, arguments or {})
        _check(self._environment)
        self._rows = (
            self._environment.get_eval_dataset()
            if split == "eval"
            else self._environment.get_dataset()
        )
        self.actions = "any text"
        self.fallback_action = FALLBACK
        self.instruction = instruction
        self._repeats_task = repeats_task
        self._loop = _Loop()
        self._state: Any = None
        self._prompt: list[Any] = []
        self._task = ""

    def begin(self, seed: int) -> Seen:
        self._state, self._prompt = self._loop.run(self._start(seed))
        self._task = _text(self._prompt)
        return Seen(self._task, 0.0)

    def read(self, action: str) -> str | None:
        return action or None

    def play(self, move: str) -> Seen:
        # Half a surrogate pair could be neither tokenised nor sent.
        answer = move.encode("utf-8", "replace").decode()
        said, is_over = self._loop.run(self._reply(answer))
        if not is_over:
            text = f"{self._task}\n\n{said}" if self._repeats_task else said
            return Seen(text, 0.0)
        reward = float(self._state["reward"] or 0.0)
        info = {"reward": reward, "metrics": dict(self._state.get("metrics") or {})}
        progression = min(1.0, max(0.0, reward))
        return Seen(said or "It is over.", progression, is_over=True, stop="completed", info=info)

    def close(self) -> None:
        self._loop.close()

    async def _start(self, seed: int) -> tuple[Any, list[Any]]:
        environment = self._environment
        row = dict(self._rows[seed % len(self._rows)])
        state = await environment.init_state(row, _no_client(), "automem", {})
        # Early releases give the state back, later ones change it in place.
        state = await environment.setup_state(state) or state
        return state, list(await environment.get_prompt_messages(state))

    async def _reply(self, answer: str) -> tuple[str, bool]:
        """What the environment says to an answer, and whether it is over and scored."""
        environment, state = self._environment, self._state
        completion = [_assistant(answer)]
        step = {
            "prompt": self._prompt,
            "completion": completion,
            "response": None,
            "tokens": None,
            "reward": None,
            "advantage": None,
            "is_truncated": False,
            "trajectory_id": state.get("trajectory_id", ""),
            "extras": {},
        }
        await environment.add_trajectory_step(state, step)
        said = ""
        if not await environment.is_completed(state):
            before = len(self._prompt) + 1
            self._prompt = list(await environment.get_prompt_messages(state))
            said = _text(self._prompt[before:])
            if not await environment.is_completed(state):
                return said, False
        await environment.render_completion(state)
        await environment.rubric.score_rollout(state)
        return _text(state.get("final_env_response") or ()) or said, True


class _Loop:
    """An event loop in a thread of its own: a world steps inside a running one."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


def _loaded(environment: Any, arguments: Mapping[str, Any]) -> Any:
    if not isinstance(environment, str):
        return environment
    if not environment:
        raise UsageError("verifiers: say which environment: env.world.environment=ID")
    if ":" in environment:
        module, _, name = environment.partition(":")
        try:
            return getattr(import_module(module), name)(**arguments)
        except (ImportError, AttributeError) as error:
            raise UsageError(f"{environment} cannot be loaded: {error}") from error
    try:
        return import_module("verifiers").load_environment(environment, **arguments)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(
            f"environment {environment!r} cannot be loaded ({error}): this world needs the "
            "package verifiers with its classic interface: pip install 'verifiers<0.4'"
        ) from error


_NEEDED = (
    "get_dataset",
    "get_eval_dataset",
    "init_state",
    "setup_state",
    "get_prompt_messages",
    "add_trajectory_step",
    "is_completed",
    "render_completion",
    "rubric",
)


def _check(environment: Any) -> None:
    """UsageError where it is no multi-turn environment of the classic interface."""
    missing = [name for name in _NEEDED if not hasattr(environment, name)]
    if missing:
        raise UsageError(
            f"expected a verifiers MultiTurnEnv (releases 0.1.8 to 0.3), got "
            f"{type(environment).__name__} without {', '.join(missing)}"
        )


def _no_client() -> Any:
    """A client that is never asked, of the class that the package insists on; None without it."""
    try:
        base = import_module("verifiers").Client
    except (ImportError, AttributeError):
        return None
    methods = dict.fromkeys(getattr(base, "__abstractmethods__", ()), _refuse)
    silent: Any = type("SilentClient", (base,), methods)
    return object.__new__(silent)


def _refuse(*_: Any, **__: Any) -> None:
    raise RuntimeError("this environment asks for a model itself, which a world has none of")


def _assistant(text: str) -> Any:
    """A reply in the package's own form, a plain mapping without it."""
    try:
        return import_module("verifiers.types").AssistantMessage(role="assistant", content=text)
    except (ImportError, AttributeError):
        return {"role": "assistant", "content": text}


def _text(messages: Sequence[Any] | str) -> str:
    """The content of messages, one below the other."""
    if isinstance(messages, str):
        return messages
    return "\n\n".join(filter(None, (_content(message) for message in messages)))


def _content(message: Any) -> str:
    content = message.get("content") if isinstance(message, Mapping) else message.content
    if isinstance(content, str) or content is None:
        return content or ""
    parts = [part.get("text", "") if isinstance(part, Mapping) else part.text for part in content]
    return "\n".join(part for part in parts if part)
