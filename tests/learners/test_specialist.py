"""From traces to a specialist by the real parts: the shipped model plays, learns, plays again."""

import asyncio
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pytest
from support.loop_parts import make_loop, small_template

from automem.engine.protocol import GenerateRequest, Message, Sampling
from automem.engine.render import ChatRenderer
from automem.engine.transformers import TransformersEngine
from automem.errors import UsageError
from automem.loops.gate import Rule
from automem.loops.ledger import Picked, Trained
from automem.loops.proficiency import Loop
from automem.loops.recipes import DataRecipe, Recipe, Selected, Specialist, read_recipe
from automem.loops.stage import Arm, Stage
from automem.rollout.engines import SharedEngines
from automem.rollout.journal import read_events
from automem.rollout.ray_local import connected
from automem.rollout.spec import Deadlines, EngineSpec, RoleSpec, RolloutSpec
from automem.seeds import SeedRange, range_of, seeds_from
from automem.trace.events import Role, Turn
from automem.tracker import NoTracker
from automem_learners.adapters import read_version
from automem_learners.base_model import find_base
from automem_learners.dataset import Conversation, load_dataset
from automem_learners.importance import Present, weigh
from automem_learners.recipe import Scaling
from automem_learners.select.selection import read_selection
from automem_learners.specialist import SpecialistTrainer

TRAINING = {
    "lora": {"rank": 4, "alpha": 8},
    "learning_rate": 3e-3,
    "max_steps": 3,
    "conversations_per_step": 4,
    "precision": "fp32",
}
SCALING = {"backend": "local"}


def trainer(base: str, **changes: Any) -> SpecialistTrainer:
    return SpecialistTrainer(base, TRAINING, SCALING, **changes)


# What is told before anything is played


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"data": {"selector": "provenence"}}, "did you mean 'provenance'"),
        ({"data": {"settings": {"progress.horizn": 3}}}, "did you mean"),
        ({"data": {"settings": {"progress.horizon": "far"}}}, "horizon"),
        ({"trainings": [{"learning_rat": 1e-3}]}, "did you mean 'learning_rate'"),
        ({"trainings": [{"learning_rate": -1.0}]}, "learning_rate must be above 0"),
        ({"trainings": [{}, {"lora": {"rnk": 4}}]}, "no field of recipe.lora 'rnk'; did you mean"),
        ({"trainings": [{"lora": {"rank": 10_000}}]}, "lora.rank is 10000"),
        ({"trainings": [{"lora": {"targets": "atention"}}]}, "did you mean 'attention'"),
    ],
)
def test_a_recipe_that_could_not_be_carried_out_is_refused(
    base: str, fields: dict[str, Any], told: str
) -> None:
    with pytest.raises(UsageError) as error:
        trainer(base).check(read_recipe(fields))
    assert told in str(error.value)


def test_a_recipe_changes_what_it_names_and_nothing_else(base: str) -> None:
    made = trainer(base)._training({"epochs": 2, "lora": {"rank": 8}}, seed=5)
    assert made.lora is not None
    assert (made.lora.rank, made.lora.alpha) == (8, TRAINING["lora"]["alpha"])
    assert (made.epochs, made.learning_rate, made.seed) == (2, 3e-3, 5)
    assert trainer(base)._training({"lora": None}, 0).lora is None


def test_wrong_settings_of_the_trainer_itself_are_told_at_once(base: str) -> None:
    with pytest.raises(UsageError, match="there is no base model"):
        trainer(base + "-gone")
    with pytest.raises(UsageError, match="did you mean 'per_episode'"):
        trainer(base, thin={"per_episod": 3}).check(Recipe())


@pytest.mark.parametrize("value", ["/tmp/a b,c[1]/x=y", "it's", "true", "3", "{a: 1}", "end\\"])
def test_settings_of_any_text_reach_the_selector(base: str, value: str) -> None:
    data = DataRecipe(selector="random", settings={"match": value})
    _, config = trainer(base)._selector(data)
    assert config["selector"]["match"] == value


def test_settings_may_be_nested(base: str) -> None:
    data = DataRecipe(settings={"progress": {"horizon": 3}, "evidence.kind": "names"})
    _, config = trainer(base)._selector(data)
    assert (config["selector"]["progress"]["horizon"]) == 3
    assert config["selector"]["progress"]["discount"] == 0.9
    assert config["selector"]["evidence"]["kind"] == "names"


# The whole way, with the shipped model on small decks


