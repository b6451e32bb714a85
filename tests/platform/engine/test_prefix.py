"""The index of stored prompt blocks."""

from automem.engine.prefix import PrefixIndex, block_keys


def test_a_key_stands_for_the_whole_chain_and_for_adapter_and_salt():
    base = block_keys(range(8), 4, None, "")
    assert len(base) == len(block_keys(range(11), 4, None, "")) == 2
    assert block_keys([9, 1, 2, 3, *range(4, 8)], 4, None, "")[1] != base[1]
    assert not set(block_keys(range(8), 4, "a", "")) & set(base)
    assert not set(block_keys(range(8), 4, None, "tenant")) & set(base)


def test_only_an_unbroken_prefix_is_found():
    index = PrefixIndex(4)
    keys = block_keys(range(12), 4, None, "")
    first, third = index.reserve(keys[0]), index.reserve(keys[2])
    assert index.find(keys) == [first]
    second = index.reserve(keys[1])
    assert index.find(keys) == [first, second, third]
    assert index.reserve(keys[1]) is None


def test_the_least_recently_used_block_makes_room():
    index = PrefixIndex(2)
    old, other = block_keys(range(4), 4, None, ""), block_keys(range(4), 4, "a", "")
    place_of_old, place_of_other = index.reserve(old[0]), index.reserve(other[0])
    assert index.find(old) == [place_of_old]
    new = block_keys(range(4), 4, "b", "")
    assert index.reserve(new[0]) == place_of_other
    assert index.find(other) == []
    assert index.find(old) == [place_of_old]


def test_a_pool_of_nothing_stores_nothing():
    assert PrefixIndex(0).reserve(b"key") is None
