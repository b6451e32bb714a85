"""Recorded sessions: the three formats, how answers are judged, and what is said of bad files."""

import json
import warnings
from pathlib import Path

import pytest
from support.plain_play import play_plainly
from support.world_contract import (
    assert_killed_episode_resumes,
    assert_same_in_every_process,
    assert_takes_anything,
)

from automem.errors import UsageError
from automem_envs.sessions import RecordedSessionsPlayer, RecordedSessionsWorld, recorded
from automem_envs.sessions.judging import has_files, has_words

SAMPLES = Path(__file__).parent / "samples"


def world_of(form: str) -> RecordedSessionsWorld:
    return RecordedSessionsWorld(form, next(SAMPLES.glob(f"{form}.*")))


def play(world: RecordedSessionsWorld, seed: int, answers: dict[str, str]) -> tuple[list, dict]:
    """Every observation and the last info, answering where a question holds a key."""
    text, info = world.reset(seed=seed)
    texts = [text]
    while True:
        asked = text.split("Question: ")[1] if "Question: " in text else ""
        action = next((f"answer {said}" for key, said in answers.items() if key in asked), "next")
        text, _, terminated, truncated, info = world.step(action)
        texts.append(text)
        if terminated or truncated:
            assert not truncated
            return texts, info


def test_memory_arena_one_question_is_one_session() -> None:
    world = world_of("memory_arena")
    texts, info = play(world, 0, {"blue lamp": "The oak shelf!", "chair": "chair 8"})
    assert info["session_scores"] == [1.0, 0.0]
    assert info["progression"] == 0.5
    assert any("Chair 7 is made of oak." in text for text in texts)


def test_memory_arena_numbers_and_a_single_background_are_taken() -> None:
    texts, info = play(world_of("memory_arena"), 1, {"bound?": "12", "cases": "3 cases"})
    assert info["progression"] == 1.0
    assert sum("Lemma A bounds" in text for text in texts) == 1


def test_long_mem_eval_is_told_turn_by_turn_and_asked_in_the_last_session() -> None:
    texts, info = play(world_of("long_mem_eval"), 0, {"bicycle": "It is in the shed."})
    told = [text for text in texts if "user: " in text or "assistant: " in text]
    assert len(told) == 4
    assert any("Date: 2024/05/20" in text for text in texts)
    assert not any("cellar" in text and "shed now" not in text for text in texts[5:])
    assert info["session_scores"] == [1.0]
    assert info["progression"] == 1.0


def test_long_mem_eval_what_nobody_told_is_unknown() -> None:
    assert play(world_of("long_mem_eval"), 1, {"cat": "Tom"})[1]["progression"] == 0.0
    assert play(world_of("long_mem_eval"), 1, {"cat": "unknown"})[1]["progression"] == 1.0


def test_swe_bench_issues_of_a_repository_come_oldest_first_and_reveal_their_files() -> None:
    answers = {"cart-1": "cart/money.py", "cart-2": "cart/money.py"}
    texts, info = play(world_of("swe_bench"), 0, answers)
    assert info["session_scores"] == [0.0, 1.0]
    order = [text for text in texts if "Issue shop__cart" in text]
    assert ["cart-1" in order[0], "cart-2" in order[1]] == [True, True]
    assert any("was solved in: cart/money.py cart/rounding.py" in text for text in texts)
    assert play(world_of("swe_bench"), 1, {"site-9": "site/footer.html"})[1]["progression"] == 1.0


