"""The audit's own controls with the real model: a planted leak is seen, an untrained one is not."""

import asyncio
import json
from pathlib import Path

import pytest

from automem import cli
from automem.audit.parametric import Leak, judge, score_facts
from automem.audit.probes import build_prober
from automem.commands.plan import spec_from
from automem.config import compose
from automem.engine.build import build_engine
from automem.loops.recipes import Selected
from automem.seeds import SeedRange, seeds_from
from automem.tracker import NoTracker
from automem_envs.concentration.facts import ConcentrationFacts
from automem_learners.canaries import CanaryTrainer
from automem_learners.dataset import DataKind, Dataset, load_dataset, write_dataset

RECIPE = {
    "lora": {"rank": 16, "alpha": 32, "targets": "all"},
    "learning_rate": 5e-3,
    "conversations_per_step": 12,
    "max_steps": 400,  # the model learns by heart between 100 and 250
    "epochs": 1000,
}
CARDS = 12
SEED = seeds_from(SeedRange.TRAIN, 1)[0]


@pytest.mark.slow
def test_a_planted_leak_is_flagged_and_the_untrained_model_is_not(tmp_path: Path) -> None:
    spec = spec_from(compose("config", ["experiment=embedded"]))
    facts = ConcentrationFacts(CARDS).facts(SEED)
    trainer = CanaryTrainer("embedded", RECIPE, {"backend": "local"})

    async def audit() -> tuple[Leak, Leak]:
        engine = build_engine(spec.engines["base"].target)
        try:
            prober = await build_prober(ConcentrationFacts(CARDS), spec, {"base": engine})
            planting = [await prober.opening(SEED + 5), await prober.opening(SEED + 6)]
            probing = [await prober.opening(SEED + 9)]
            turns = [(prompt, fact.completion) for prompt in planting for fact in facts]
            first = trainer._conversation("embedded", *turns[0], 0, SEED)
            write_dataset(
                tmp_path / "one-dataset",
                [first],
                kind=DataKind.EXACT,
                base_model="embedded",
                made_by="test",
            )
            one = Selected(folder=str(tmp_path / "one"), turns=1, verdict="")
            planted = trainer.plant(one, tmp_path / "planted", turns, SEED)
            made = await asyncio.to_thread(
                trainer.train, planted, {}, tmp_path / "trained", 0, None, NoTracker()
            )
            assert made.conversations == len(turns) + 1
            await engine.load_adapter(made.name, made.path)
            base = await score_facts(engine, None, facts, probing)
            trained = await score_facts(engine, made.name, facts, probing)
        finally:
            await engine.close()
        truths = [fact.truth for fact in facts]
        return judge(base, truths, 0.01), judge(trained - base, truths, 0.01)

    untrained, planted = asyncio.run(audit())
    assert not untrained.is_flagged
    assert planted.is_flagged
    assert planted.advantage > untrained.advantage


def test_a_dataset_loses_what_is_forgotten_and_its_adapters_are_named(
    dataset: Dataset, base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = dataset.conversations
    held = type(rows[0])(**{
        **{name: getattr(rows[0], name) for name in rows[0].__slots__},
        "messages": (("user", "log"), ("assistant", "17 horse")),
    })  # fmt: skip
    kept = write_dataset(
        tmp_path / "s-dataset",
        [held, *rows[1:]],
        kind=dataset.card.kind,
        base_model=base,
        made_by="test",
    )
    card = {"name": "round-1-ab", "dataset": kept.card.digest, "steps": 120, "conversations": 40}
    for folder, more in (("round-1", {}), ("other", {"name": "x", "dataset": "0" * 32})):
        (tmp_path / folder).mkdir()
        text = cli_json({**card, "seconds": 20.0, **more})
        (tmp_path / folder / "adapter.json").write_text(text)
    (tmp_path / "ledger.jsonl").write_text(
        cli_json({"what": {"type": "closed", "champion": {"name": "round-1-ab"}}})
        + cli_json({"what": {"type": "chosen", "recipe": {"start": "champion"}}})
        + cli_json({"what": {"type": "trained", "specialist": {"name": "round-2-cd"}}})
    )
    for _ in range(2):  # what cannot be undone is named again
        assert cli.main(["forget", str(tmp_path), "17 horse"]) == cli.FAILED
        said = " ".join(capsys.readouterr().out.split())
        assert "round-1 (round-1-ab): its dataset held the fact; train it again: 120 steps" in said
        assert "(round-2-cd): its training began from round-1-ab" in said
        assert "(x)" not in said
    after = load_dataset(tmp_path / "s-dataset")
    assert len(after.conversations) == len(rows) - 1
    assert after.card.digest != kept.card.digest
    assert "1 forgotten" in after.card.made_by


def cli_json(value: object) -> str:
    return json.dumps(value) + "\n"