def real_template(placement: Literal["worker", "actor"], workers: int) -> RolloutSpec:
    """The shipped model in both roles, on small decks."""
    engine = {
        "_target_": "automem.engine.transformers.TransformersEngine",
        "model": "embedded",
        "device": "cpu",
        "threads": 1,
        "max_batch": 8,
    }
    role = RoleSpec("base", sampling={"max_tokens": 48})
    return msgspec.structs.replace(
        small_template(),
        engines={"base": EngineSpec(engine, placement=placement)},
        memory=role,
        gameplay=role,
        deadlines=Deadlines(),
        workers=workers,
    )


def played_loop(folder: Path) -> Loop:
    """A loop of one round: four decks to learn from, two to race on, four to be confirmed on."""
    recipe = {"data": {"episodes": 4, "selector": "all", "amount": 24}, "trainings": [{}]}
    return make_loop(
        folder,
        recipe,
        stage=Stage(real_template("worker", 0), None, is_shown=False),
        trainer=trainer("embedded"),  # type: ignore[arg-type]
        rule=Rule(confirmations=1, alpha=0.9, pairs=4, race=(2,), race_level=0.99, flips=99),
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Loop, Specialist]:
    folder = tmp_path_factory.mktemp("loop")
    loop = played_loop(folder)
    loop.run()
    trained = loop.ledger.find(1, Trained)
    assert trained is not None
    return folder, loop, trained.specialist


Made = tuple[Path, Loop, Specialist]


@pytest.mark.slow
def test_a_loop_trains_an_adapter_on_turns_of_training_seeds(made: Made) -> None:
    folder, loop, specialist = made
    assert specialist.is_adapter
    assert specialist.steps == 3
    assert (Path(specialist.path) / "adapter_model.safetensors").is_file()
    card = read_version(folder / "round-1" / "specialist-1")
    assert (card.name, card.rank, card.base_model) == (specialist.name, 4, "embedded")
    picked = loop.ledger.find(1, Picked)
    assert picked is not None
    assert 0 < picked.selected.turns <= 24
    turns = read_selection(Path(picked.selected.folder)).turns
    assert {range_of(turn.seed) for turn in turns} == {SeedRange.TRAIN}


@pytest.mark.slow
def test_a_second_call_selects_and_trains_nothing_again(made: Made) -> None:
    folder, loop, specialist = made
    picked = loop.ledger.find(1, Picked)
    assert picked is not None
    before = {path: path.stat().st_mtime_ns for path in (folder / "round-1").rglob("*.*")}
    again = trainer("embedded")
    runs, place = [folder / "round-1" / "collect"], folder / "round-1" / "selection"
    data = DataRecipe(episodes=4, selector="all", amount=24)
    assert again.select(runs, data, place, 0) == picked.selected
    target = folder / "round-1" / "specialist-1"
    assert again.train(picked.selected, {}, target, 0, None, NoTracker()) == specialist
    after = {path: path.stat().st_mtime_ns for path in (folder / "round-1").rglob("*.*")}
    assert after == before


@pytest.mark.slow
def test_a_recipe_that_cannot_go_on_from_the_champion_is_refused(made: Made) -> None:
    _, _, specialist = made
    check = trainer("embedded").check
    check(read_recipe({"start": "champion"}), specialist)
    with pytest.raises(UsageError, match=r"lora\.rank is 8, but the adapter in .* has 4"):
        check(read_recipe({"trainings": [{"lora": {"rank": 8}}]}), specialist)


@pytest.mark.slow
def test_commits_carry_no_adapter_and_memory_turns_carry_the_specialists(made: Made) -> None:
    folder, _, specialist = made
    episodes = list((folder / "round-1" / "race" / "1-2" / "contender-1" / "episodes").iterdir())
    assert len(episodes) == 2
    turns = [e for path in episodes for e in read_events(path) if isinstance(e, Turn)]
    adapters = {
        role: {turn.adapter for turn in turns if turn.role is role}
        for role in (Role.MEMORY, Role.GAMEPLAY)
    }
    assert adapters == {Role.MEMORY: {specialist.name}, Role.GAMEPLAY: {""}}
    everything = [
        e for path in folder.rglob("episodes/concentration-*-0") for e in read_events(path)
    ]
    commits = [e for e in everything if isinstance(e, Turn) and e.role is Role.GAMEPLAY]
    assert {turn.adapter for turn in commits} == {""}