@pytest.mark.parametrize(
    ("said", "answer", "is_right"),
    [
        ("In the Shed.", "in the shed", True),
        ("it is in shed", "in the shed", True),
        ("shed", "in the shed", False),
        ("12", "12", True),
        ("112", "12", False),
        ("a b c d e f g h i j k shed l", "shed", False),
        ("", "shed", False),
        ("++", "++", True),
        ("A", "A", True),
        ("'The'.", "the", True),
        ("an", "a", False),
        ("", "...", False),
        ("5", "-5", False),
        ("-5", "5", False),
        ("It was \N{MINUS SIGN}5 degrees.", "-5", True),
        ("3.5", "5", False),
        ("5", "3.5", False),
        ("about 3.50", "3.5", True),
        ("It cost $1,000.", "1000", True),
        ("1000", "1,000", True),
        ("1,000", "1,000,000", False),
        ("C#", "C++", False),
        ("C", "C++", False),
        ("We use C++.", "C++", True),
        ("x-1", "x^1", False),
        ("twenty one", "twenty-one", True),
        ("at 10:30", "10:30", True),
        ("**Rome**", "Rome", True),
        ("Unknown.", "unknown", True),
        ("Rome unknown", "unknown", False),
        ("Rome unknown", "Rome", False),
        ("unknown or maybe Rome", "Rome", False),
        ("The Unknown Soldier", "the unknown soldier", True),
    ],
)
def test_answers_are_judged_by_words(said: str, answer: str, is_right: bool) -> None:
    assert has_words(said, (answer,)) is is_right


def test_files_are_judged_as_a_set() -> None:
    assert has_files("`b.py`, a.py", ("a.py", "b.py"))
    assert has_files("a.py c.py", ("a.py",))
    assert not has_files("a.py c.py d.py", ("a.py",))
    assert not has_files("a.py", ("a.py", "b.py"))


@pytest.mark.parametrize(
    ("form", "change", "words"),
    [
        ("memory_arena", {"questions": "one"}, "field 'questions': expected a list that is not"),
        ("memory_arena", {"answers": ["one"]}, "field 'answers': expected 2, one for each"),
        ("memory_arena", {"answers": ["a", {}]}, r"field 'answers\[1\]': expected text"),
        (
            "memory_arena",
            {"answers": [{"target_asin": "B0", "attributes": []}, "b"]},
            r"'answers\[0\]': expected text: of MemoryArena, progressive_search and formal_reas",
        ),
        ("memory_arena", {"base_person": {"name": "Ada"}}, "'base_person': expected no such field"),
        ("memory_arena", {"id": None}, "field 'id': expected text, got null"),
        ("long_mem_eval", {"haystack_sessions": []}, "expected a list that is not empty"),
        (
            "long_mem_eval",
            {"haystack_sessions": ["x"]},
            r"'haystack_sessions\[0\]'.*a list of turns",
        ),
        (
            "long_mem_eval",
            {"haystack_sessions": [[{"role": "user"}]]},
            "turn 1.*'content'.*nothing",
        ),
        ("long_mem_eval", {"answer": True}, "field 'answer': expected text, got true or false"),
        ("swe_bench", {"patch": "no diff"}, r"field 'patch': expected a unified diff"),
        ("swe_bench", {"repo": ""}, "field 'repo': expected text, got text that is empty"),
    ],
)
def test_a_record_that_does_not_fit_is_named_with_its_field(
    form: str, change: dict, words: str, tmp_path: Path
) -> None:
    text = next(SAMPLES.glob(f"{form}.*")).read_text()
    record = json.loads(text)[0] if form == "long_mem_eval" else json.loads(text.split("\n")[0])
    path = tmp_path / "bad.jsonl"
    path.write_text(f"{json.dumps(record)}\n\n{json.dumps({**record, **change})}\n")
    with pytest.raises(UsageError, match=rf"bad.jsonl, record on line 3.*{words}"):
        RecordedSessionsWorld(form, path)


def test_every_line_feed_and_nothing_else_ends_a_line_of_json(tmp_path: Path) -> None:
    """Defect: U+2028 and U+0085 inside a text cut the record; a byte order mark was refused."""
    path = tmp_path / "lines.jsonl"
    record = {"id": 1, "questions": ["who\u2028is\x85it?"], "answers": ["x"]}
    lines = json.dumps(record, ensure_ascii=False) + "\r\n"
    path.write_text(2 * lines, encoding="utf-8-sig", newline="")
    world = RecordedSessionsWorld("memory_arena", path)
    world.reset(seed=0)
    assert "who\u2028is\x85it?" in world.step("next")[0]


