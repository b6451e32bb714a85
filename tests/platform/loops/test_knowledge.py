"""What a revision added, told apart: structure of memory, and knowledge of the task."""

import shutil
from pathlib import Path

import pytest
from support.toy_world import toy_spec

from automem.agent.scaffold_files import SCHEMA, read_files
from automem.config import scaffold_path
from automem.errors import ScaffoldError, UsageError
from automem.loops.knowledge import KnowledgeClass, as_text, classify
from automem.loops.knowledge_file import read_knowledge, with_knowledge
from automem.loops.knowledge_words import words_of_runs, words_of_world
from automem.loops.passages import added, passages, without
from automem.loops.reviewers.materials import loaded, loaded_schema
from automem.rollout.run import run_rollout
from automem.rollout.spec import WorldSpec

WORDS = frozenset(["shows", "match", "miss", "pending", "illegal", "flip", "owl", "pairs", "cards"])
START = read_files(scaffold_path("embedded"))


def revised(old: str, new: str, file: str = SCHEMA) -> dict[str, str]:
    assert old in START[file]
    return {**START, file: START[file].replace(old, new)}


RULE = revised(
    "purpose: card rank}",
    'purpose: card rank, drop: [{seen: "{card} shows {rank} match", drop: "{card}"}]}',
)
SHOWN = revised("purpose: card rank}", "purpose: card rank, show_last: 10, kind: keyed}")
WORDED = revised("- {name: notes.txt}", "- {name: notes.txt, purpose: what an illegal flip does}")
INITIAL = revised(
    "- {name: notes.txt}",
    '- {name: notes.txt, initial: "an illegal flip is lost\\nkeep it short\\n"}',
)
NOTICED = revised(
    "commit_turns: 2",
    "notices:\n  - {when: repeated, text: same again}\n"
    '  - {when: sees("illegal"), text: look first}\ncommit_turns: 2',
)


