"""How far a game of NetHack has come: the published chance of winning from where the player got.

The figures are those of the BALROG benchmark, which the paper reports: for each dungeon level and
each experience level, the share of human games that were won among those that reached it. They are
data of that benchmark and are not fitted to anything here.
"""

# fmt: off
DUNGEON_LEVELS = (
    0.000000, 0.015392, 0.017540, 0.021221, 0.026482, 0.035429, 0.048461, 0.069581,
    0.097709, 0.125586, 0.161268, 0.206129, 0.256604, 0.292472, 0.308812, 0.324907,
    0.340079, 0.352646, 0.365488, 0.378957, 0.392937, 0.408323, 0.425836, 0.445181,
    0.466376, 0.506761, 0.554357, 0.601565, 0.646505, 0.691311, 0.710109, 0.717646,
    0.723212, 0.728441, 0.732776, 0.736853, 0.742146, 0.747132, 0.753731, 0.761040,
    0.767408, 0.772534, 0.777163, 0.781257, 0.785899, 0.789026, 0.792972, 0.796741,
    0.801847, 0.806796,
)
"""Progression of having reached dungeon level 1, 2, ..."""

EXPERIENCE_LEVELS = (
    0.000000, 0.018478, 0.020812, 0.024160, 0.029109, 0.036888, 0.050758, 0.074536,
    0.117050, 0.179100, 0.254804, 0.332649, 0.414426, 0.494039, 0.577882, 0.626122,
    0.656282, 0.681022, 0.701533, 0.717449, 0.728698, 0.737100, 0.744345, 0.751345,
    0.758554, 0.764215, 0.770338, 0.775981, 0.778335, 0.780456,
)
"""Progression of having reached experience level 1, 2, ..."""
# fmt: on


def progression(depth: int, experience_level: int) -> float:
    """The larger of the two figures. Levels beyond the table count as its last."""
    return max(_of(DUNGEON_LEVELS, depth), _of(EXPERIENCE_LEVELS, experience_level))


def _of(table: tuple[float, ...], level: int) -> float:
    return table[min(max(level, 1), len(table)) - 1]