def test_turns_without_text_are_left_out(tmp_path: Path) -> None:
    """Defect: one empty turn refused the whole file, as published files have them."""
    turns = [{"role": "user", "content": text} for text in ("", "I own a cat.", "  ")]
    record = {"question_id": "q", "question": "?", "answer": "x", "haystack_sessions": [turns]}
    path = tmp_path / "empty.json"
    path.write_text(json.dumps([record]))
    texts, _ = play(RecordedSessionsWorld("long_mem_eval", path), 0, {})
    assert sum("user: " in text for text in texts) == 1


def test_seeds_that_play_the_same_record_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "_played", {})
    world = world_of("memory_arena")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [world.reset(seed=seed)[1]["record"] for seed in (0, 1, 0)] == ["1", "2", "1"]
    with pytest.warns(UserWarning, match="has 2 records: several seeds play the same one"):
        assert world.reset(seed=2)[1]["record"] == "1"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "at least one record"),
        ("[{]", "expected a JSON list"),
        ('{"id": 1}\n{"id"', "line 1, field|record on line 1"),
        ("[1]", "record 1: expected an object, got a number"),
        ('"x', "line 1: expected JSON"),
    ],
)
def test_a_file_that_is_no_json_is_refused_in_words(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=words):
        RecordedSessionsWorld("memory_arena", path)


def test_a_missing_file_and_an_unknown_format_are_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        RecordedSessionsWorld("memory_arena", tmp_path / "none.jsonl")
    with pytest.raises(UsageError, match="did you mean 'memory_arena'"):
        RecordedSessionsWorld("memory_arna", tmp_path / "none.jsonl")


def test_two_processes_with_different_hash_seeds_give_the_same_trace(tmp_path: Path) -> None:
    path = tmp_path / "three.jsonl"
    records = [{"id": n, "questions": [f"{n}?"] * 9, "answers": ["this"] * 9} for n in range(50)]
    path.write_text("\n".join(map(json.dumps, records)))
    target = {
        "_target_": "automem_envs.sessions.RecordedSessionsWorld",
        "form": "memory_arena",
        "path": str(path),
    }
    assert_same_in_every_process(target, ["next", "answer this"])


def test_ten_thousand_arbitrary_strings_do_no_harm() -> None:
    target = {
        "_target_": "automem_envs.sessions.RecordedSessionsWorld",
        "form": "swe_bench",
        "path": str(SAMPLES / "swe_bench.jsonl"),
    }
    assert_takes_anything(target, ["next", "answer cart/money.py"], 5_000)
    target |= {"form": "memory_arena", "path": str(SAMPLES / "memory_arena.jsonl")}
    assert_takes_anything(target, ["next", "answer 12"], 5_000)


@pytest.mark.parametrize(
    ("form", "answers_lie_in_notes"),
    [("long_mem_eval", True), ("memory_arena", False), ("swe_bench", False)],
)
async def test_the_scripted_player_finds_what_its_notes_say_word_for_word(
    form: str, answers_lie_in_notes: bool, tmp_path: Path
) -> None:
    reached = {}
    for reads in (True, False):
        player = RecordedSessionsPlayer(reads=reads)
        played = [
            await play_plainly(world_of(form), player, tmp_path / str(reads), seed)
            for seed in (0, 1)
        ]
        assert not any(episode.refused for episode in played)
        reached[reads] = sum(episode.outcome.progression for episode in played)
    assert (reached[True] > reached[False]) == answers_lie_in_notes


def test_a_killed_episode_resumes_to_the_same_trace(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    record = {"id": 1, "questions": ["which?"] * 20, "answers": ["this"] * 20}
    path.write_text(json.dumps(record))
    assert_killed_episode_resumes(
        {
            "_target_": "automem_envs.sessions.RecordedSessionsWorld",
            "form": "memory_arena",
            "path": str(path),
        },
        {"_target_": "automem_envs.sessions.RecordedSessionsPlayer"},
        tmp_path,
    )
