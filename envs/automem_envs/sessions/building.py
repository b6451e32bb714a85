"""A building that the first session walks through and later ones run errands in.

An errand names a thing; where it stands, and the way there, were seen in earlier sessions. Moves
are counted: who has to search fails. Between sessions doors are closed or opened and things moved;
a notice at the start of the session says so, once.
"""

from collections.abc import Iterator
from random import Random

from automem_envs.sessions.session import NEXT, Session
from automem_envs.sessions.words import ROOMS, THINGS

TITLE = "building"
ENTRANCE = "lobby"
ERRANDS = 2
SPARE_MOVES = 2
"""Moves that an errand allows beyond the shortest way."""
TOUR_MOVES = 4
"""For each room: two for every door are enough to walk through all of them."""
_MOST_NOTICES = 2
_STEPS = {"north": (0, -1), "east": (1, 0), "south": (0, 1), "west": (-1, 0)}
OPPOSITE = {"north": "south", "south": "north", "east": "west", "west": "east"}


class House:
    """Rooms on a grid, doors between neighbours, things in rooms."""

    def __init__(self, chance: Random, rooms: int, things: int) -> None:
        names = [ENTRANCE, *chance.sample(ROOMS, rooms - 1)]
        places = [(0, 0)]
        self.doors: dict[str, dict[str, str]] = {name: {} for name in names}
        self.closed: set[frozenset[str]] = set()
        while len(places) < rooms:
            x, y = chance.choice(places)
            direction, (east, south) = chance.choice(sorted(_STEPS.items()))
            place = (x + east, y + south)
            if place not in places:
                self._join(names[places.index((x, y))], direction, names[len(places)])
                places.append(place)
        for number, (x, y) in enumerate(places):
            for direction in ("east", "south"):
                other = (x + _STEPS[direction][0], y + _STEPS[direction][1])
                if other in places and chance.random() < 0.5:
                    self._join(names[number], direction, names[places.index(other)])
        self.things = {thing: chance.choice(names[1:]) for thing in chance.sample(THINGS, things)}

    def _join(self, room: str, direction: str, other: str) -> None:
        self.doors[room][direction] = other
        self.doors[other][OPPOSITE[direction]] = room

    def exits(self, room: str) -> dict[str, str]:
        """Direction to room, through the doors that are open."""
        doors = sorted(self.doors[room].items())
        return {way: other for way, other in doors if frozenset((room, other)) not in self.closed}

    def distance(self, start: str, end: str) -> int:
        """Moves of a shortest way; -1 where there is none."""
        reached = {start: 0}
        queue = [start]
        for room in queue:
            for other in self.exits(room).values():
                if other not in reached:
                    reached[other] = reached[room] + 1
                    queue.append(other)
        return reached.get(end, -1)

    def change(self, chance: Random) -> list[str]:
        """Open or close a door, move a thing; what the notices say."""
        said = []
        if self.closed and chance.random() < 0.5:
            room, other = chance.choice(sorted(sorted(pair) for pair in self.closed))
            self.closed.remove(frozenset((room, other)))
            said.append(f"Notice: the door between {room} and {other} is open again.")
        elif chance.random() < 0.7 and (spare := self._spare_door(chance)):
            self.closed.add(frozenset(spare))
            said.append(
                f"Notice: the door between {spare[0]} and {spare[1]} is closed from now on."
            )
        if chance.random() < 0.7:
            thing = chance.choice(sorted(self.things))
            taken = (ENTRANCE, self.things[thing])
            rooms = [room for room in sorted(self.doors) if room not in taken]
            self.things[thing] = chance.choice(rooms)
            said.append(f"Notice: the {thing} was moved to {self.things[thing]}.")
        return said

    def _spare_door(self, chance: Random) -> tuple[str, str] | None:
        """A door without which every room can still be reached."""
        pairs = {
            (min(room, other), max(room, other))
            for room in self.doors
            for other in self.exits(room).values()
        }
        candidates = sorted(pairs)
        chance.shuffle(candidates)
        for room, other in candidates:
            self.closed.add(frozenset((room, other)))
            is_spare = self.distance(room, other) > 0
            self.closed.remove(frozenset((room, other)))
            if is_spare:
                return room, other
        return None


