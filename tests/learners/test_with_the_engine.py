"""Learner and engine together: what one plays the other trains, and back again."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from support.played_traces import diligent, play_trace, play_with
from transformers import AutoModelForCausalLM

from automem.engine.render import ChatRenderer
from automem.engine.transformers import TransformersEngine
from automem.memory.dialects.tags import TagsDialect
from automem.trace.events import Event, OpDone, Role, Turn
from automem_learners.adapters import AdapterVersion
from automem_learners.dataset import DataKind, Dataset, write_dataset
from automem_learners.exact import ExactReader, check_verbatim
from automem_learners.policy_gradient import improve
from automem_learners.recipe import read_recipe
from automem_learners.sft import fit

RECIPE = {
    "lora": {"rank": 32, "alpha": 64},
    "learning_rate": 1e-2,
    "conversations_per_step": 8,
    "epochs": 12,
    "precision": "fp32",
}


def exact_data(events: list[Event], base: str, folder: Path) -> Dataset:
    turns = {(e.step, e.turn) for e in events if isinstance(e, Turn) and e.role is Role.MEMORY}
    rows = ExactReader(base, TagsDialect()).conversations(events, turns)
    return write_dataset(folder, rows, kind=DataKind.EXACT, base_model=base, made_by="all turns")


@pytest.fixture(scope="module")
def specialist(base: str, tmp_path_factory: pytest.TempPathFactory) -> AdapterVersion:
    """A random model that has learned to take notes from a scripted player's turns."""
    folder = tmp_path_factory.mktemp("specialist")
    events = play_trace(folder / "memory", base, diligent, steps=8)
    dataset = exact_data(events, base, folder / "data")
    return fit(dataset, read_recipe(RECIPE), base, folder / "version")


@pytest.fixture(scope="module")
def played(
    base: str, specialist: AdapterVersion, tmp_path_factory: pytest.TempPathFactory
) -> list[Event]:
    """An episode that the engine played with the specialist in the memory role."""
    folder = tmp_path_factory.mktemp("played")

    async def play() -> list[Event]:
        engine = TransformersEngine(base, device="cpu", threads=1, max_batch=2)
        await engine.load_adapter(specialist.name, specialist.path)
        try:
            return await play_with(
                engine, ChatRenderer(base), folder, steps=3, adapter=specialist.name
            )
        finally:
            await engine.close()

    return asyncio.run(play())


def test_what_is_learned_is_played(played: list[Event], specialist: AdapterVersion) -> None:
    assert any(isinstance(event, OpDone) for event in played)
    turns = [event for event in played if isinstance(event, Turn)]
    assert {turn.adapter for turn in turns if turn.role is Role.MEMORY} == {specialist.name}
    assert {turn.adapter for turn in turns if turn.role is Role.GAMEPLAY} == {""}


def test_what_the_engine_generated_is_trained_to_the_token(
    base: str, played: list[Event], tmp_path: Path
) -> None:
    dataset = exact_data(played, base, tmp_path)
    assert check_verbatim(dataset, played, base, TagsDialect()) == len(dataset.conversations)
    assert any(not row.synthetic for row in dataset.conversations)


def test_the_engine_scores_an_adapter_as_it_was_trained(
    base: str, specialist: AdapterVersion, played: list[Event], tmp_path: Path
) -> None:
    ids = exact_data(played, base, tmp_path).conversations[0].token_ids.tolist()
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(model, specialist.path).eval()

    def expected() -> np.ndarray:
        with torch.no_grad():
            logs = torch.log_softmax(adapted(torch.tensor([ids])).logits[0, :-1], -1)
        return logs.gather(1, torch.tensor(ids)[1:, None])[:, 0].numpy()

    async def scores() -> tuple[list[float], list[float]]:
        engine = TransformersEngine(base, device="cpu", threads=1, max_batch=2)
        await engine.load_adapter(specialist.name, specialist.path)
        try:
            return await engine.score(ids, specialist.name), await engine.score(ids)
        finally:
            await engine.close()

    with_adapter, without = asyncio.run(scores())
    assert np.allclose(with_adapter[1:], expected(), atol=1e-3)
    with adapted.disable_adapter():
        assert np.allclose(without[1:], expected(), atol=1e-3)


def test_the_trainer_recomputes_what_the_engine_recorded(
    base: str, specialist: AdapterVersion, played: list[Event], tmp_path: Path
) -> None:
    dataset = exact_data(played, base, tmp_path / "data")
    advantages = [1.0 if n % 2 else -1.0 for n in range(len(dataset.conversations))]
    version = improve(
        dataset, advantages, read_recipe(RECIPE | {"max_steps": 2}), base, tmp_path / "out",
        start=Path(specialist.path),
    )  # fmt: skip
    assert version.report["mismatch_max"] < 1e-2
    assert version.report["importance_capped"] == 0.0
