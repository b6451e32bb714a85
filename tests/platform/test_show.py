import io

import msgspec
import pytest
from rich.console import Console
from support.traces import failed_play, play, write_journal, write_run

from automem.errors import UsageError
from automem.show import show
from automem.trace.events import Blob, Committed, Failed, Observed, Turn


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "run", [play(3), failed_play(99)])


def shown(run, episode="concentration-3-0", step=None, **options):
    console = Console(file=io.StringIO(), width=140, color_system=None)
    show(run, episode, step, console=console, **options)
    return console.file.getvalue()


def test_the_timeline_has_a_line_per_step_and_says_how_to_go_on(run):
    text = shown(run)
    assert "progression 0.600 after 40 actions, cap" in text
    assert len([line for line in text.splitlines() if "face down" in line]) == 41
    assert "flip 20" in text
    assert "wait (fallback) invalid" in text
    assert "--step N" in text


def test_a_step_shows_observation_turns_results_diff_action_and_answer(run):
    text = shown(run, step=16)
    assert "flipped 15: 8, first of a pair" in text
    assert "<|APPEND|>cards.txt|15 8<|END|>" in text
    assert "SEARCH cards.txt | 8  → ok" in text
    assert "written in step " in text
    assert "  + 15 8" in text
    assert "action  flip 13" in text
    assert "world   reward 0, progression 0.100" in text


def test_prompts_are_shown_on_demand(run):
    assert "You play Concentration." not in shown(run, step=16)
    assert "You play Concentration." in shown(run, step=16, prompts=True)


def test_an_unfinished_episode_is_shown_from_its_journal(tmp_path):
    events = play(3)
    cut = next(i for i, e in enumerate(events) if isinstance(e, Turn) and e.step == 6)
    failure = Failed(6, "engine", "connection refused", True)
    write_journal(tmp_path / "episodes" / "concentration-3-0", [*events[: cut + 1], failure])
    assert "not finished: 7 steps begun" in shown(tmp_path)
    text = shown(tmp_path, step=6)
    assert "no action in this step" in text
    assert "failed at engine: connection refused" in text


def test_a_step_whose_action_is_unanswered_says_so(tmp_path):
    events = play(3)
    cut = next(i for i, e in enumerate(events) if isinstance(e, Committed) and e.step == 6)
    write_journal(tmp_path / "episodes" / "concentration-3-0", events[: cut + 1])
    assert "the world has not answered yet" in shown(tmp_path, step=6)


def test_a_player_that_failed_before_the_first_step_is_shown_with_its_error(run):
    text = shown(run, "concentration-99-0")
    assert "player_failed (scaffold: no such name)" in text
    with pytest.raises(UsageError, match="the episode has no steps"):
        shown(run, "concentration-99-0", step=0)


def test_wrong_names_and_steps_are_answered_with_the_right_ones(run, tmp_path):
    with pytest.raises(UsageError, match="no episode 'concentration-4-0'; did you mean"):
        shown(run, "concentration-4-0")
    with pytest.raises(UsageError, match="no step 88: the episode has steps 0 to 40"):
        shown(run, step=88)
    with pytest.raises(UsageError, match="is no run: it has no folder `episodes`"):
        shown(tmp_path / "nowhere")


def test_hostile_text_is_neither_markup_nor_terminal_control(tmp_path):
    events = play(3)
    first = next(i for i, e in enumerate(events) if isinstance(e, Observed))
    text = "[bold red]x[/bold red]\x1b[2J\x07 end"
    events[first] = msgspec.structs.replace(events[first], observation=text)
    assert not any(isinstance(e, Blob) and e.text == text for e in events)
    write_journal(tmp_path / "episodes" / "concentration-3-0", events)
    for output in (shown(tmp_path), shown(tmp_path, step=0)):
        assert "[bold red]x[/bold red]" in output
        assert "\x1b" not in output
        assert "\x07" not in output
