"""What a revision may not do, whoever wrote it."""

import pytest
from support.reviews import START

from automem.agent.scaffold_files import read_files
from automem.config import conf_dir, scaffold_path
from automem.loops.reviewers.constraints import Constraint, check_revision, explain
from automem.loops.reviewers.interface import Rules

V0 = read_files(scaffold_path("v0"))
SHOWN = START["scaffold.yaml"].replace("purpose: card rank}", "purpose: card rank, show_last: 9}")


def broken(**changes: str) -> set[str]:
    """The constraints that a change of the starting scaffold breaks; a file's name without its
    ending, dots as underscores."""
    names = {name.removesuffix(".j2").replace(".", "_"): name for name in START}
    new = {**START, "scaffold.yaml": SHOWN}
    new |= {names[key]: text for key, text in changes.items()}
    return {violation.constraint.value for violation in check_revision(START, new)}


def schema(old: str, new: str) -> dict[str, str]:
    assert old in SHOWN
    return {"scaffold_yaml": SHOWN.replace(old, new)}


def test_a_change_of_structure_may_be_played() -> None:
    assert check_revision(START, {**START, "scaffold.yaml": SHOWN}) == []


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("scaffold.yaml", "purpose: notes", "purpose: notes"),
        ("scaffold.yaml", "purpose: places and where they are", "purpose: where things are"),
        ("scaffold.yaml", "{name: map.txt", "{initial: go north, name: map.txt"),
        ("scaffold.yaml", "name: strategy.txt", "name: lessons.txt"),
        ("plan.system.j2", "You play a long game.", "You play a very long game and take care."),
        ("plan.j2", "# plan", "# plan\n{# remember the map #}{{ 'look well' }}"),
    ],
)
def test_wording_alone_is_refused(file: str, old: str, new: str) -> None:
    revised = {**V0, file: V0[file].replace(old, new)}
    [violation] = check_revision(V0, revised)
    assert violation.constraint is Constraint.STRUCTURE
    assert "only wording" in violation.message


def test_order_of_what_is_printed_is_structure() -> None:
    plan = START["plan.j2"]
    head, _, tail = plan.partition("# files")
    assert check_revision(START, {**START, "plan.j2": f"# plan\n# files{tail}\n{head}"}) == []


def test_log_must_write_and_plan_must_read() -> None:
    assert broken(**schema("ops: [SEARCH, APPEND]", "ops: [SEARCH]")) == {"memory"}
    assert broken(**schema("ops: [SEARCH]\n", "ops: [COUNT]\n")) == {"memory"}


def test_plan_may_not_write_before_the_world_has_answered() -> None:
    assert broken(**schema("ops: [SEARCH]\n", "ops: [SEARCH, UPSERT]\n")) == {"timing"}


def test_log_sees_the_action_and_what_came_of_it() -> None:
    log = START["log.j2"]
    assert broken(log=log.replace("{{ action }}", "")) == {"timing"}
    guarded = log.replace("{{ observation }}", "{% if changed %}{{ observation }}{% endif %}")
    assert broken(log=guarded) == {"timing"}


def test_the_hand_over_is_the_gameplay_roles() -> None:
    assert broken(commit=START["commit.j2"] + "flip the lowest card") == {"task"}
    assert broken(**schema("commit_turns: 2", "commit_turns: 3")) == {"task"}


@pytest.mark.parametrize(
    "text",
    [
        "{% if 'owl' in observation %}flip 05{% endif %}{{ observation }}",
        "{{ observation[:40] }}",
        "{{ observation | upper }}",
        "{% set observation = 'calm' %}{{ observation }}",
        "{% for line in observation.split('x') %}{{ line }}{% endfor %}",
        "{% filter replace('zombie', 'cow') %}{{ observation }}{% endfilter %}",
        "{% set x %}{{ observation }}{% endset %}{% if 'owl' in x %}flip 05{% endif %}"
        "{{ observation }}",
        "{% macro say() %}{{ observation }}{% endmacro %}{{ observation }}{{ say() | upper }}",
        "{% macro loud() %}{{ caller() | upper }}{% endmacro %}"
        "{% call loud() %}{{ observation }}{% endcall %}"
        "{{ observation }}",
        "{% block sight %}{{ observation }}{% endblock %}{{ self.sight() | upper }}"
        "{{ observation }}",
        "{% for n in [1] recursive %}{{ observation }}{% if n %}{{ loop([0]) | upper }}{% endif %}"
        "{% endfor %}{{ observation }}",
    ],
)
def test_what_the_world_says_is_printed_as_it_is(text: str) -> None:
    plan = START["plan.j2"].replace("{{ observation }}", text)
    assert "task" in broken(plan=plan)


