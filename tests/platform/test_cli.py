"""The command line, as a person or a script meets it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from automem import cli
from automem.commands import completion
from automem.commands.sweep import expand
from automem.config import groups
from automem.errors import UsageError


def automem(
    *arguments: str, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "automem.cli", *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_help_shows_examples() -> None:
    done = automem("--help")
    assert "examples:" in done.stdout
    for name in (*cli.COMMANDS, "pretrain"):
        assert f"  {name}" in done.stdout


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from automem.cli import main; main(['--help']);"
        "heavy = {'ray', 'torch', 'hydra', 'numpy', 'rich'} & set(sys.modules); assert not heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_every_command_has_help_with_an_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["help", name])
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    assert "examples:" in printed
    assert f"automem {name}" in printed


def test_the_version_is_printed() -> None:
    assert cli.importlib.metadata.version("automem") in automem("--version").stdout


def test_a_wrong_command_is_one_message_with_the_nearest_right_one() -> None:
    done = automem("rolout")
    assert done.returncode == cli.USAGE
    assert done.stderr.startswith("automem: no command 'rolout'; did you mean 'rollout'?")
    assert "Traceback" not in done.stderr


def test_a_wrong_value_is_one_message_before_anything_starts(tmp_path: Path) -> None:
    done = automem("rollout", "rollout.workers=two", cwd=tmp_path)
    assert done.returncode == cli.USAGE
    assert done.stderr.startswith("automem: rollout.workers must be a whole number")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_option_is_answered_with_the_way_to_help() -> None:
    done = automem("rollout", "--worker=2")
    assert done.returncode == cli.USAGE
    assert "see automem rollout --help" in done.stderr


def test_the_configuration_is_shown_from_any_directory(tmp_path: Path) -> None:
    done = automem("rollout", "--show", "env=crafter", "engine=scripted", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "name: crafter" in done.stdout


@pytest.mark.parametrize("command", ["resume", "report", "query", "show"])
def test_a_run_that_is_none_is_named(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["select 1"] if command == "query" else []
    assert cli.main([command, "no/such/run", *more]) == cli.USAGE
    assert "no run at 'no/such/run'" in capsys.readouterr().err


def test_a_sweep_is_every_combination() -> None:
    points = expand(["env=crafter,concentration", "run.seed=range(0,2)", "engine=scripted"])
    assert len(points) == 4
    assert ["env=concentration", "run.seed=1", "engine=scripted"] in points
    assert expand(["run.seed=choice(1,5)"]) == [["run.seed=1"], ["run.seed=5"]]


def test_completion_offers_commands_keys_and_options() -> None:
    assert "rollout" in completion.candidates("automem ro")
    assert "rollout.workers=" in completion.candidates("automem rollout env=crafter rollout.w")
    offered = completion.candidates("automem rollout env=")
    assert offered == [f"env={option}" for option in groups()["env"]]
    assert completion.candidates("automem rollout env=nonsense x") == []
    assert "engine.base_url=" in completion.candidates("automem rollout engine=openai engine.b")


def test_completion_reads_the_users_own_tree(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\n")
    line = f"automem rollout --config-dir {tmp_path} experiment=m"
    assert completion.candidates(line) == ["experiment=mine"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_valid(shell: str) -> None:
    script = automem("completion", shell).stdout
    assert "automem completion --line" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


def test_bash_completes_a_group_after_its_equals_sign() -> None:
    script = """
    eval "$(automem completion bash)"
    COMP_LINE="automem rollout env=cr" COMP_POINT=22 COMP_WORDBREAKS=$' \\t\\n"=:'
    _automem
    echo "${COMPREPLY[@]}"
    """
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    assert done.stdout.strip() == "crafter", done.stderr


def test_an_error_of_the_package_is_red_on_a_terminal_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cli.say_error("no")
    assert capsys.readouterr().err == "automem: no\n"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    cli.say_error("no")
    assert capsys.readouterr().err == "\033[1;31mautomem: no\033[0m\n"


def test_errors_and_interrupts_have_their_exit_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(error: BaseException) -> cli.Command:
        def command(argv: list[str]) -> int:
            raise error

        return command

    for error, code in (
        (UsageError("x"), cli.USAGE),
        (cli.AutoMemError("x"), cli.FAILED),
        (KeyboardInterrupt(), cli.INTERRUPTED),
    ):
        monkeypatch.setattr(cli, "load", lambda name, error=error: raises(error))
        assert cli.main(["rollout"]) == code
