"""The shipped scaffolds word their prompts as they always did: a shipped model was trained on them.

A change of these constants means that the model has to be trained anew; see docs/scaffolds.md.
"""

import hashlib
from pathlib import Path

import pytest
from support.agent_harness import CountingGame, SpyEngine, make_session, play

from automem.agent.prompt_view import PromptView
from automem.agent.scaffold import load_scaffold
from automem.config import scaffold_path
from automem.engine.protocol import GenerateRequest
from automem.trace.events import Routine

VERSIONS = {"v0": "v0@3c46770d896b3787", "embedded": "embedded@72b3a3d59326c81b"}
PROMPTS = {"v0": "69f809df3478ae74", "embedded": "0a5e9704e0a6affd"}


def busy(view: PromptView, request: GenerateRequest) -> str:
    """Writes, searches, errs, commits late: every kind of section is shown."""
    file = next(iter(view.files), "notes.txt")
    if view.routine is Routine.LOG:
        if view.turns == 0:
            return f"<|APPEND|>{file}|{view.observation}<|END|><|SEARCH|>{file}|tick<|END|>"
        return "<|DELETE|>nothing.txt<|END|><|DONE|>"
    if view.wants_commit:
        return "<|ACTION|>go<|END|>" if view.turns > 2 else "hm"
    return f"<|SEARCH|>{file}|tick<|END|>" if view.turns < 1 else "enough"


@pytest.mark.parametrize("name", VERSIONS)
def test_a_shipped_scaffold_keeps_its_version(name: str) -> None:
    assert load_scaffold(scaffold_path(name)).version == VERSIONS[name]


@pytest.mark.parametrize("name", PROMPTS)
async def test_a_shipped_scaffold_words_a_whole_game_to_the_byte(name: str, tmp_path: Path) -> None:
    engine = SpyEngine(busy)
    session, _, _ = make_session(tmp_path, engine, load_scaffold(scaffold_path(name)))
    game = CountingGame(12)
    game.observe = lambda: CountingGame.observe(_slowed(game))  # type: ignore[method-assign]
    await play(session, game)
    texts = [f"{m.role}\0{m.content}" for request in engine.requests for m in request.messages]
    found = hashlib.blake2b("\0\0".join(texts).encode(), digest_size=8).hexdigest()
    assert found == PROMPTS[name]


def _slowed(game: CountingGame) -> CountingGame:
    """The same game, at whose later steps nothing changes: notices appear."""
    slow = CountingGame(game.steps)
    slow.step_index = game.step_index if game.step_index in (0, game.steps) else 1
    return slow