class Walk:
    """What both kinds of session share: where one is and what one sees there."""

    title = TITLE

    def __init__(self, house: House, tasks: int, notices: list[str], moves: int) -> None:
        self.tasks = tasks
        self.solved = 0
        self.moves = moves
        self.room = ENTRANCE
        self._house = house
        self._notices = notices

    @property
    def is_over(self) -> bool:
        return not self._notices and self.moves <= 0

    def task(self) -> str:
        """The task, in words."""
        return "Walk through every room."

    def look(self) -> str:
        if self._notices:
            return f"{self._notices[0]}\nSay: next"
        exits = ", ".join(self._house.exits(self.room))
        lines = [self.task(), f"Moves left: {self.moves}"]
        lines += [f"You are in: {self.room}", f"Exits: {exits}", f"Here: {self._here()}"]
        return "\n".join([*lines, "Say: go DIRECTION, or next to give up"])

    def accepts(self, action: str) -> bool:
        words = action.lower().split()
        if words == [NEXT]:
            return True
        return not self._notices and len(words) == 2 and words[0] == "go" and words[1] in _STEPS

    def act(self, action: str) -> str:
        if self._notices:
            self._notices.pop(0)
            return ""
        if action.lower() == NEXT:
            return self.give_up()
        direction = action.lower().split()[1]
        self.moves -= 1
        other = self._house.exits(self.room).get(direction)
        if other is None:
            return f"There is no way {direction}. {self.moved()}".strip()
        came = f"You went {direction} from {self.room} to {other}."
        self.room = other
        # Said here too, since a session may end with this move.
        return f"{came} Here: {self._here()}. {self.moved()}".strip()

    def moved(self) -> str:
        """What a move brought, in words."""
        return ""

    def give_up(self) -> str:
        """What comes of giving up."""
        self.moves = 0
        return ""

    def _here(self) -> str:
        here = [thing for thing, room in sorted(self._house.things.items()) if room == self.room]
        return ", ".join(here) or "nothing"


class Tour(Walk):
    """The first session: every room seen is a task solved."""

    def __init__(self, house: House) -> None:
        rooms = len(house.doors)
        super().__init__(house, tasks=rooms - 1, notices=[], moves=TOUR_MOVES * rooms)
        self._seen = {ENTRANCE}

    def moved(self) -> str:
        self._seen.add(self.room)
        self.solved = len(self._seen) - 1
        if self.solved < self.tasks:
            return ""
        self.moves = 0
        return "You have seen every room."


class Errands(Walk):
    """A later session: things to go to, one after the other, each from the entrance."""

    def __init__(self, house: House, notices: list[str], things: list[str]) -> None:
        super().__init__(house, tasks=len(things), notices=notices, moves=0)
        self._left = things
        self._set_out()

    def task(self) -> str:
        return f"Go to the {self._left[0]}."

    def moved(self) -> str:
        if self.room == self._house.things[self._left[0]]:
            self.solved += 1
            return self._close("You are there.")
        return "" if self.moves else self._close("No moves left.")

    def give_up(self) -> str:
        return self._close("Given up.")

    def _close(self, said: str) -> str:
        self._left.pop(0)
        self.moves = 0
        if not self._left:
            return said
        self._set_out()
        return f"{said} Back to the {ENTRANCE}."

    def _set_out(self) -> None:
        self.room = ENTRANCE
        goal = self._house.things[self._left[0]]
        self.moves = self._house.distance(ENTRANCE, goal) + SPARE_MOVES


def sessions(chance: Random, size: int) -> Iterator[Session]:
    """4 + `size` rooms (as far as there are names), at least two things."""
    house = House(chance, rooms=min(4 + size, len(ROOMS)), things=min(max(2, size), len(THINGS)))
    yield Tour(house)
    while True:
        notices = house.change(chance)
        yield Errands(house, notices, chance.sample(sorted(house.things), ERRANDS))


def most_steps(size: int) -> int:
    """Actions that a session can take at most."""
    rooms = min(4 + size, len(ROOMS))
    return max(TOUR_MOVES * rooms, _MOST_NOTICES + ERRANDS * (rooms + SPARE_MOVES))
