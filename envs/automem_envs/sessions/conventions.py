"""A codebase's conventions, told in review and changed later; tasks need two of them at once."""

from collections.abc import Callable, Iterator
from random import Random

from automem_envs.sessions.session import Moment, Session, Talk, same_text
from automem_envs.sessions.words import other_than

TITLE = "codebase"

CHOICES: dict[str, tuple[str, ...]] = {
    "names of functions are written in": ("snake_case", "camelCase", "PascalCase", "kebab-case"),
    "functions that read begin with": ("fetch", "load", "obtain", "pull", "query"),
    "functions that save begin with": ("store", "persist", "commit", "keep", "record"),
    "tests lie in the folder": ("spec", "checks", "trials", "proofs", "exams"),
    "names of test files begin with": ("test_", "try_", "verify_", "assert_", "probe_"),
    "the logger is called": ("audit", "herald", "ledger", "tracer", "journal"),
    "names of errors end in": ("Fault", "Mishap", "Trouble", "Refusal", "Breakdown"),
}
"""Convention, in words, to what it may be."""

_NOUNS_TEXT = "order basket invoice refund coupon parcel user price stock review"
_ADJECTIVES_TEXT = "open late paid draft frozen monthly shared first"
_MODULES_TEXT = "billing shipping search login catalog mailing"
_NOUNS, _ADJECTIVES = _NOUNS_TEXT.split(), _ADJECTIVES_TEXT.split()
_MODULES = _MODULES_TEXT.split()
STYLE, READS, SAVES, FOLDER, PREFIX, LOGGER, ERROR = CHOICES


def in_style(style: str, words: list[str]) -> str:
    """`words` joined as the style has it."""
    if style == "snake_case":
        return "_".join(words)
    if style == "kebab-case":
        return "-".join(words)
    capitals = [word.capitalize() for word in words]
    return "".join(capitals if style == "PascalCase" else [words[0], *capitals[1:]])


def sessions(chance: Random, size: int) -> Iterator[Session]:
    """`size` tasks a session; the first one tells every convention, a later one changes some."""
    rules: dict[str, str] = {}
    while True:
        moments = []
        changes = min(max(1, size // 3), len(CHOICES))
        names = chance.sample(sorted(CHOICES), changes) if rules else sorted(CHOICES)
        chance.shuffle(names)
        for name in names:
            start = "Review: from now on," if rules.get(name) else "Review: in this codebase"
            rules[name] = other_than(rules.get(name, ""), CHOICES[name], chance)
            moments.append(Moment(f"{start} {name} {rules[name]}."))
        for _ in range(size):
            moments.append(chance.choice(_TASKS)(chance, rules))
        yield Talk(TITLE, moments, same_text)


Task = Callable[[Random, dict[str, str]], Moment]


def _function(chance: Random, rules: dict[str, str]) -> Moment:
    verb = chance.choice((READS, SAVES))
    words = [chance.choice(_ADJECTIVES), chance.choice(_NOUNS)]
    doing = "reads" if verb == READS else "saves"
    name = in_style(rules[STYLE], [rules[verb], *words])
    return Moment(f"Name the function that {doing} the {' '.join(words)}.", (name,))


def _test_file(chance: Random, rules: dict[str, str]) -> Moment:
    module = chance.choice(_MODULES)
    path = f"{rules[FOLDER]}/{rules[PREFIX]}{module}.py"
    return Moment(f"Give the path of the tests of {module}.py.", (path,))


def _warning(chance: Random, rules: dict[str, str]) -> Moment:
    noun = chance.choice(_NOUNS)
    error = f"{noun.capitalize()}{rules[ERROR]}"
    return Moment(
        f"Write the call that warns of the error about a missing {noun}: LOGGER.warning(ERROR).",
        (f"{rules[LOGGER]}.warning({error})",),
    )


_TASKS: tuple[Task, ...] = (_function, _test_file, _warning)


def most_steps(size: int) -> int:
    """Actions that a session can take at most."""
    return len(CHOICES) + size
