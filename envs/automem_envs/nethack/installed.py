"""Whether NetHack and MiniHack are installed; they come by a command of their own."""

from importlib.util import find_spec

from automem.errors import UsageError

_HOW = "run `make setup-nethack` (Linux on x86-64, Python 3.11 to 3.13)"


def has_nle() -> bool:
    """NetHack can be played."""
    return find_spec("nle") is not None


def has_minihack() -> bool:
    """MiniHack's tasks can be played."""
    return has_nle() and find_spec("minihack") is not None


def require_nle() -> None:
    """UsageError, saying what to do, where nle is missing."""
    if not has_nle():
        raise UsageError(f"NetHack needs the package nle, which is not installed: {_HOW}")


def require_minihack() -> None:
    """UsageError, saying what to do, where nle or minihack is missing."""
    if not has_minihack():
        raise UsageError(f"MiniHack needs nle and minihack, which are not installed: {_HOW}")
