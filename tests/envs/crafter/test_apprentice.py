"""The small mind with one page of notes: what it writes, looks at and does, and how often."""

import pytest

from automem.engine.protocol import GenerateRequest, Message
from automem_envs.crafter import ApprenticePlayer
from automem_envs.crafter.apprentice import choose, options, worth_noting
from automem_envs.crafter.recipes import read_recipes
from automem_envs.crafter.rules import instruction
from automem_envs.crafter.sight import VITALS, Sight, Thing, write_sight

RECIPES = read_recipes(instruction())


def sight(facing: str = "grass", *things: Thing, energy: int = 9, **inventory: int) -> Sight:
    vitals = {**dict.fromkeys(VITALS, 9), "energy": energy}
    return Sight(things, facing, "south", vitals, inventory)


def request(routine: str, seen: Sight, files: str, action: str = "", more: str = "") -> object:
    text = f"# {routine}\n" + (f"# action\n{action}\n" if action else "")
    text += f"# observation\n{write_sight(seen)}\n# files\n{files}"
    messages = [Message("system", "progress.txt"), Message("user", text)]
    if more:
        messages += [Message("assistant", "<|READ|>progress.txt<|END|>"), Message("user", more)]
    return GenerateRequest(id="a/0/0", messages=messages, seed=1)


def said(player: ApprenticePlayer, asked: object) -> dict[str, float]:
    found: dict[str, float] = {}
    for option in player.options(asked):
        found[option.text] = found.get(option.text, 0.0) + option.probability
    assert sum(found.values()) == pytest.approx(1.0)
    return found


@pytest.mark.parametrize(
    ("action", "seen", "line"),
    [
        ("Place Plant", sight("plant"), ("place plant", "done")),
        ("Place Plant", sight("grass"), None),
        ("Place Stone", sight("stone"), ("place stone", "done")),
        ("Do", sight("water"), ("collect drink", "done")),
        ("Do", sight("grass"), None),
        ("Sleep", sight(energy=9), ("wake up", "done")),
        ("Sleep", sight(energy=5), None),
        ("Move South", sight("grass"), None),
    ],
)
def test_what_is_worth_a_line(action: str, seen: Sight, line: tuple[str, str] | None) -> None:
    assert worth_noting(action, seen, has_notes=True) == ([line] if line else [])


def test_a_wall_ahead_turns_an_explorer_any_other_way() -> None:
    lines = worth_noting("Move South", sight("water"), has_notes=True)
    assert sorted(text for _, text in lines) == ["east", "north", "west"]
    assert {key for key, _ in lines} == {"explore"}


def test_its_notes_change_what_it_does() -> None:
    seen = sight("grass", Thing("grass", 1, "south"))
    assert choose(seen, {}, RECIPES) == "Do"
    assert choose(seen, {"place plant": "done", "explore": "east"}, RECIPES) == "Move East"


def test_a_careful_one_writes_and_looks_always() -> None:
    player = ApprenticePlayer(careful=True)
    log = request("log", sight("plant"), "progress.txt 1", "Place Plant")
    assert said(player, log) == {"<|UPSERT|>progress.txt|place plant|done<|END|><|DONE|>": 1.0}
    assert said(player, request("plan", sight(), "progress.txt 1")) == {
        "<|READ|>progress.txt<|END|>": 1.0
    }
    assert "<|READ|>progress.txt<|END|>" not in said(
        player, request("plan", sight(), "progress.txt 0")
    )


def test_a_forgetful_one_mostly_does_neither() -> None:
    player = ApprenticePlayer()
    log = said(player, request("log", sight("plant"), "progress.txt 1", "Place Plant"))
    right = log["<|UPSERT|>progress.txt|place plant|done<|END|><|DONE|>"]
    assert right == pytest.approx(0.34)
    assert log["<|DONE|>"] > 0.5
    plan = said(player, request("plan", sight(), "progress.txt 1"))
    assert plan["<|READ|>progress.txt<|END|>"] == pytest.approx(0.34)


def test_what_it_read_is_what_it_acts_on() -> None:
    results = "# results\nREAD progress.txt\nplace plant: done\nexplore: east"
    seen = sight("grass", Thing("grass", 1, "south"))
    asked = request("plan", seen, "progress.txt 2", more=results)
    assert said(ApprenticePlayer(), asked) == {"<|ACTION|>Move East<|END|>": 1.0}


def test_a_slip_is_said_and_never_taught() -> None:
    player = ApprenticePlayer(careful=True, slip=1.0)
    asked = request("plan", sight(), "progress.txt 0")
    taught = {option.text for option in options(asked, player.habits, RECIPES)}
    replies = set()
    for seed in range(12):
        replies.add(player.reply(GenerateRequest(id="a", messages=asked.messages, seed=seed)))
    assert len(replies) > 3
    assert len(taught) == 1
