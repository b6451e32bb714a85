"""The audit's measures: on a script whose memory is perfect, and on scores made by hand."""

import asyncio
from pathlib import Path

import msgspec
import numpy as np
import pytest

from automem import cli
from automem.audit.experiment import ArmResult, verdict
from automem.audit.facts import Condition, Fact, Kind, Variant
from automem.audit.parametric import judge
from automem.audit.probes import Answer, Retrieved, build_prober
from automem.audit.rates import ALL, rates
from automem.commands.plan import spec_from
from automem.config import compose
from automem.engine.build import build_engine
from automem_envs.concentration.facts import ConcentrationFacts

ALPHA = 0.01


@pytest.fixture(scope="module")
def facts() -> list[Fact]:
    return list(ConcentrationFacts(12).facts(1_000))


@pytest.fixture(scope="module")
def answers(facts: list[Fact]) -> list[Answer]:
    """Of the script that searches for every open card and believes what it finds."""
    spec = spec_from(compose("config", ["env=concentration", "engine=scripted"]))

    async def ask() -> list[Answer]:
        engine = build_engine(spec.engines["base"].target)
        prober = await build_prober(ConcentrationFacts(12), spec, {"base": engine})
        return await prober.ask(facts, repeats=1)

    return asyncio.run(ask())


def test_every_fact_is_one_of_the_deck_and_its_answer_finds_the_mate(facts: list[Fact]) -> None:
    assert len(facts) == 12
    for fact in facts:
        card, rank = fact.direct.text.split()
        assert f"shows {rank} first" in fact.question
        assert fact.answer == f"flip {card}"
        assert fact.symbols[fact.truth] == f" {rank}"
        assert fact.completion == f"<|APPEND|>cards.txt|{card} {rank}<|END|><|DONE|>"
        assert not any(fact.direct.text == line.text for line in fact.noise)
    assert all(fact.symbols == facts[0].symbols for fact in facts)


def test_perfect_memory_answers_while_the_fact_is_there(answers: list[Answer]) -> None:
    found = {row.variant: row for row in rates(answers)}
    for variant in (Variant.BASE, Variant.ALIAS, Variant.NOISE):
        assert found[variant].full.mean == 1.0
    assert found[Variant.COLLISION].full.mean is not None
    assert found[Variant.COLLISION].full.mean < 1.0


def test_an_alias_survives_the_deletion_and_is_told_by_its_writer(answers: list[Answer]) -> None:
    row = next(row for row in rates(answers) if row.variant == Variant.ALIAS)
    assert row.del_on.mean == row.retrieved.mean == 1.0
    seen = [
        {line.kind for line in answer.retrieved}
        for answer in answers
        if answer.variant is Variant.ALIAS
    ]
    by_condition = [
        {line.kind for line in answer.retrieved}
        for answer in answers
        if answer.variant is Variant.ALIAS and answer.condition is Condition.DEL_ON
    ]
    assert any({Kind.DIRECT, Kind.ALIAS} <= kinds for kinds in seen)
    assert all(kinds == {Kind.ALIAS} for kinds in by_condition)


def test_a_near_neighbour_is_followed_after_the_deletion(answers: list[Answer]) -> None:
    row = next(row for row in rates(answers) if row.variant == Variant.COLLISION)
    assert row.artefact.mean == 1.0
    assert row.retrieved.mean == row.unexplained.mean == 0.0


def test_nothing_is_retrieved_with_memory_off(answers: list[Answer]) -> None:
    off = [answer for answer in answers if answer.condition is Condition.DEL_OFF]
    assert len(off) == 12 * len(Variant)
    assert not any(answer.retrieved for answer in off)


def made(correct: bool, retrieved: tuple[Retrieved, ...], follows: str = "") -> Answer:
    return Answer("f", Variant.BASE, Condition.DEL_ON, 0, "flip 1", correct, retrieved, follows)


def test_what_survives_is_told_apart_by_what_was_retrieved() -> None:
    alias = Retrieved("notes.txt", "17 horse", Kind.ALIAS)
    near = Retrieved("cards.txt", "09 horse", Kind.COLLISION)
    given = [
        made(True, (alias,)),
        made(True, ()),
        made(False, (near,), "09 horse"),
        made(False, ()),
    ]
    row = rates(given)[-1]
    assert row.variant == ALL
    shares = (row.del_on, row.retrieved, row.unexplained, row.artefact)
    assert [share.mean for share in shares] == [0.5, 0.25, 0.25, 0.25]


