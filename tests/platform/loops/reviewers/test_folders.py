"""Reviewers that are programs and people: folders in, folders out, nothing of it trusted."""

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.reviews import START, failed, node, played, request

from automem.errors import UsageError
from automem.loops.reviewers.command import CommandReviewer
from automem.loops.reviewers.human import HumanReviewer
from automem.loops.reviewers.interface import ReviewError, ReviewRequest, Revision
from automem.loops.reviewers.toolbox import TraceToolbox
from automem.trace.query import query

EDIT = """
import pathlib, sys
out = pathlib.Path(sys.argv[2])
path = out / "scaffold" / "scaffold.yaml"
path.write_text(path.read_text().replace("card rank}", "card rank, show_last: 9}"))
(out / "reasons.md").write_text("show nine lines\\nthe episodes say so")
(out / "knowledge.txt").write_text("a deck has pairs\\n\\n")
"""


LINK = """
import os, shutil

def link(name):
    (out / name).unlink()
    (out / name).symlink_to("/etc/passwd")
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return played(tmp_path_factory.mktemp("runs") / "study", 2)


def program(tmp_path: Path, source: str, **options: Any) -> CommandReviewer:
    script = tmp_path / "agent.py"
    script.write_text(source)
    words = [sys.executable, "-S", str(script), "{input}", "{output}"]
    return CommandReviewer(words, **{"deadline_s": 60.0, **options})


def ask(reviewer: Any, asked: ReviewRequest) -> Revision:
    return asyncio.run(reviewer.review(asked, TraceToolbox(asked.runs)))


def test_a_program_edits_a_copy_and_says_why(tmp_path: Path, run: Path) -> None:
    revision = ask(program(tmp_path, EDIT), request(tmp_path, run))
    assert "show_last: 9" in revision.files["scaffold.yaml"]
    assert {k: v for k, v in revision.files.items() if k != "scaffold.yaml"} == {
        k: v for k, v in START.items() if k != "scaffold.yaml"
    }
    assert revision.reasons == "show nine lines\nthe episodes say so"
    assert revision.knowledge == ("a deck has pairs",)
    assert revision.reviewer == "command"


def test_a_program_has_instructions_the_failed_revision_and_traces_that_can_be_queried(
    tmp_path: Path, run: Path
) -> None:
    lost = node("n2", "show all", error="it does not load")
    asked = request(tmp_path, run, failed=failed(lost, {**START, "plan.j2": "broken"}))
    ask(program(tmp_path, EDIT), asked)
    given = asked.workspace / "command" / "input"
    text = (given / "INSTRUCTIONS.md").read_text()
    assert "it does not load" in text
    assert "show_last: lines from the end" in text
    assert (given / "failed" / "plan.j2").read_text() == "broken"
    [(count,)] = query([given / "traces" / "study"], "select count(*) from episodes").rows
    assert count == 2


def test_a_program_sees_no_environment_but_what_is_named(
    tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_SECRET", "hidden")
    monkeypatch.setenv("ITS_KEY", "given")
    source = EDIT + "\nimport os; print(dict(os.environ), os.getpgrp() == os.getpid())\n"
    asked = request(tmp_path, run)
    ask(program(tmp_path, source, environment=["ITS_KEY"], variables={"MODE": "fast"}), asked)
    printed = (asked.workspace / "printed.txt").read_text()
    assert "hidden" not in printed
    assert "'ITS_KEY': 'given'" in printed
    assert "'MODE': 'fast'" in printed
    assert f"'HOME': '{Path.home()}'" not in printed
    assert printed.strip().endswith("True")  # a process group of its own


def test_a_program_that_hangs_is_killed_with_its_children(tmp_path: Path, run: Path) -> None:
    source = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""
    asked = request(tmp_path, run)
    began = time.monotonic()
    with pytest.raises(ReviewError, match="not done after 3 s and was killed") as caught:
        ask(program(tmp_path, source, deadline_s=3.0), asked)
    assert not caught.value.is_retryable
    assert time.monotonic() - began < 60
    child = int((asked.workspace / "printed.txt").read_text())
    assert _is_gone(child)


def _is_gone(pid: int) -> bool:
    """Whether a process has ended, if nobody has buried it yet."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def _wait_for_text(path: Path) -> None:
    for _ in range(1_200):
        if path.exists() and path.read_text().strip():
            return
        time.sleep(0.05)
    raise AssertionError(f"nothing in {path}")


def test_a_program_that_fails_is_told_with_its_last_words(tmp_path: Path, run: Path) -> None:
    with pytest.raises(ReviewError, match=r"status 3: .*out of ideas"):
        ask(
            program(tmp_path, "import sys; print('out of ideas'); sys.exit(3)"),
            request(tmp_path, run),
        )


