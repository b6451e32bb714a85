"""The commands around a server, without one."""

import time
from pathlib import Path

import pytest

from automem.cli import FAILED, USAGE, main
from automem.config import compose, scaffold_path
from automem.errors import UsageError
from automem.registry import Registry
from automem_serving.access import Tokens
from automem_serving.configured import served_spec
from automem_serving.context import TOKENS_FILE


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands write where they are started."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def publish(folder: Path, *models: str) -> Registry:
    registry = Registry(folder / "runs" / "registry")
    for model in models:
        registry.publish(model, scaffold_path("v0"))
    return registry


def test_promote_without_a_version_shows_what_there_is(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["promote"]) == 0
    assert "no version" in capsys.readouterr().out
    publish(elsewhere, "a", "b").promote("v2")
    assert main(["promote"]) == 0
    shown = capsys.readouterr().out
    assert "a + v0@" in shown
    assert "→ v2, revision 1" in shown


def test_promote_and_rollback_move_the_alias(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = publish(elsewhere, "a", "b")
    assert main(["promote", "v1"]) == 0
    assert main(["promote", "v2", "--expected", "1"]) == 0
    assert main(["promote", "v2", "--alias", "canary", "--share", "0.1"]) == 0
    assert "10% of new work" in capsys.readouterr().out
    assert main(["rollback"]) == 0
    assert main(["rollback", "--alias", "canary"]) == 0
    assert {alias: move.version for alias, move in registry.aliases().items()} == {"current": "v1"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["promote", "v7"], "no policy version 'v7'"),
        (["promote", "v1", "--expected", "5"], "look, then decide"),
        (["promote", "--adapter", "nowhere"], "adapter_config.json"),
        (["rollback"], "nothing older"),
        (["rollback", "--alias", "stable"], "no alias 'stable'"),
        (["token", "Ann!"], "lower-case"),
        (["token", "ann", "--scopes", "root"], "no scope root"),
        (["ask"], "what to ask"),
        (["ask", "--url", "ftp://x", "hello"], "http://"),
        (["serve", "serving.host=0.0.0.0"], "let everybody in"),
        (["serve", "serving.porrt=1"], "serving.port"),
        (["serve", "worlds=[chess]"], "no world 'chess'"),
        (["serve", "scaffolds=[]"], "scaffolds is empty"),
    ],
)
def test_mistakes_are_one_message(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    publish(elsewhere, "a")
    assert main(arguments) == USAGE
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said


def test_ask_says_how_to_get_a_server(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "--url", "http://127.0.0.1:9", "hello"]) == FAILED
    assert "automem serve" in capsys.readouterr().err


def test_a_token_is_shown_once_and_can_be_revoked(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["token", "ann", "--scopes", "act"]) == 0
    first, token = capsys.readouterr().out.splitlines()
    tokens = Tokens(elsewhere / "runs" / "serving" / TOKENS_FILE)
    assert tokens.caller(token).tenant == "ann"
    assert main(["token"]) == 0
    listed = capsys.readouterr().out
    assert "ann" in listed
    assert token not in listed
    assert main(["token", "--revoke", first.split()[1].strip(",")]) == 0
    assert tokens.caller(token) is None
    [record] = tokens.all()
    assert record.by
    assert record.created < record.revoked <= time.time()
    capsys.readouterr()
    assert main(["token"]) == 0
    assert f"by {record.by}" in capsys.readouterr().out


@pytest.mark.parametrize("choice", ["local", "shared"])
def test_the_shipped_settings_are_servable(choice: str) -> None:
    spec = served_spec(compose("serve", [f"serving={choice}"]))
    assert spec.settings.name == choice
    assert spec.worlds["concentration"].fallback_action == "flip next"
    assert set(spec.scaffolds) == {"embedded", "v0"}


def test_folders_are_those_of_who_starts_the_server(elsewhere: Path) -> None:
    settings = served_spec(compose("serve", ["worlds=[]"])).settings
    assert settings.dir == str(elsewhere / "runs" / "serving")
    assert settings.registry == str(elsewhere / "runs" / "registry")


def test_guided_decoding_and_hooks_are_set_as_for_a_rollout() -> None:
    overrides = ["worlds=[]", "agent.guided=true", "agent.hooks=unprotected"]
    agent = served_spec(compose("serve", overrides)).agent
    assert (agent["guided"], agent["hooks"]) == (True, "unprotected")
    shipped = served_spec(compose("serve", ["worlds=[]"])).agent
    assert (shipped["guided"], shipped["hooks"]) == (False, "isolated")


def test_the_shared_settings_ask_for_tokens() -> None:
    assert served_spec(compose("serve", ["serving=shared"])).settings.auth == "tokens"
    with pytest.raises(UsageError, match="let everybody in"):
        served_spec(compose("serve", ["serving=shared", "serving.auth=none"]))