def dealt(seed: int) -> tuple[np.random.Generator, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator, generator.permutation(np.repeat(np.arange(20), 2))


def test_weights_that_prefer_the_true_symbol_are_flagged() -> None:
    generator, truth = dealt(1)
    scores = generator.normal(size=(40, 20))
    scores[np.arange(40), truth] += 1.0
    leak = judge(scores, truth, ALPHA)
    assert leak.is_flagged
    assert leak.advantage > 0.5
    assert leak.first.mean is not None
    assert leak.first.mean > 0.1


def test_a_liking_for_some_symbols_or_some_things_is_no_leak() -> None:
    generator, truth = dealt(2)
    scores = generator.normal(size=(40, 20)) * 0.1
    scores += generator.normal(size=(1, 20)) * 5 + generator.normal(size=(40, 1)) * 5
    assert not judge(scores, truth, ALPHA).is_flagged


def test_without_a_leak_no_more_models_are_flagged_than_declared() -> None:
    flagged = 0
    for seed in range(60):
        generator, truth = dealt(seed)
        flagged += judge(generator.normal(size=(40, 20)), truth, 0.05, seed).is_flagged
    assert flagged <= 10  # 3 are expected; more than 10 come once in 5,000 such tests


def test_scores_that_do_not_differ_are_no_leak() -> None:
    _, truth = dealt(3)
    leak = judge(np.zeros((40, 20)), truth, ALPHA)
    assert leak.p == 1.0
    assert leak.first.mean == 0.0


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({"base": False, "clean": False, "canaries": False, "planted": True}, "no leak found"),
        ({"base": False, "canaries": True, "planted": True}, "leak: the weights of canaries"),
        ({"base": False, "planted": False}, "the audit sees nothing"),
        ({"base": False, "clean": True, "planted": True}, "the audit cannot be trusted: clean"),
    ],
)
def test_the_verdict_is_withheld_where_a_control_fails(flags: dict[str, bool], told: str) -> None:
    _, truth = dealt(4)
    leak = judge(np.zeros((40, 20)), truth, ALPHA)
    arms = []
    for name, is_flagged in flags.items():
        leak = msgspec.structs.replace(leak, is_flagged=is_flagged)
        arms.append(ArmResult(name=name, adapter="", rates=[], leak=leak))
    assert verdict(arms).startswith(told)


def test_wrong_keys_and_worlds_are_told_before_anything_is_played(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["audit", "experiment=embedded", "audit.repeat=3"]) == cli.USAGE
    assert "repeats" in capsys.readouterr().err
    assert cli.main(["audit", "experiment=embedded", "audit.repeats=0"]) == cli.USAGE
    assert "at least 1" in capsys.readouterr().err
    assert cli.main(["audit", "env=concentration", "engine=scripted"]) == cli.USAGE
    assert "needs a model" in capsys.readouterr().err
    assert not list(tmp_path.rglob("games-*"))


AUDIT = [
    *("audit", "experiment=embedded", "env.world.cards=8", "specialist=shipped"),
    *("audit.trains=false", "audit.contexts=1", "run.dir=audit"),
]


def test_an_audit_that_is_gone_on_with_asks_nothing_twice_and_keeps_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main([*AUDIT, "audit.repeats=1"]) == 0
    results = (tmp_path / "audit/results.json").read_bytes()
    kept = {path: path.read_bytes() for path in tmp_path.glob("audit/answers-*.jsonl")}
    assert [path.name for path in sorted(kept)] == [
        "answers-base.jsonl",
        "answers-specialist.jsonl",
    ]
    (tmp_path / "audit/results.json").unlink()
    (tmp_path / "audit/answers-base.jsonl").unlink()  # killed before its end
    assert cli.main(["audit", "run.dir=audit"]) == 0
    assert {path: path.read_bytes() for path in tmp_path.glob("audit/answers-*.jsonl")} == kept
    assert (tmp_path / "audit/results.json").read_bytes() == results

    capsys.readouterr()
    for word, told in (
        ("audit.repeats=3", "audit.repeats: 1 then, 3 now"),
        ("specialist=null", "memory.adapter"),
        ("agent.protocol=one_role", "agent.protocol: two_roles then"),
    ):
        assert cli.main(["audit", "run.dir=audit", word]) == cli.USAGE
        assert told in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.glob("audit/answers-*.jsonl")} == kept
    assert "repeats: 1" in (tmp_path / "audit/config.yaml").read_text()


def test_another_world_is_audited_by_facts_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    source = f"facts._target_={ConcentrationFacts.__module__}.ConcentrationFacts"
    assert cli.main(["audit", "env=crafter", "engine=scripted", source]) == cli.USAGE
    assert "facts are those of concentration, the world is crafter" in capsys.readouterr().err
