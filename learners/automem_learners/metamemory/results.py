"""What the arms come to: paired differences from always-on, by training seed, and the verdict.

Training seed s has decks of its own, which every control plays too, so the seeds' mean differences
are independent and Student's interval over them holds all noise: of training, decks and sampling.
A learned gate is not inferior where that interval (two-sided, 95 %) lies above minus the margin,
which was declared beforehand.
"""

from collections.abc import Sequence

import msgspec

from automem.trace.statistics import t_interval


class ArmRow(msgspec.Struct, frozen=True, kw_only=True):
    """One arm of the table."""

    name: str
    price: float | None = None
    """What a learned gate was trained with."""
    progression: float
    tokens_per_step: float
    saved: float
    """Share of always-on's tokens per step that it does without."""
    differences: list[float]
    """Mean progression minus always-on's, of each training seed's decks."""
    difference: float
    interval: tuple[float, float] | None
    """None with fewer than two training seeds."""
    is_not_inferior: bool | None
    log: tuple[float, float, float]
    """Shares of skip, brief, full."""
    consult: tuple[float, float, float]
    fallbacks: int
    games: int


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """`results.json`."""

    world: str
    policy: str
    margin: float
    goal: float
    """Share of tokens to be saved."""
    training_seeds: list[int]
    price: float
    rows: list[ArmRow]
    verdict: str
    trained_s: dict[str, float]
    """Seconds of each training, by folder."""
    practice: str
    """Who played while the gates were trained."""


def row(
    name: str,
    blocks: Sequence[Sequence[float]],
    base: Sequence[Sequence[float]],
    tokens: float,
    base_tokens: float,
    margin: float,
    log: tuple[float, float, float],
    consult: tuple[float, float, float],
    fallbacks: int = 0,
    price: float | None = None,
) -> ArmRow:
    """A row from progressions by training seed and game, and always-on's on the same games."""
    differences = [
        sum(ours) / len(ours) - sum(theirs) / len(theirs)
        for ours, theirs in zip(blocks, base, strict=True)
    ]
    interval = t_interval(differences)
    values = [value for block in blocks for value in block]
    return ArmRow(
        name=name,
        price=price,
        progression=sum(values) / len(values),
        tokens_per_step=tokens,
        saved=1.0 - tokens / base_tokens,
        differences=differences,
        difference=sum(differences) / len(differences),
        interval=interval,
        is_not_inferior=None if interval is None else interval[0] >= -margin,
        log=log,
        consult=consult,
        fallbacks=fallbacks,
        games=len(values),
    )


def verdict(learned: ArmRow, margin: float, goal: float) -> str:
    """What was to be shown, and whether it was."""
    saved = f"{learned.saved:.0%} fewer tokens per step (goal: {goal:.0%})"
    if learned.interval is None:
        return f"{saved}; one training seed has no interval: nothing is decided"
    low, high = learned.interval
    told = f"progression {learned.difference:+.3f} [{low:+.3f}, {high:+.3f}] against always-on"
    is_shown = bool(learned.is_not_inferior) and learned.saved >= goal
    bound = "not inferior" if learned.is_not_inferior else "non-inferiority not shown"
    word = "SHOWN" if is_shown else "NOT SHOWN"
    return f"{word}: {saved}; {told}: {bound} at the margin of {margin:g}"


def lines(results: Results) -> list[str]:
    """A Markdown table, the curve's rows among it, and the verdict."""
    found = [
        "| arm | progression | tokens/step | saved | minus always [95 %] "
        "| LOG: skip / brief / full | consult |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for each in results.rows:
        low, high = each.interval or (float("nan"), float("nan"))
        bounds = f" [{low:+.3f}, {high:+.3f}]" if each.interval else ""
        note = f" (fell back in {each.fallbacks} games)" if each.fallbacks else ""
        found.append(
            f"| {each.name}{note} | {each.progression:.3f} | {each.tokens_per_step:.0f} | "
            f"{each.saved:.1%} | {each.difference:+.3f}{bounds} | {_parts(each.log)} | "
            f"{_parts(each.consult)} |"
        )
    return [*found, "", results.verdict]


def _parts(shares: tuple[float, float, float]) -> str:
    return " / ".join(f"{share:.0%}" for share in shares)
