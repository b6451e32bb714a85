"""The scripted player of the sessions world, in a real session with real files."""

from pathlib import Path

import pytest
from support.plain_play import play_plainly
from support.world_contract import assert_killed_episode_resumes

from automem_envs.sessions import SessionsPlayer, SessionsWorld


@pytest.mark.parametrize("seed", [1, 2])
async def test_with_its_notes_it_solves_every_session(seed: int, tmp_path: Path) -> None:
    played = await play_plainly(SessionsWorld(), SessionsPlayer(), tmp_path, seed)
    assert played.outcome.progression == pytest.approx(1.0)
    assert played.refused == []


async def test_it_solves_large_ones_too(tmp_path: Path) -> None:
    world = SessionsWorld(sessions=40, size=10)
    played = await play_plainly(world, SessionsPlayer(), tmp_path, seed=3)
    assert played.outcome.progression == pytest.approx(1.0)


async def test_its_memoryless_twin_solves_what_is_in_view_and_little_else(tmp_path: Path) -> None:
    played = await play_plainly(SessionsWorld(), SessionsPlayer(reads=False), tmp_path, seed=1)
    assert played.outcome.progression < 0.35
    assert any(played.files.values()), "the twin writes as its brother does"


async def test_a_withdrawn_value_is_gone_from_its_files(tmp_path: Path) -> None:
    world = SessionsWorld(sessions=12, families=["people"])
    played = await play_plainly(world, SessionsPlayer(), tmp_path, seed=1)
    lines = played.files["progress.txt"].splitlines()
    assert any(line.endswith(": unknown") for line in lines)
    assert len({line.split(": ")[0] for line in lines}) == len(lines), "one line per detail"


async def test_its_replies_depend_on_the_request_alone(tmp_path: Path) -> None:
    played = await play_plainly(SessionsWorld(sessions=4), SessionsPlayer(), tmp_path, seed=2)
    for request, text in reversed(played.heard):
        assert SessionsPlayer().reply(request) == text


def test_a_killed_episode_resumes_to_the_same_trace(tmp_path: Path) -> None:
    assert_killed_episode_resumes(
        {"_target_": "automem_envs.sessions.SessionsWorld"},
        {"_target_": "automem_envs.sessions.SessionsPlayer"},
        tmp_path,
    )
