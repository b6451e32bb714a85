"""Which tokenizer made some ids: the digest that datasets carry and learners compare."""

import hashlib
import json
from typing import Any

from automem.engine.render import load_tokenizer


def tokenizer_digest(name: str) -> str:
    """16 hex digits of what maps text to ids; the chat template and padding settings are not in it:
    a dataset holds rendered ids."""
    tokenizer = load_tokenizer(name)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content: Any = tokenizer.get_vocab()
    if backend is not None:
        whole = json.loads(backend.to_str())
        content = {k: v for k, v in whole.items() if k not in ("padding", "truncation")}
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
