"""Which grammar a turn gets."""

import pytest

from automem import cli
from automem.agent.guidance import Guidance
from automem.agent.roles import AgentOptions
from automem.agent.scaffold import load_scaffold
from automem.config import scaffold_path
from automem.errors import UsageError
from automem.trace.events import Routine


@pytest.fixture
def guidance() -> Guidance:
    return Guidance(load_scaffold(scaffold_path("embedded")).schema, is_on=True)


def rules(grammar: str) -> set[str]:
    return {line.split(" ::= ")[0] for line in grammar.splitlines()} - {"root"}


def test_log_has_its_own_operations_and_done(guidance):
    found = rules(guidance.grammar(Routine.LOG, must_commit=False))
    assert {rule for rule in found if rule.startswith("tag-")} == {
        "tag-search",
        "tag-append",
        "tag-done",
    }


def test_plan_reads_or_commits_and_in_the_end_only_commits(guidance):
    found = rules(guidance.grammar(Routine.PLAN, must_commit=False))
    assert {rule for rule in found if rule.startswith("tag-")} == {"tag-search", "tag-action"}
    last = guidance.grammar(Routine.PLAN, must_commit=True)
    assert {rule for rule in rules(last) if rule.startswith("tag-")} == {"tag-action"}
    assert last.startswith("root ::= prose (tag-action)\n")


def test_every_rule_that_is_named_is_there(guidance):
    for routine in Routine:
        grammar = guidance.grammar(routine, must_commit=False)
        for line in grammar.splitlines():
            body = line.split(" ::= ")[1]
            for name in ("prose", "end", "file", "text", "keyword", "action", "op", "part"):
                if f" {name} " in f" {body} ":
                    assert name in rules(grammar)
        assert "{0,3}" in grammar


def test_it_is_off_unless_it_is_asked_for():
    schema = load_scaffold(scaffold_path("embedded")).schema
    assert not AgentOptions().guided
    assert Guidance(schema, AgentOptions().guided).grammar(Routine.LOG, must_commit=False) == ""


def test_it_needs_a_dialect_and_an_engine_that_can(tmp_path, monkeypatch, capsys):
    with pytest.raises(UsageError, match="needs agent"):
        AgentOptions(guided=True, dialect="tools")
    monkeypatch.chdir(tmp_path)
    run = ["rollout", "engine=scripted", "rollout.workers=0", "rollout.seeds=[1]"]
    assert cli.main([*run, "agent.guided=true"]) == cli.USAGE
    assert "such as engine=vllm" in capsys.readouterr().err
