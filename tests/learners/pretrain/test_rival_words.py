"""What rival memories show is in the small model's words."""

import asyncio
from typing import Any

import msgspec
import pytest
from omegaconf import OmegaConf

from automem.agent.memories.options import RIVALS
from automem.agent.roles import AgentOptions, RoleBinding, Roles
from automem.agent.scaffold import load_scaffold
from automem.config import compose, scaffold_path
from automem.engine.protocol import Completion, GenerateRequest
from automem.engine.render import ApproximateCounter, decode
from automem.engine.scripted import ScriptedEngine
from automem_envs.concentration import ConcentrationWorld
from automem_envs.concentration.players import SloppyPlayer
from automem_learners.pretrain.play import Game, play_all
from automem_learners.pretrain.tokenizer import build_tokenizer

TOKENIZER = build_tokenizer()
TREE: Any = OmegaConf.to_container(compose("run", ["experiment=embedded"]), resolve=True)
SMALL_SIGNS = set("a:;|\n") | {""}


class Keeping(ScriptedEngine):
    """Keeps the texts of every prompt."""

    def __init__(self) -> None:
        super().__init__(SloppyPlayer())
        self.texts: set[str] = set()

    async def generate(self, request: GenerateRequest) -> Completion:
        self.texts |= {message.content for message in request.messages}
        return await super().generate(request)


@pytest.mark.parametrize("name", [n for n, agent in TREE["rivals"].items() if agent])
def test_a_rivals_prompts_need_no_byte_tokens(name: str) -> None:
    agent = {"memory": "files", **TREE["rivals"][name]}
    options = msgspec.convert(agent, AgentOptions)
    engine = Keeping()
    binding = RoleBinding(engine=engine, counter=ApproximateCounter())
    scaffold = load_scaffold(scaffold_path("embedded"))
    roles = Roles(binding, binding)
    game = Game(ConcentrationWorld(20), 10_000_000, 0, scaffold, roles, options=options)
    asyncio.run(play_all([game], 1))
    if options.memory == "bm25":
        assert any("# results\nSEARCH history.txt|" in text for text in engine.texts)
    elif options.memory in RIVALS:
        assert any("# memory " in text for text in engine.texts)
    if options.memory == "window":
        assert any("more lines not shown" in text for text in engine.texts)
    for text in engine.texts:
        pieces = [decode(TOKENIZER, [i]).strip() for i in TOKENIZER.encode(text)]
        strange = [p for p in pieces if len(p) < 2 and p not in SMALL_SIGNS and not p.isdigit()]
        assert not strange, (strange, text)
