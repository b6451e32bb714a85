"""Texts that models and programs wrote, made fit to be kept, sent on and shown.

JSON can spell half of a surrogate pair, which is no character: no file and no request can hold it.
Control characters act on the terminal that they are printed on.
"""

import json
import re
from typing import Any

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


def is_unicode(value: Any) -> bool:
    """Whether every text in a JSON value consists of characters."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def unicode_only(value: Any) -> Any:
    """The JSON value; `?` stands for what is no character. One without any is given as it is."""
    if is_unicode(value):
        return value
    return json.loads(json.dumps(value, ensure_ascii=False).encode(errors="replace"))


def printable(text: str) -> str:
    """The text as a terminal and a file can have it: no control characters but line ends and
    tabs."""
    return _CONTROL.sub("", text.replace("\r\n", "\n")).encode(errors="replace").decode()
