"""What counts as a committed game action: any text but the prompt's own placeholder.

A model that echoes `<|ACTION|>action<|END|>` from its instructions has not decided anything.
"""

import re

from automem.memory.dialects.base import Commit, Malformed

_OPEN, _CLOSE = r"""[\s<\[{("'`|*_]*""", r"""[\s>\]})"'`|*_.]*"""
_PLACEHOLDER = re.compile(
    rf"""{_OPEN} ((your|the|an?|one|game|chosen|next|valid|exact)[\s_-]+)*
         actions? ([\s_-]+(here|name|text|string))? {_CLOSE}
       | {_OPEN} (\.\.+|…) {_CLOSE}""",
    re.IGNORECASE | re.VERBOSE,
)
_LONGEST_PLACEHOLDER = 60


def read_commit(written: str, action: str) -> Commit | Malformed:
    """The commit of `action`; `written` is how the model spelled it, escapes and all."""
    written = written.strip()
    is_short = len(written) <= _LONGEST_PLACEHOLDER
    if not action.strip() or (is_short and _PLACEHOLDER.fullmatch(written)):
        return Malformed("that is no action; commit a real one, not the placeholder")
    return Commit(action)