def test_a_flood_of_output_is_bounded(tmp_path: Path, run: Path) -> None:
    asked = request(tmp_path, run)
    ask(program(tmp_path, EDIT + "\nfor _ in range(400): print('x' * 10000)\n"), asked)
    assert (asked.workspace / "printed.txt").stat().st_size <= 1_000_000


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("link('scaffold/plan.j2')", "plain file"),
        ("link('reasons.md')", "plain file"),
        ("(out / 'knowledge.txt').unlink(); os.mkfifo(out / 'knowledge.txt')", "plain file"),
        ("os.link(out / 'reasons.md', out / 'again')", "plain file"),
        ("(out / 'scaffold' / 'run.sh').write_text('x')", "no part of a scaffold"),
        ("(out / 'scaffold' / 'deep').mkdir()", "no part of a scaffold"),
        ("(out / 'scaffold' / 'plan.j2').write_text('x' * 100_000)", "more than 64000 bytes"),
        ("(out / 'scaffold' / 'plan.j2').write_bytes(b'\\xff')", "not UTF-8"),
        ("(out / 'reasons.md').write_text('')", "reasons.md is missing or empty"),
        ("(out / 'reasons.md').write_text('x' * 100_000)", "more than 64000 bytes"),
        ("shutil.rmtree(out / 'scaffold'); os.symlink('/etc', out / 'scaffold')", "plain folder"),
        ("shutil.rmtree(out / 'scaffold')", "not a plain folder"),
    ],
)
def test_hostile_output_is_refused(source: str, message: str, tmp_path: Path, run: Path) -> None:
    with pytest.raises(ReviewError, match=message) as caught:
        ask(program(tmp_path, f"{EDIT}\n{LINK}\n{source}"), request(tmp_path, run))
    assert not caught.value.is_retryable