@pytest.mark.slow
def test_the_bases_logits_are_the_same_to_the_bit_with_the_adapter_loaded_and_used(
    made: Made,
) -> None:
    _, _, specialist = made

    async def scores() -> tuple[list[float], list[float], list[float]]:
        engine = TransformersEngine("embedded", device="cpu", threads=1, max_batch=4)
        ids = list(range(5, 120))
        messages = (Message("user", "# plan\n# observation\nflip"),)
        try:
            before = await engine.score(ids)
            await engine.load_adapter(specialist.name, specialist.path)
            await engine.generate(
                GenerateRequest(
                    id="a/0/0",
                    messages=messages,
                    prompt_ids=tuple(ChatRenderer("embedded").start(messages)),
                    sampling=Sampling(max_tokens=8),
                    seed=1,
                    adapter=specialist.name,
                )
            )
            adapted = await engine.score(ids, specialist.name)
            return before, adapted, await engine.score(ids)
        finally:
            await engine.close()

    before, adapted, after = asyncio.run(scores())
    assert adapted != before
    assert after == before


@pytest.mark.slow
def test_base_and_specialist_share_one_engine_that_outlives_their_runs(
    made: Made, tmp_path: Path
) -> None:
    _, _, specialist = made
    seeds = seeds_from(SeedRange.REPORT, 2)
    with connected(), SharedEngines() as engines:
        stage = Stage(real_template("actor", 1), engines, is_shown=False)
        for name, player in (("base", None), ("specialist", specialist)):
            played = stage.play(tmp_path / name, Arm(), player, seeds, name)
            assert sorted(played.progressions) == seeds
        assert len(engines._actors) == 1
    turns = [
        event
        for path in (tmp_path / "specialist" / "episodes").iterdir()
        for event in read_events(path)
        if isinstance(event, Turn)
    ]
    assert {turn.adapter for turn in turns if turn.role is Role.MEMORY} == {specialist.name}
    assert {turn.adapter for turn in turns if turn.role is Role.GAMEPLAY} == {""}


@pytest.mark.slow
def test_stale_turns_weigh_by_how_likely_the_champion_would_have_said_them(
    made: Made, tmp_path: Path
) -> None:
    """The base's turns, learned from when the specialist is champion: the engine's own scores say
    the same as the trainer's forward pass."""
    folder, _, specialist = made
    collect, place = folder / "round-1" / "collect", tmp_path / "selection"
    teacher = trainer("embedded")
    selected = teacher.select([collect], DataRecipe(selector="all", amount=12), place, 0)
    weighed = teacher.weigh(selected, {str(collect): 1}, specialist, 1.0)
    rows = load_dataset(tmp_path / "selection-dataset").conversations
    assert weighed.turns == len(rows) == selected.turns
    assert weighed.mean == pytest.approx(sum(row.share for row in rows) / len(rows), rel=1e-5)
    assert 0 < weighed.truncated < len(rows)

    async def ratio(engine: TransformersEngine, row: Conversation) -> float:
        ids = row.token_ids.tolist()
        scores = await engine.score(ids, specialist.name)
        assert row.logprobs is not None
        generated = np.flatnonzero(row.weights)[: int((row.weights > 0).sum()) - row.synthetic]
        return float(np.exp(sum(scores[i] - row.logprobs[i] for i in generated)))

    async def ratios() -> list[float]:
        engine = TransformersEngine("embedded", device="cpu", threads=1, max_batch=4)
        try:
            await engine.load_adapter(specialist.name, specialist.path)
            return [await ratio(engine, row) for row in rows]
        finally:
            await engine.close()

    expected = [min(1.0, each) for each in asyncio.run(ratios())]
    assert [row.share for row in rows] == pytest.approx(expected, rel=0.01)
    # asked again, as after a kill, nothing is computed anew
    assert teacher.weigh(selected, {str(collect): 1}, specialist, 1.0) == weighed


def test_turns_without_probabilities_cannot_be_weighted(base: str) -> None:
    row = Conversation(
        token_ids=np.arange(4, dtype=np.int32), weights=np.array([0, 0, 1, 1], np.float32),
        messages=(), kind="log", episode="e", step=0, turn=0, seed=0,
    )  # fmt: skip
    present = Present(find_base(base), None, "fp32", Scaling())
    with pytest.raises(UsageError, match=r"holds no log-probabilities.*collection\.stale=drop"):
        weigh([row], {"e"}, present, 1.0)
    published = trainer(base, data_kind="published")
    selected = Selected(folder="nowhere", turns=1, verdict="")
    with pytest.raises(UsageError, match=r"collection\.stale=drop"):
        published.weigh(selected, {}, Specialist(
            name="x", path="x", steps=1, conversations=1, last_loss=0.0, tokens_per_s=0.0,
            seconds=0.0,
        ), 1.0)  # fmt: skip