def kinds(new: dict[str, str], declared: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    return [(c.passage.text, str(c.kind)) for c in classify(START, new, declared, WORDS)]


def test_limits_kinds_and_lines_shown_add_no_passage() -> None:
    assert added(START, SHOWN) == []
    assert kinds(SHOWN) == []


def test_a_rule_that_acts_on_the_worlds_words_is_flagged_unless_declared() -> None:
    text = "once there is '{card} shows {rank} match', lines with {card} are of no more use"
    assert kinds(RULE) == [(text, "undeclared")]
    assert kinds(RULE, ("+ {card} shows {rank} match",)) == [(text, "declared")]


def test_wording_with_several_of_the_worlds_words_is_flagged_and_a_mention_is_not() -> None:
    assert kinds(WORDED) == [("what an illegal flip does", "undeclared")]
    one = revised("- {name: notes.txt}", "- {name: notes.txt, purpose: what a flip does}")
    assert kinds(one) == [("what a flip does", "structure")]


def test_a_notice_is_judged_with_its_condition() -> None:
    assert kinds(NOTICED) == [
        ("when repeated: same again", "structure"),
        ('when sees("illegal"): look first', "undeclared"),
    ]


def test_lines_of_initial_content_and_of_templates_are_judged_one_by_one() -> None:
    assert kinds(INITIAL) == [
        ("an illegal flip is lost", "undeclared"),
        ("keep it short", "structure"),
    ]
    worded = revised("# plan", "# plan\nan owl is no match for a flip", "plan.j2")
    assert kinds(worded) == [("an owl is no match for a flip", "undeclared")]


def test_words_of_the_start_are_no_news_and_those_of_an_accepted_version_are() -> None:
    again = {**WORDED, "plan.j2": START["plan.j2"] + "look at the illegal flip\n"}
    [found] = classify(WORDED, again, (), WORDS, START)
    assert (found.kind, found.words) == (KnowledgeClass.UNDECLARED, ("flip", "illegal"))
    [found] = classify(WORDED, again, (), WORDS, WORDED)
    assert (found.kind, found.words) == (KnowledgeClass.STRUCTURE, ())


def test_the_name_of_a_file_is_a_passage() -> None:
    named = revised("- {name: notes.txt}", "- {name: notes.txt}\n  - {name: owl_pairs_match.txt}")
    assert kinds(named) == [("owl_pairs_match.txt", "undeclared")]
    rest = without(named, [c.passage for c in classify(START, named, (), WORDS)], [START])
    assert [file.name for file in loaded_schema(rest).files] == [
        "cards.txt", "notes.txt", "file_1.txt",
    ]  # fmt: skip


EDITED = revised("purpose: card rank}", "purpose: card rank; an illegal flip is no match}")
EDITED = {
    **EDITED,
    "plan.j2": START["plan.j2"].replace(
        "# observation", "# observation: no illegal flip of an owl\nkeep"
    ),
}


def test_what_knowledge_had_replaced_is_put_back() -> None:
    gone = [c.passage for c in classify(START, EDITED, (), WORDS) if c.is_knowledge]
    assert len(gone) == 2
    rest = without(EDITED, gone, [START])
    assert loaded_schema(rest).files[0].purpose == "card rank"
    assert rest["plan.j2"] == START["plan.j2"].replace("# observation", "# observation\nkeep")


def test_knowledge_on_knowledge_goes_back_to_what_was_before_both() -> None:
    again = {
        **EDITED,
        SCHEMA: EDITED[SCHEMA].replace("is no match}", "is no match and pairs are}"),
    }
    known = [
        *classify(START, EDITED, (), WORDS, START),
        *classify(EDITED, again, (), WORDS, START),
    ]
    rest = without(again, [c.passage for c in known if c.is_knowledge], [EDITED, START])
    assert loaded_schema(rest) == loaded_schema(START)
    assert rest["plan.j2"] == START["plan.j2"].replace("# observation", "# observation\nkeep")


def test_a_rule_and_a_notice_that_were_edited_are_put_back() -> None:
    before = revised(
        "purpose: card rank}",
        'purpose: card rank, drop: [{seen: "{card} gone", drop: "{card}"}]}',
    )
    before[SCHEMA] += "notices:\n  - {when: repeated, text: same again}\n"
    after = before[SCHEMA].replace("{card} gone", "{card} shows owl match")
    new = {**before, SCHEMA: after.replace("same again", "same illegal flip again")}
    gone = [c.passage for c in classify(before, new, (), WORDS, START)]
    assert [passage.acts for passage in gone] == [True, True]
    schema, old = loaded_schema(without(new, gone, [before])), loaded_schema(before)
    assert (schema.files, schema.notices) == (old.files, old.notices)


def test_knowledge_is_a_text_that_others_can_be_given() -> None:
    found = classify(START, INITIAL, (), WORDS)
    assert as_text(found) == "an illegal flip is lost"
    assert as_text(classify(START, SHOWN, (), WORDS)) == ""


@pytest.mark.parametrize("new", [RULE, WORDED, INITIAL, NOTICED])
def test_a_scaffold_without_its_knowledge_loads_and_has_all_the_rest(new: dict[str, str]) -> None:
    gone = [c.passage for c in classify(START, new, (), WORDS) if c.is_knowledge]
    rest = without(new, gone)
    assert set(passages(rest)) == set(passages(new)) - set(gone)
    loaded(rest)


def test_what_is_left_without_knowledge_keeps_the_structure() -> None:
    both = {
        **RULE,
        SCHEMA: RULE[SCHEMA].replace("card rank, drop", "card rank, show_last: 7, drop"),
    }
    gone = [c.passage for c in classify(START, both, (), WORDS)]
    [cards, _] = loaded_schema(without(both, gone)).files
    assert (cards.show_last, cards.drop, cards.purpose) == (7, (), "card rank")
    assert "# The starting scaffold of the embedded game" in without(both, gone)[SCHEMA]


def test_a_template_that_does_not_stand_without_its_knowledge_is_told() -> None:
    loop = revised("# plan", "# plan\n{% if index %}\nan owl is no match\n{% endif %}", "plan.j2")
    gone = [p for p in added(START, loop) if p.text == "{% if index %}"]
    with pytest.raises(ScaffoldError, match="without what was taken out it does not load"):
        without(loop, gone)


def test_the_worlds_words_come_from_instruction_observations_and_actions(tmp_path: Path) -> None:
    run_rollout(toy_spec(seeds=range(2)), tmp_path)
    spec = toy_spec(seeds=range(2))
    words = words_of_runs([tmp_path]) | words_of_world(spec.world)
    assert {"lamp", "colour", "hall", "glass", "red", "purple"} <= words
    assert not {"operations", "strategy"} & words  # prompts and what the player wrote


def test_the_worlds_words_outlive_the_journals(tmp_path: Path) -> None:
    run_rollout(toy_spec(seeds=range(2)), tmp_path)
    words = words_of_runs([tmp_path])
    for journal in tmp_path.glob("episodes/*/journal"):  # as `automem gc` does
        shutil.rmtree(journal)
    assert words
    assert words_of_runs([tmp_path]) == words


def test_a_world_tells_words_that_no_game_has_shown() -> None:
    target = "automem_envs.crafter.CrafterWorld"
    words = words_of_world(WorldSpec("crafter", {"_target_": target}))
    assert {"pickaxe", "furnace", "sapling", "lava"} <= words


@pytest.mark.parametrize("target", ["nethack.NetHackWorld", "minihack.MiniHackWorld"])
def test_nethacks_creatures_and_objects_are_its_words(target: str) -> None:
    pytest.importorskip("nle")
    pytest.importorskip("minihack")
    words = words_of_world(WorldSpec("nethack", {"_target_": f"automem_envs.{target}"}))
    assert {"newt", "dagger", "fountain"} <= words


def test_a_knowledge_file_is_read_once_and_what_is_wrong_with_it_told(tmp_path: Path) -> None:
    path = tmp_path / "facts.txt"
    path.write_text("a table needs wood\n")
    assert with_knowledge({"memory": "none", "knowledge": str(path)}) == {
        "memory": "none",
        "knowledge": "a table needs wood",
    }
    assert with_knowledge({"knowledge": ""}) == {"knowledge": ""}
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_knowledge(tmp_path / "none.txt")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="no UTF-8"):
        read_knowledge(path)
    path.write_text("x" * 64_001)
    with pytest.raises(UsageError, match="64000 is the most"):
        read_knowledge(path)


@pytest.mark.parametrize(
    ("added_line", "kind"),
    [
        ("---", "structure"),
        ("#", "structure"),
        ("cards", "structure"),
        ("the", "structure"),
        ("an owl pairs up", "declared"),
        ("n owl pairs u", "structure"),
        ("flip the owl, then", "declared"),
    ],
)
def test_a_piece_of_a_declared_line_is_declared_only_where_it_is_no_accident(
    added_line: str, kind: str
) -> None:
    new = {**START, "plan.j2": f"{START['plan.j2']}{added_line}\n"}
    said = "An owl pairs up with the cards: flip the owl, then the others."
    assert kinds(new, (said,)) == [(added_line, kind)]