def test_the_program_of_a_cancelled_review_is_ended(tmp_path: Path, run: Path) -> None:
    source = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    asked = request(tmp_path, run)
    printed = asked.workspace / "printed.txt"

    async def cancelled() -> None:
        task = asyncio.create_task(
            program(tmp_path, source).review(asked, TraceToolbox(asked.runs))
        )
        await asyncio.to_thread(_wait_for_text, printed)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert _is_gone(int(printed.read_text()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"command": "my-agent --print"}, "no shell"),
        ({"command": []}, "list of words"),
        ({"command": ["no-such-program-anywhere"]}, "no program"),
        ({"command": ["true"], "environment": ["NOT_SET_ANYWHERE"]}, "NOT_SET_ANYWHERE"),
        ({"command": ["true"], "deadline_s": 0}, "deadline_s must be at least"),
        ({"command": ["true"], "deadline_s": None}, "deadline_s must be at least .* got None"),
    ],
)
def test_a_wrong_command_is_told_before_anything_is_spent(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        CommandReviewer(**options)


def script(tmp_path: Path, first: str = "#!/bin/sh\n") -> Path:
    """An executable that leaves its copy of the scaffold with nine lines shown."""
    path = tmp_path / "agent.sh"
    path.write_text(
        f"{first}sed -i 's/card rank}}/card rank, show_last: 9}}/' scaffold/scaffold.yaml\n"
        "echo show nine lines > reasons.md\n"
    )
    path.chmod(0o755)
    return path


def test_a_program_is_found_from_where_the_loop_was_started(
    tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(tmp_path)
    monkeypatch.chdir(tmp_path)
    revision = ask(CommandReviewer(["./agent.sh"]), request(tmp_path, run))
    assert "show_last: 9" in revision.files["scaffold.yaml"]


def test_a_program_that_cannot_be_started_is_told(tmp_path: Path, run: Path) -> None:
    path = script(tmp_path, first="")
    with pytest.raises(ReviewError, match=r"could not be started .*first line") as caught:
        ask(CommandReviewer([str(path)]), request(tmp_path, run))
    assert not caught.value.is_retryable


def test_the_last_words_are_told_though_the_program_took_its_output_away(
    tmp_path: Path, run: Path
) -> None:
    asked = request(tmp_path, run)
    printed = asked.workspace / "printed.txt"
    source = f"import os, sys, time\nprint('out of ideas', flush=True)\nos.unlink({str(printed)!r})"
    with pytest.raises(ReviewError, match=r"status 3: .*out of ideas"):
        ask(program(tmp_path, f"{source}\nsys.exit(3)"), asked)


@pytest.mark.parametrize("what", ["scaffold", "output"])
def test_an_output_that_may_not_be_read_is_refused(
    what: str, tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan, is_dir = os.scandir, Path.is_dir

    def scandir(path: Any) -> Any:  # root may read all there is, so the refusal is played
        if what == "scaffold" and Path(path).parent.name == "output":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    def looked_at(path: Path) -> bool:
        if what == "output" and path.name == "scaffold" and path.parent.name == "output":
            raise PermissionError(13, "Permission denied", str(path))
        return is_dir(path)

    reviewer = program(tmp_path, EDIT)
    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(Path, "is_dir", looked_at)
    with pytest.raises(ReviewError, match=r"output cannot be read: .*Permission denied"):
        ask(reviewer, request(tmp_path, run))


# People


@pytest.mark.parametrize("poll_s", [0, -1, None, float("nan"), "often", True])
def test_a_person_is_not_waited_for_by_a_busy_loop(poll_s: Any) -> None:
    with pytest.raises(UsageError, match=r"poll_s must be at least 0\.01"):
        HumanReviewer(poll_s=poll_s)


def test_a_deadline_for_a_person_is_a_time_or_null() -> None:
    HumanReviewer(deadline_s=None)
    with pytest.raises(UsageError, match=r"deadline_s must be at least 0\.01 or null, got 0"):
        HumanReviewer(deadline_s=0)


def person(asked: ReviewRequest, *moves: Any, **options: Any) -> tuple[Any, list[str]]:
    """The outcome of a review by someone who makes a move each time the loop speaks."""
    said: list[str] = []
    queue = list(moves)

    def say(text: str) -> None:
        said.append(text)
        if queue:
            queue.pop(0)(asked.workspace / "human" / "output")

    return ask(HumanReviewer(poll_s=0.01, say=say, **options), asked), said


def edits(output: Path) -> None:
    path = output / "scaffold" / "scaffold.yaml"
    path.write_text(path.read_text().replace("card rank}", "card rank, show_last: 9}"))
    (output / "reasons.md").write_text("show nine lines")
    (output / "done").touch()


def rewords(output: Path) -> None:
    path = output / "scaffold" / "log.j2"
    path.write_text(path.read_text() + "take care\n")
    (output / "reasons.md").write_text("politeness")
    (output / "done").touch()


def hands_in_nothing(output: Path) -> None:
    (output / "reasons.md").write_text("all is well")
    (output / "done").touch()


def test_a_person_edits_and_says_done(tmp_path: Path, run: Path) -> None:
    revision, said = person(request(tmp_path, run), edits)
    assert "show_last: 9" in revision.files["scaffold.yaml"]
    assert revision.reasons == "show nine lines"
    assert "INSTRUCTIONS.md" in said[0]
    assert "report.html" in said[0]


def test_a_person_is_told_what_breaks_a_constraint_and_may_go_on(tmp_path: Path, run: Path) -> None:
    asked = request(tmp_path, run)
    revision, said = person(asked, hands_in_nothing, rewords, edits)
    assert "nothing has changed" in said[1]
    assert "only wording differs" in said[2]
    assert "only wording" in (asked.workspace / "human" / "output" / "PROBLEMS.md").read_text()
    assert "show_last: 9" in revision.files["scaffold.yaml"]


def test_a_persons_edits_survive_a_restart(tmp_path: Path, run: Path) -> None:
    asked = request(tmp_path, run)
    with pytest.raises(ReviewError):
        person(asked, lambda output: (edits(output), (output / "done").unlink()), deadline_s=0.2)
    revision, _ = person(asked, lambda output: (output / "done").touch())
    assert "show_last: 9" in revision.files["scaffold.yaml"]


def test_a_person_may_skip_or_not_come(tmp_path: Path, run: Path) -> None:
    asked = request(tmp_path, run)
    with pytest.raises(ReviewError, match=r"nothing in 0\.2 s") as caught:
        person(asked, deadline_s=0.2)
    assert not caught.value.is_retryable
    with pytest.raises(ReviewError, match="skipped"):
        person(asked, lambda output: (output / "skip").touch())


def test_a_program_is_started_with_the_folder_and_the_report(tmp_path: Path, run: Path) -> None:
    note = tmp_path / "opened"
    opener = tmp_path / "opener"
    opener.write_text(f'#!/bin/sh\necho "$@" > {note}.new && mv {note}.new {note}\n')
    opener.chmod(0o755)
    asked = request(tmp_path, run)
    person(asked, edits, open_with=[str(opener)])
    for _ in range(200):
        if note.exists():
            break
        time.sleep(0.05)
    assert note.read_text().split()[0].endswith("output/scaffold")
    assert note.read_text().strip().endswith("report.html")
    assert os.access(note.read_text().split()[1], os.R_OK)
