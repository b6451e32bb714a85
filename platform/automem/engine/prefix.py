"""Which blocks of prompt tokens have their keys and values stored: an exact-prefix index.

A block is found only by the whole chain of tokens before it, under the same adapter and cache salt.
The least recently used block makes room. Only the bookkeeping is here; tensors are `slots.py`'s.
"""

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Sequence


def block_keys(
    tokens: Sequence[int], block_tokens: int, adapter: str | None, salt: str
) -> list[bytes]:
    """A key for each whole block of `tokens`; it stands for the block and all that precedes it."""
    data = array("i", tokens).tobytes()
    width = block_tokens * 4
    key = hashlib.blake2b(repr((adapter, salt)).encode(), digest_size=16).digest()
    keys = []
    for start in range(0, len(tokens) // block_tokens * width, width):
        key = hashlib.blake2b(key + data[start : start + width], digest_size=16).digest()
        keys.append(key)
    return keys


class PrefixIndex:
    """Maps block keys to places in a pool of `capacity` blocks."""

    def __init__(self, capacity: int) -> None:
        self._places: OrderedDict[bytes, int] = OrderedDict()
        self._free = list(range(capacity - 1, -1, -1))

    def find(self, keys: Sequence[bytes]) -> list[int]:
        """Places of the longest stored prefix of `keys`, now the most recently used."""
        places = []
        for key in keys:
            place = self._places.get(key)
            if place is None:
                break
            places.append(place)
        for key in reversed(keys[: len(places)]):  # a parent outlives its children
            self._places.move_to_end(key)
        return places

    def reserve(self, key: bytes) -> int | None:
        """A place to store a new block at; None where it is stored already or nothing fits.

        The caller writes the block before the next `find`."""
        if key in self._places:
            return None
        if self._free:
            place = self._free.pop()
        elif self._places:
            _, place = self._places.popitem(last=False)
        else:
            return None
        self._places[key] = place
        return place
