"""The Crafter policy's tokenizer."""

from hypothesis import given
from hypothesis import strategies as some

from automem_envs.crafter.sight import VITALS, Sight, Thing, write_sight
from automem_learners.crafter_policy.tokenizer import crafter_tokenizer
from automem_learners.pretrain.tokenizer import VOCABULARY_SIZE

TOKENIZER = crafter_tokenizer()
SIGHT = Sight(
    things=(
        Thing("grass", 1, "west"),
        Thing("zombie", 2, "north-west"),
        Thing("ripe plant", 3, "south"),
    ),
    facing="the edge of the world",
    heading="east",
    vitals=dict(zip(VITALS, (9, 0, 5, 7), strict=True)),
    inventory={"wood": 3, "iron pickaxe": 1},
    is_asleep=True,
)


def ids_of(text: str) -> list[int]:
    return TOKENIZER.encode(text, add_special_tokens=False)


@given(some.text())
def test_any_text_comes_back(text: str) -> None:
    assert TOKENIZER.decode(ids_of(text)) == text


def test_an_observation_takes_four_tokens_a_thing() -> None:
    text = write_sight(SIGHT)
    assert TOKENIZER.decode(ids_of(text)) == text
    fewer = write_sight(Sight(SIGHT.things[:2], *_rest(SIGHT)))
    assert len(ids_of(text)) - len(ids_of(fewer)) == 4
    assert len(ids_of(text)) < 45


def _rest(sight: Sight) -> tuple:
    return sight.facing, sight.heading, sight.vitals, sight.inventory, sight.is_asleep


def test_operations_and_actions_are_short() -> None:
    assert len(ids_of("<|UPSERT|>progress.txt|place plant|done<|END|><|DONE|>")) == 9
    assert len(ids_of("<|ACTION|>Make Wood Pickaxe<|END|>")) == 5


def test_the_vocabulary_has_the_models_size_and_the_special_tokens_of_every_game() -> None:
    assert len(TOKENIZER) == VOCABULARY_SIZE
    assert TOKENIZER.convert_tokens_to_ids("<|pad|>") == 0
    assert TOKENIZER.convert_tokens_to_ids("<|turn_end|>") == 4
