"""Scaffold folders: what is wrong with one is said with file, line and key."""

import shutil
from pathlib import Path

import msgspec
import pytest
from support.agent_harness import TEMPLATES, make_scaffold

from automem.agent.scaffold import (
    FileKind,
    FileSchema,
    Notice,
    PruneRule,
    Scaffold,
    load_scaffold,
)
from automem.agent.schema import as_hashed
from automem.config import scaffold_path
from automem.errors import ScaffoldError, UsageError

GOOD = """\
name: mine
files:
  - name: map.txt
    kind: keyed
    key: "{x},{y}"
    drop: [{seen: "{x},{y} is gone", drop: "{x},{y}"}]
  - name: goals.txt
    kind: checklist
    initial: |
      [ ] collect wood
    drop_done: true
    show_last: 5
    show_in: [log, plan]
log:
  ops: [SEARCH, UPSERT]
  op_limits: {SEARCH: 2}
plan:
  ops: [SEARCH]
defer_commit: true
notices:
  - {when: unchanged, steps: 3}
  - when: lines("map.txt") > 40
    text: map.txt has {lines("map.txt")} lines
    routines: [log]
"""


def folder_with(tmp_path: Path, text: str, hooks: str = "") -> Path:
    folder = tmp_path / "scaffold"
    shutil.copytree(scaffold_path("embedded"), folder)
    (folder / "scaffold.yaml").write_text(text)
    if hooks:
        (folder / "hooks.py").write_text(hooks)
    return folder


def test_everything_that_shapes_memory_is_in_the_folder(tmp_path: Path) -> None:
    schema = load_scaffold(folder_with(tmp_path, GOOD)).schema
    assert [file.kind for file in schema.files] == [FileKind.KEYED, FileKind.CHECKLIST]
    assert schema.files[0].drop == (PruneRule("{x},{y} is gone", "{x},{y}"),)
    assert schema.log.op_limits == {"SEARCH": 2}
    assert schema.defer_commit


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("name: mine", "name: 7", 1, "name: Expected `str`, got `int`"),
        ("kind: keyed", "kind: keyd", 4, "files[0].kind: Invalid enum value 'keyd'"),
        ("kind: keyed", "kinds: keyed", 4, "did you mean 'kind'"),
        ('key: "{x},{y}"', 'key: "{x}{y}"', 5, "files[0].key: a {name} needs a space or a sign"),
        ('drop: "{x},{y}"', 'drop: "{z}"', 6, "files[0].drop[0]: {z} is not in the pattern"),
        ("- name: goals.txt", "- name: map.txt", 7, "two files of the same name"),
        ("- name: goals.txt", "- name: ../goals", 7, "files[1].name: that is not a file name"),
        ("[ ] collect", "collect", 9, "files[1].initial: lines of goals.txt are items"),
        ("drop_done: true", "drop_done: 3", 11, "files[1].drop_done: Expected `bool`"),
        ("show_last: 5", "show_last: -2", 12, "files[1].show_last: expected -1 (all)"),
        ("show_in: [log, plan]", "show_in: [lg]", 13, "files[1].show_in: no routine 'lg'"),
        ("ops: [SEARCH, UPSERT]", "ops: [SERCH]", 15, "log.ops[0]: no operation 'SERCH'; did you"),
        ("{SEARCH: 2}", "{READ: 2}", 16, "log.op_limits.READ: 'READ' is not among the ops"),
        ("{SEARCH: 2}", "{SEARCH: 0}", 16, "log.op_limits.SEARCH: must be at least 1"),
        ("defer_commit: true", "commit_turns: 0", 19, "commit_turns: must be from 1 to 20"),
        ("defer_commit: true", "result_tokens: 10000000", 19, "result_tokens: must be from 1 to"),
        ("plan:\n", "plan:\n  max_turns: 1000\n", 18, "plan.max_turns: must be from 1 to 100"),
        ("defer_commit: true", "max_file_bytes: 3", 9, "files[1].initial: longer than"),
        ("show_last: 5", "seperator: x", 12, "did you mean 'separator'"),
        ("steps: 3", "steps: 0", 21, "notices[0].steps: must be at least 1"),
        ("> 40", "> forty", 22, "notices[1]: no 'forty'"),
        ("routines: [log]", "steps: 3", 22, "notices[1]: `steps` goes with unchanged"),
        ("    text: map", "    # text: map", 22, "`text` is missing"),
        ("plan:\n  ops: [SEARCH]\n", "", 1, "missing required field `plan`"),
        ("defer_commit: true", "name: again", 19, "name: given twice"),
    ],
)
def test_an_error_names_file_line_and_key(
    tmp_path: Path, old: str, new: str, line: int, message: str
) -> None:
    assert old in GOOD
    folder = folder_with(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(ScaffoldError) as caught:
        load_scaffold(folder)
    assert f"{folder / 'scaffold.yaml'} line {line}" in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "leak",
    [
        '{when: changed, text: "you saw {search(\\"owl\\")}"}',
        '{when: changed, text: "the last line is {last_line}"}',
        '{when: "content(\\"map.txt\\") == \\"owl\\"", text: "owl is known"}',
        '{when: "previous_observation == action", text: "as before"}',
    ],
)
def test_a_notice_that_tells_what_only_memory_holds_is_rejected(tmp_path: Path, leak: str) -> None:
    folder = folder_with(tmp_path, GOOD.replace("{when: unchanged, steps: 3}", leak))
    with pytest.raises(ScaffoldError, match="would tell what only memory holds"):
        load_scaffold(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", "not valid YAML"),
        ("[" * 2000, "too deeply nested"),
        ("a: &a [1]\nb: *a\n", "line 2: aliases"),
        ("name: x\n" * 40_000, "larger than"),
        ("name: \udcff", "UTF-8"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
        ("3", "line 1"),
        ("", "line 1"),
    ],
)
def test_a_hostile_file_is_refused_quickly(tmp_path: Path, text: str, message: str) -> None:
    folder = folder_with(tmp_path, "")
    (folder / "scaffold.yaml").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ScaffoldError, match=message):
        load_scaffold(folder)


