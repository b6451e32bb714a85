"""A loop in object storage: another machine goes on with it, and neither repeats nor loses."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.loop_parts import SkillTrainer, make_loop, recipe, small_template, timeless
from support.s3_server import s3_server
from support.skilled_engine import SkilledEngine
from support.toy_world import toy_spec

from automem import cli
from automem.engine.protocol import Completion, GenerateRequest
from automem.errors import StoreError, UsageError
from automem.loops.collection import Collection
from automem.loops.gate import Verdict
from automem.loops.ledger import Ledger, Trained
from automem.loops.proficiency import Outcome
from automem.loops.recipes import Selected, Specialist
from automem.loops.seedbook import SeedBook
from automem.loops.stage import Stage
from automem.loops.stored_loop import StoredLoop, fetch_loop, loops_below
from automem.rollout.run import run_rollout
from automem.rollout.run_dir import read_run
from automem.rollout.stored_run import runs_below
from automem.storage.store import Store

RECIPES = (recipe("good"), recipe("bad", source="all"))
SEEDS = "seeds.jsonl"


@pytest.fixture(params=["s3", "folder"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "s3":
        with s3_server() as found:
            yield f"{found}/automem"
    else:
        yield str(tmp_path / "store")


class WritingTrainer(SkillTrainer):
    """Leaves files as a real one does; dies, as its machine would, before a given training."""

    def __init__(self, dies_in_round: int = 0) -> None:
        super().__init__()
        self._dies_in_round = dies_in_round

    def select(self, runs: Any, data: Any, folder: Path, seed: int) -> Selected:
        assert all(list(run.glob("episodes/*/episode.json")) for run in runs)
        folder.mkdir(parents=True)
        (folder / "turns.parquet").write_bytes(b"turns")
        return super().select(runs, data, folder, seed)

    def train(self, selected: Selected, training: Any, folder: Path, *rest: Any) -> Specialist:
        assert (Path(selected.folder) / "turns.parquet").read_bytes() == b"turns"
        step = folder / "checkpoints" / "step-000010"
        if self._dies_in_round and folder.parent.name == f"round-{self._dies_in_round}":
            step.mkdir(parents=True)
            (step / "state-0.pt").write_bytes(b"half-way")
            raise Death
        if step.exists():
            assert (step / "state-0.pt").read_bytes() == b"half-way"
            shutil.rmtree(folder / "checkpoints")
        (folder / "adapter").mkdir(parents=True)
        (folder / "adapter" / "adapter_model.safetensors").write_bytes(b"weights")
        return super().train(selected, training, folder, *rest)


class Death(BaseException):
    """The machine is gone."""


def go_on(
    place: Path, url: str, trainer: SkillTrainer, collection: Collection | None = None
) -> tuple[Outcome, bool]:
    """The loop `mine` on a machine whose disk is `place`; whether it was fetched."""
    folder = place / "mine"
    stored = StoredLoop(url, folder, SEEDS)
    was_fetched = stored.begin()
    template = msgspec.structs.replace(small_template(), storage_url=url)
    loop = make_loop(
        folder, *RECIPES, trainer=trainer, book=SeedBook(folder / SEEDS), keep=stored.keep,
        stage=Stage(template, None, is_shown=False, keep=stored.keep),
        collection=collection or Collection(),
    )  # fmt: skip
    with stored.kept():
        return loop.run(), was_fetched


@pytest.mark.slow
@pytest.mark.parametrize(
    ("url", "collection"),
    [
        ("folder", Collection()),
        ("s3", Collection(mode="asynchronous", part=1, stale="weight")),
    ],
    indirect=["url"],
)
def test_another_machine_goes_on_where_the_first_one_was_lost(
    url: str, collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    with pytest.raises(Death):
        go_on(first, url, WritingTrainer(dies_in_round=2), collection)
    StoredLoop(url, first / "mine", SEEDS).keep()  # what the clock would have stored by then
    before = timeless(first / "mine")
    played = {path.parent.name for path in (first / "mine").rglob("collect/**/episode.json")}
    shutil.rmtree(first)
    asked, generate = set(), SkilledEngine.generate

    async def noted(engine: SkilledEngine, request: GenerateRequest) -> Completion:
        asked.add(request.id.split("/")[0])
        return await generate(engine, request)

    monkeypatch.setattr(SkilledEngine, "generate", noted)
    trainer = WritingTrainer()
    outcome, was_fetched = go_on(second, url, trainer, collection)
    assert was_fetched
    assert timeless(second / "mine")[: len(before)] == before
    assert outcome.rounds[0].verdict is Verdict.ACCEPTED
    assert len(trainer.selections) == 0  # both rounds' had been made
    assert [folder.parent.name for _, _, folder, *_ in trainer.trainings] == ["round-2"]
    there = (second / "mine").rglob("collect/**/episode.json")
    assert played
    assert {path.parent.name for path in there} == played  # fetched ...
    assert asked
    assert not asked & played  # ... and none played again
    made = Ledger(second / "mine").find_all(1, Trained)
    assert [each.specialist.name for each in made] == ["round-1-specialist-1"]
    weights = second / "mine" / "round-1" / "specialist-1" / "adapter"
    assert (weights / "adapter_model.safetensors").read_bytes() == b"weights"
    copy = tmp_path / "copy"
    runs = [read_run(path.parent) for path in (second / "mine").rglob("run.json")]
    assert fetch_loop(f"{url}/loops/mine", copy) == len(runs) > 2
    assert (copy / "ledger.jsonl").read_bytes() == (second / "mine/ledger.jsonl").read_bytes()
    assert len(list(copy.rglob("episode.json"))) == sum(len(run.episodes) for run in runs)


def test_the_machine_that_lost_its_loop_is_shut_out(url: str, tmp_path: Path) -> None:
    for place in ("first", "second"):
        folder = tmp_path / place / "mine"
        folder.mkdir(parents=True)
        stored = StoredLoop(url, folder, SEEDS)
        if place == "first":
            assert not stored.begin()
            (folder / "ledger.jsonl").write_text("")
            stored.keep()
            first = stored
        else:
            assert stored.begin()
            assert (folder / "ledger.jsonl").exists()
    (tmp_path / "first" / "mine" / "ledger.jsonl").write_text("later\n")
    with pytest.raises(UsageError, match="another machine goes on with this one"):
        first.keep()


def test_what_is_gone_from_the_folder_goes_from_the_store(url: str, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    stored = StoredLoop(url, folder, SEEDS)
    stored.begin()
    step = folder / "round-1" / "specialist-1" / "checkpoints" / "step-000010"
    step.mkdir(parents=True)
    (step / "state-0.pt").write_bytes(b"state")
    (folder / "kept").write_bytes(b"kept")
    stored.keep()
    assert len(stored._store.names("objects")) == 2
    shutil.rmtree(step)
    stored.keep()
    assert len(stored._store.names("objects")) == 1


def test_a_store_that_lacks_what_its_manifest_names_says_so(url: str, tmp_path: Path) -> None:
    stored = StoredLoop(url, tmp_path / "a" / "mine", SEEDS)
    stored.begin()
    (tmp_path / "a" / "mine" / "ledger.jsonl").write_text("")
    stored.keep()
    for name in stored._store.names("objects"):
        stored._store.remove(f"objects/{name}")
    with pytest.raises(StoreError, match="is missing"):
        StoredLoop(url, tmp_path / "b" / "mine", SEEDS).begin()


def test_retention_takes_what_a_finished_loop_needs_no_more_and_leaves_others(
    url: str, tmp_path: Path
) -> None:
    for name in ("ended", "left"):
        stored = StoredLoop(url, tmp_path / name, SEEDS)
        stored.begin()
        (tmp_path / name / "ledger.jsonl").write_text(name)
        run_rollout(toy_spec(seeds=[1], workers=0, storage_url=url), tmp_path / name / "race")
        if name == "ended":
            with stored.kept():
                pass
        else:
            stored.keep()
        stored._store.write("objects/left-by-a-dead-machine", b"loose")
    gc = ["gc", "--storage", url, "--yes"]
    assert cli.main([*gc, "--older-than", "1"]) == 0
    ended, left = (Store(f"{url}/loops/{name}") for name in ("ended", "left"))
    loose = "left-by-a-dead-machine"
    assert loose in ended.names("objects")
    assert cli.main(gc) == 0
    assert loose not in ended.names("objects")
    assert loose in left.names("objects")
    assert fetch_loop(ended.url, tmp_path / "copy") == 1
    assert (tmp_path / "copy" / "ledger.jsonl").read_text() == "ended"
    mine = read_run(tmp_path / "left" / "race").spec.storage_url
    assert cli.main([*gc, "--level", "runs"]) == 0
    assert ended.tree() == []
    assert runs_below(url) == [mine]
    assert fetch_loop(left.url, tmp_path / "look") == 1
    again = StoredLoop(url, tmp_path / "elsewhere" / "left", SEEDS)
    assert again.begin()


def test_a_finished_loop_that_is_gone_on_with_is_not_finished(tmp_path: Path) -> None:
    url = str(tmp_path / "store")
    stored = StoredLoop(url, tmp_path / "mine", SEEDS)
    stored.begin()
    (tmp_path / "mine" / "ledger.jsonl").write_text("one round")
    with stored.kept():
        pass
    assert [manifest.is_done for _, manifest in loops_below(url)] == [True]
    StoredLoop(url, tmp_path / "mine", SEEDS).begin()
    assert [manifest.is_done for _, manifest in loops_below(url)] == [False]
