"""How often what the agent does has paid, by what it does and by where it does it.

From all turns of all episodes: of the writes (or look-ups) of one form, or made where the
observation holds one word, how many paid? A form that surely pays less than half as often as the
best form of its kind is a bad habit, however lucky a single turn of it was. A place where writing
(or looking up) surely never pays is one where doing nothing is right: that is how `nothing was left
to remember` is known, by the evidence of those turns that tried. "Surely" is the upper 95 % bound.
"""

import math
from collections import defaultdict
from collections.abc import Iterable

import msgspec

from automem.trace.credit import singled_out

Z_ONE_SIDED_95 = 1.645


class PayoffSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a form or a place counts as worthless."""

    below: float = 0.5
    """Its upper bound is below this share of what it is compared with."""
    min_tries: int = 20
    """Fewer tries tell nothing."""


def upper_bound(hits: float, tries: float) -> float:
    """Upper end of the one-sided 95 % Wilson interval of a share; 1 without tries."""
    if tries <= 0:
        return 1.0
    z, share = Z_ONE_SIDED_95, hits / tries
    centre = share + z * z / (2 * tries)
    spread = z * math.sqrt(share * (1 - share) / tries + z * z / (4 * tries * tries))
    return (centre + spread) / (1 + z * z / tries)


class Payoffs:
    """Hits and tries of one kind of turn; see the module's docstring."""

    def __init__(self, settings: PayoffSettings) -> None:
        self._settings = settings
        self.tries = self.hits = 0
        self._forms: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        self._words: dict[str, list[int]] = defaultdict(lambda: [0, 0])

    def add_place(self, observation: str, has_paid: bool) -> None:
        """One turn that did something there."""
        self.tries += 1
        self.hits += has_paid
        for word in place_words(observation):
            self._words[word][0] += has_paid
            self._words[word][1] += 1

    def add_form(self, form: str, has_paid: bool) -> None:
        """One turn that did something of this form."""
        self._forms[form][0] += has_paid
        self._forms[form][1] += 1

    def bad_form(self, form: str) -> str:
        """Why a form is a bad habit, in words; empty where it is not known to be one."""
        hits, tries = self._forms.get(form, (0, 0))
        enough = [(h / n, n) for h, n in self._forms.values() if n >= self._settings.min_tries]
        best = max(enough, default=(0.0, 0))[0]
        if tries < self._settings.min_tries:
            return ""
        if upper_bound(hits, tries) >= self._settings.below * best:
            return ""
        return f"{hits} of {tries} paid; the best form: {best:.0%}"

    def worthless_place(self, observation: str) -> str:
        """The word of the observation that says that such turns do not pay there, with its counts;
        empty where no word does."""
        if not self.hits:
            return ""
        limit = self._settings.below * self.hits / self.tries
        found = []
        for word in place_words(observation):
            hits, tries = self._words.get(word, (0, 0))
            bound = upper_bound(hits, tries)
            if tries >= self._settings.min_tries and bound < limit:
                found.append((bound, word, hits, tries))
        if not found:
            return ""
        _, word, hits, tries = min(found)
        return f"where the observation says `{word}`, {hits} of {tries} paid"


def place_words(observation: str) -> Iterable[str]:
    """Words of an observation by which places are told apart; numbers are no places."""
    return (word for word in singled_out(observation) if not word.isdigit())