@pytest.mark.parametrize(
    "condition",
    [
        "index",
        "not index",
        "notices",
        "shown",
        "not index or index[0].lines < 5",
        "notices or shown or index",
    ],
)
def test_no_condition_decides_whether_the_observation_is_printed(condition: str) -> None:
    text = f"{{% if {condition} %}}{{{{ observation }}}}{{% endif %}}"
    for name, constraint in (("plan", "task"), ("log", "timing")):
        assert broken(**{name: START[f"{name}.j2"].replace("{{ observation }}", text)}) == {
            constraint
        }


def test_what_is_shown_is_printed_whatever_else_there_is() -> None:
    plan = START["plan.j2"].replace("{{ file.text }}", "{% if index %}{{ file.text }}{% endif %}")
    assert broken(plan=plan) == {"memory"}


def test_parts_that_are_empty_may_be_left_out() -> None:
    plan = START["plan.j2"].replace(
        "{{ observation }}", "{{ observation }}{% if notices %}!{% endif %}"
    )
    assert broken(plan=plan) == set()


def test_an_instruction_that_was_shown_stays() -> None:
    system = START["plan.system.j2"].replace("{{ instruction }}", "Win.")
    assert broken(plan_system=system) == {"task"}


def test_what_is_declared_as_shown_is_printed() -> None:
    plan = START["plan.j2"].replace("{{ file.text }}", "")
    assert broken(plan=plan) == {"memory"}


def test_the_operations_stay_in_the_prompt() -> None:
    system = START["log.system.j2"].replace('{{ operations | join("\\n") }}', "")
    assert broken(log_system=system) == {"memory"}


def test_code_needs_leave() -> None:
    new = {**START, "hooks.py": "def notices(moment):\n    return []\n"}
    assert [v.constraint for v in check_revision(START, new)] == [Constraint.HOOKS]
    assert check_revision(START, new, Rules(allow_hooks=True)) == []


def test_code_that_differs_in_comments_is_wording() -> None:
    old = {**START, "hooks.py": "def notices(moment):\n    return []\n"}
    new = {**START, "hooks.py": 'def notices(moment):\n    """Nothing."""\n    return []  # yet\n'}
    found = check_revision(old, new, Rules(allow_hooks=True))
    assert [v.constraint for v in found] == [Constraint.STRUCTURE]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("../../etc/cron.d/x", "x"),
        ("plan.j2\0", "x"),
        ("a" * 5000, "x"),
        ("plan.j2", "x" * 64_001),
        ("scaffold.yaml", "name: x\n" * 20_000),
        ("scaffold.yaml", "a: &a [1]\nb: *a"),
        ("scaffold.yaml", "["),
        ("scaffold.yaml", "[" * 9000),
        ("plan.j2", "\ud800"),
        ("plan.j2", "a\0b"),
        ("plan.j2", "{% for x in %}"),
        ("plan.j2", "{{ " + "(" * 20_000),
        ("hooks.py", "def f(:"),
    ],
)
def test_hostile_files_are_told_and_nothing_more(name: str, text: str) -> None:
    found = check_revision(START, {**START, name: text}, Rules(allow_hooks=True))
    assert found
    assert found[0].constraint is Constraint.FORM
    assert len(explain(found)) < 2_000


@pytest.mark.parametrize("name", sorted(path.name for path in (conf_dir() / "scaffold").iterdir()))
def test_the_scaffolds_that_come_with_the_program_may_be_revised(name: str) -> None:
    files = read_files(scaffold_path(name))
    schema = files["scaffold.yaml"]
    assert check_revision(files, {**files, "scaffold.yaml": f"{schema}\nmax_files: 9\n"}) == []


def test_a_scaffold_without_its_schema_or_a_template_is_none() -> None:
    assert check_revision(START, {})[0].where == "scaffold.yaml"
    without = {name: text for name, text in START.items() if name != "plan.j2"}
    assert "plan.j2" in str(check_revision(START, without)[0])