def test_a_template_that_does_not_render_is_found_when_it_is_loaded(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, GOOD)
    (folder / "plan.j2").write_text("# plan\n{{ observaton }}\n")
    with pytest.raises(ScaffoldError, match=r"plan\.j2 line 2 .*'observaton' is undefined"):
        load_scaffold(folder)
    (folder / "plan.j2").write_text("# plan\n\n{% if %}")
    with pytest.raises(ScaffoldError, match=r"plan\.j2 line 3"):
        load_scaffold(folder)
    (folder / "plan.j2").unlink()
    with pytest.raises(ScaffoldError, match=r"lacks the template plan\.j2"):
        load_scaffold(folder)


def test_hooks_that_are_no_python_are_found_when_they_are_loaded(tmp_path: Path) -> None:
    with pytest.raises(ScaffoldError, match=r"hooks\.py line 2"):
        load_scaffold(folder_with(tmp_path, GOOD, "def parse(observation):\n  return (\n"))


def test_a_field_needs_a_parser_in_the_hooks(tmp_path: Path) -> None:
    text = GOOD.replace('lines("map.txt") > 40', 'number_field("wood") > 40')
    with pytest.raises(ScaffoldError, match=r"needs a hooks\.py with a function `parse`"):
        load_scaffold(folder_with(tmp_path / "a", text, "def notices(moment): return []\n"))
    load_scaffold(folder_with(tmp_path / "b", text, "def parse(observation): return {}\n"))


def test_a_folder_without_a_schema_is_no_scaffold(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no scaffold\.yaml"):
        load_scaffold(tmp_path)


def test_a_version_changes_with_every_field_that_is_set() -> None:
    plain = make_scaffold([FileSchema("notes.txt")])
    versions = {plain.digest}
    for file in (
        FileSchema("notes.txt", kind=FileKind.LOG),
        FileSchema("notes.txt", keep_bytes=9),
        FileSchema("notes.txt", drop_repeated=True),
        FileSchema("notes.txt", show_in=("log",)),
        FileSchema("notes.txt", drop=(PruneRule("a", "b"),)),
    ):
        versions.add(make_scaffold([file]).digest)
    versions.add(make_scaffold(notices=[Notice("unchanged", routines=("log",))]).digest)
    schema = msgspec.structs.replace(plain.schema, defer_commit=True)
    versions.add(Scaffold(schema, TEMPLATES).digest)
    versions.add(Scaffold(plain.schema, TEMPLATES, "x = 1\n").digest)
    assert len(versions) == 9


def test_a_field_that_keeps_its_default_does_not_change_a_version() -> None:
    assert as_hashed(FileSchema("notes.txt")) == {
        "name": "notes.txt",
        "purpose": "",
        "initial": "",
        "separator": ": ",
        "show_last": 0,
        "keep_last": 0,
    }
