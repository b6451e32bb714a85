"""The observation's text and its reader."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from automem_envs.crafter.sight import VITALS, Sight, Thing, compass, read_sight, write_sight

KINDS = some.sampled_from(["tree", "ripe plant", "water", "cow"])
DIRECTIONS = some.sampled_from(["north", "north-west", "south-east", "west"])
SIGHTS = some.builds(
    Sight,
    things=some.lists(some.builds(Thing, KINDS, some.integers(1, 7), DIRECTIONS)).map(tuple),
    facing=some.sampled_from(["grass", "ripe plant", "the edge of the world"]),
    heading=some.sampled_from(["north", "east", "south", "west"]),
    vitals=some.fixed_dictionaries({name: some.integers(0, 9) for name in VITALS}),
    inventory=some.dictionaries(some.sampled_from(["wood", "iron pickaxe"]), some.integers(1, 9)),
    is_asleep=some.booleans(),
    invalid=some.sampled_from([None, "", "dance"]),
)


@given(SIGHTS)
def test_reading_gives_back_what_was_written(sight: Sight) -> None:
    assert read_sight(write_sight(sight)) == sight


def test_the_text_reads_as_a_person_would_say_it() -> None:
    sight = Sight(
        things=(Thing("grass", 1, "west"), Thing("tree", 3, "north-west")),
        facing="grass",
        heading="south",
        vitals={"health": 9, "food": 8, "drink": 7, "energy": 6},
        inventory={"wood": 3, "wood pickaxe": 1},
    )
    assert write_sight(sight) == (
        "You see:\n"
        "- grass 1 step to your west\n"
        "- tree 3 steps to your north-west\n"
        "You face grass to your south.\n"
        "Vitals: health 9/9, food 8/9, drink 7/9, energy 6/9.\n"
        "You carry: wood 3, wood pickaxe 1."
    )


@pytest.mark.parametrize(
    ("east", "south", "direction"),
    [(0, -1, "north"), (2, -1, "north-east"), (-4, 0, "west"), (1, 3, "south-east"), (0, 0, "")],
)
def test_compass_directions(east: int, south: int, direction: str) -> None:
    assert compass(east, south) == direction


def test_another_text_is_refused_with_what_came() -> None:
    with pytest.raises(ValueError, match="not an observation of Crafter: 'hello'"):
        read_sight("hello")
