"""People and what is known of them: names, preferences, changes of mind, wishes to be forgotten.

Each session tells new details, changes some, withdraws some, then asks. A withdrawn detail, and
one that nobody ever told, is `unknown`: old notes must go, not only new ones come.
"""

from collections.abc import Iterator
from random import Random

from automem_envs.sessions.session import Moment, Session, Talk
from automem_envs.sessions.words import DETAILS, other_than, people

TITLE = "people"
UNKNOWN = "unknown"
Key = tuple[str, str]
"""Person and detail."""


def sessions(chance: Random, size: int) -> Iterator[Session]:
    """`size` details and `size` questions a session."""
    names = people(chance)
    known: dict[Key, str] = {}
    withdrawn: list[Key] = []
    recent: list[Key] = []
    while True:
        moments: list[Moment] = []
        changed: list[Key] = []
        old = sorted(known)
        for key in chance.sample(old, min(len(old) // 2, max(1, size // 2))):
            if chance.random() < 0.3:
                del known[key]
                withdrawn.append(key)
                moments.append(Moment(_forget(key)))
            else:
                known[key] = other_than(known[key], DETAILS[key[1]], chance)
                changed.append(key)
                moments.append(Moment(f"From now on, {_words(key)} is {known[key]}."))
        new = _new_details(chance, names, known, withdrawn, size)
        for key in new:
            known[key] = chance.choice(DETAILS[key[1]])
            moments.append(Moment(f"Please note: {_words(key)} is {known[key]}."))
        chance.shuffle(moments)
        asked = _asked(chance, old, changed, new, recent, known, size)
        if withdrawn and chance.random() < 0.5:
            asked[-1] = chance.choice(withdrawn[-2 * size :])
        moments += [Moment(f"What is {_words(key)}?", (known.get(key, UNKNOWN),)) for key in asked]
        recent = changed + new
        yield Talk(TITLE, moments)


def _words(key: Key) -> str:
    return f"{key[0]}'s favourite {key[1]}"


def _forget(key: Key) -> str:
    return f"{key[0]} asks us to forget {_words(key)}."


def _new_details(
    chance: Random, names: list[str], known: dict[Key, str], withdrawn: list[Key], size: int
) -> list[Key]:
    """Details that were never told: of people met before, and of new ones."""
    met = sorted({name for name, _ in (*known, *withdrawn)})
    new: list[Key] = []
    while len(new) < size and len(met) <= len(names):
        if met and chance.random() < 0.4:
            name = chance.choice(met)
        else:
            name = names[len(met) % len(names)]
            met.append(name)
        told = {detail for who, detail in (*known, *withdrawn, *new) if who == name}
        if free := sorted(set(DETAILS) - told):
            new.append((name, chance.choice(free)))
    return new


def _asked(
    chance: Random,
    old: list[Key],
    changed: list[Key],
    new: list[Key],
    recent: list[Key],
    known: dict[Key, str],
    size: int,
) -> list[Key]:
    """What is asked for: earlier sessions first of all, the present one only where it must be."""
    earlier = [key for key in old if key in known]
    pool = earlier or new
    asked = chance.sample(pool, min(len(pool), size))
    for place, key in enumerate(chance.sample(changed, min(len(changed), size // 2))):
        if key not in asked and place < len(asked):
            asked[place] = key
    asked += chance.choices(pool or recent, k=size - len(asked))
    chance.shuffle(asked)
    return asked


def most_steps(size: int) -> int:
    """Actions that a session can take at most."""
    return size + max(1, size // 2) + size
