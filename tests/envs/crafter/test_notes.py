"""The player's notes: written and read back, and what a run of them says."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from automem_envs.crafter import CrafterWorld
from automem_envs.crafter.notes import (
    achievements_shown,
    exact_offset,
    has_moved,
    likely_offsets,
    read_place,
    read_step,
    recall,
    write_position,
    write_step,
)
from automem_envs.crafter.sight import VITALS, Sight, Thing, compass, read_sight


def sight(
    facing: str = "grass",
    heading: str = "south",
    things: tuple[Thing, ...] = (),
    inventory: dict[str, int] | None = None,
    is_asleep: bool = False,
    **vitals: int,
) -> Sight:
    """A sight with all vitals at 9 unless given."""
    return Sight(
        things, facing, heading, {**dict.fromkeys(VITALS, 9), **vitals}, inventory or {}, is_asleep
    )


SIGHTS = some.builds(
    sight,
    facing=some.sampled_from(["grass", "ripe plant", "the edge of the world"]),
    heading=some.sampled_from(["north", "east", "south", "west"]),
    things=some.lists(
        some.builds(
            Thing,
            some.sampled_from(["tree", "ripe plant"]),
            some.integers(1, 7),
            some.sampled_from(["north", "south-west"]),
        )
    ).map(tuple),
    inventory=some.dictionaries(some.sampled_from(["wood", "iron pickaxe"]), some.integers(1, 9)),
    is_asleep=some.booleans(),
    food=some.integers(0, 9),
)


@given(SIGHTS)
def test_a_step_is_read_back_as_it_was_written(seen: Sight) -> None:
    line = write_step("Move West", seen)
    assert "\n" not in line
    noted = read_step(line)
    assert noted is not None
    assert (noted.action, noted.sight) == ("Move West", seen)


@pytest.mark.parametrize(
    "line", ["", "hello", "Do: facing grass", "position: 1,2", "a: b; c; d; e"]
)
def test_lines_of_another_form_are_passed_over(line: str) -> None:
    assert read_step(line) is None
    assert recall([line, write_step("Noop", sight())]).steps[0].action == "Noop"


def test_places_are_read_back() -> None:
    assert read_place("12,-7") == (12, -7)
    assert read_place("here") is None


def test_reckoning_follows_the_real_position() -> None:
    """Against the game itself, over a walk with trees, water and animals in the way."""
    for seed in (3, 42):
        world = CrafterWorld()
        text, _ = world.reset(seed=seed)
        start = [int(part) for part in world._simulation.hero.pos]
        lines = [write_position((0, 0)), write_step("Noop", read_sight(text))]
        for number in range(60):
            action = ("Move West", "Move North", "Do", "Move East", "Move North")[number // 5 % 5]
            text, _, terminated, _, _ = world.step(action)
            assert not terminated
            lines.append(write_step(action, read_sight(text)))
        x, y = (int(part) for part in world._simulation.hero.pos)
        assert recall(lines).place == (x - start[0], y - start[1])


@pytest.mark.parametrize(
    ("before", "action", "after", "moved"),
    [
        (sight("grass", "west"), "Move West", sight("tree", "west"), True),
        (sight("tree", "west"), "Move West", sight("tree", "west"), False),
        (sight("grass", "south"), "Move West", sight("grass", "west"), True),
        (
            sight(things=(Thing("water", 1, "west"),)),
            "Move West",
            sight("water", "west", (Thing("water", 1, "west"),)),
            False,
        ),
        (
            sight(things=(Thing("water", 2, "west"),)),
            "Move West",
            sight("water", "west", (Thing("water", 1, "west"),)),
            True,
        ),
        (sight("grass", "west"), "Do", sight("grass", "west"), False),
        (sight("grass", "west", is_asleep=True), "Move West", sight("grass", "west"), False),
    ],
)
def test_whether_a_step_was_taken(before: Sight, action: str, after: Sight, moved: bool) -> None:
    assert has_moved(before, action, after) is moved


@pytest.mark.parametrize(
    ("before", "action", "after", "achieved"),
    [
        (sight(), "Do", sight(inventory={"sapling": 1}), {"collect sapling"}),
        (
            sight(inventory={"wood": 1}),
            "Make Wood Pickaxe",
            sight(inventory={"wood pickaxe": 1}),
            {"make wood pickaxe"},
        ),
        (sight(inventory={"wood": 4}), "Place Table", sight("table"), {"place table"}),
        (sight(inventory={"wood": 1}), "Place Table", sight(inventory={"wood": 1}), set()),
        (sight("water", drink=5), "Do", sight("water", drink=6), {"collect drink"}),
        (sight("cow", food=3), "Do", sight("grass", food=9), {"eat cow"}),
        (sight("ripe plant"), "Do", sight("plant"), {"eat plant"}),
        (sight("zombie"), "Do", sight("grass"), {"defeat zombie"}),
        (sight("zombie"), "Do", sight("zombie", things=(Thing("zombie", 1, "south"),)), set()),
        (sight(is_asleep=True), "Sleep", sight(), {"wake up"}),
        (sight(is_asleep=True), "Sleep", sight(energy=4), set()),
    ],
)
def test_achievements_that_a_step_shows(
    before: Sight, action: str, after: Sight, achieved: set[str]
) -> None:
    assert achievements_shown(before, action, after) == achieved


def test_a_thing_straight_ahead_or_at_a_corner_has_one_place() -> None:
    assert exact_offset(Thing("tree", 3, "north")) == (0, -3)
    assert exact_offset(Thing("tree", 2, "south-west")) == (-1, 1)
    assert exact_offset(Thing("tree", 4, "north-east")) is None


@given(some.integers(-4, 4), some.integers(-3, 3))
def test_the_likely_places_hold_the_real_one(east: int, south: int) -> None:
    if (east, south) != (0, 0):
        thing = Thing("tree", abs(east) + abs(south), compass(east, south))
        assert (east, south) in likely_offsets(thing)
