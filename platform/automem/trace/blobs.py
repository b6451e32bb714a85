"""Content-addressed texts and the hash chain of edits: the two digests that a trace is made of."""

import hashlib

import msgspec

from automem.memory.ops import Edit

BLOB_PREFIX = "b:"
CHAIN_START = "0" * 16


def blob_name(text: str) -> str:
    """The name under which a text is stored once: `b:` and 32 hex digits of its BLAKE2b."""
    return BLOB_PREFIX + hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def is_blob_name(text: str) -> bool:
    """Whether `text` is a blob's name (no inline text is stored that looks like one)."""
    return len(text) == 34 and text.startswith(BLOB_PREFIX)


def next_link(chain: str, edit: Edit) -> str:
    """The hash of the chain after `edit` (16 hex digits)."""
    payload = chain.encode() + msgspec.json.encode(edit)
    return hashlib.blake2b(payload, digest_size=8).hexdigest()
