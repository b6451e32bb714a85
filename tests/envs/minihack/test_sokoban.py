"""Boxoban levels: reading, the solver's proof, the generator, files of the user."""

from pathlib import Path

import pytest

from automem.errors import UsageError
from automem_envs.minihack.generator import DIFFICULTIES, MOST_MOVES, generate
from automem_envs.minihack.levels import level_from_files, read_levels
from automem_envs.minihack.sokoban import (
    MOVES,
    Level,
    read_level,
    solve,
    solve_pushes,
    squares,
    write_level,
)

EASY = [
    "##########",
    "#  @     #",
    "#  $     #",
    "#  .     #",
    "#        #",
    "#  *     #",
    "#        #",
    "#        #",
    "#        #",
    "##########",
]
STUCK = [line.replace("@", " ").replace("$", "#") for line in EASY]
STUCK[1], STUCK[3] = "#$   @   #", "#  .     #"


def play(level: Level, moves: list[str]) -> tuple[int, int]:
    """Boxes and pushes after these moves, by the plain rules, square by square."""
    boxes, player, pushes = set(squares(level.boxes)), level.player, 0
    for move in moves:
        player += MOVES[move]
        if player in boxes:
            boxes.remove(player)
            assert player + MOVES[move] not in boxes
            boxes.add(player + MOVES[move])
            pushes += 1
        assert all(level.floor >> square & 1 for square in [player, *boxes])
    return sum(1 << box for box in boxes), pushes


def test_a_level_is_written_as_it_was_read() -> None:
    assert write_level(read_level(EASY)) == EASY


def test_the_solver_finds_the_fewest_pushes() -> None:
    level = read_level(EASY)
    assert solve(level) == ["south"]
    assert solve_pushes(level) == [(23, 10)]


def test_the_solver_gives_none_for_what_cannot_be_solved() -> None:
    assert solve(read_level(STUCK)) is None


def test_the_solver_gives_up_at_its_budget() -> None:
    assert solve(generate("hard", 1).level, budget=3) is None


@pytest.mark.parametrize("difficulty", list(DIFFICULTIES))
@pytest.mark.parametrize("seed", range(42, 50))
def test_a_generated_level_is_proven_solvable_within_the_cap(difficulty: str, seed: int) -> None:
    level, moves = generate(difficulty, seed)
    boxes, pushes = play(level, moves)
    assert boxes == level.goals
    assert len(moves) <= MOST_MOVES
    bounds = DIFFICULTIES[difficulty]
    assert bounds.least_pushes <= pushes <= bounds.most_pushes
    # The forward solver knows nothing of how the level was made.
    found = solve(level)
    assert found is not None
    assert play(level, found) == (level.goals, pushes)


def test_a_level_is_a_function_of_difficulty_and_seed() -> None:
    assert generate("medium", 3) == generate("medium", 3)
    assert generate("medium", 3).level != generate("medium", 4).level


def write_collection(folder: Path) -> Path:
    """Two files as the original collection lays them out."""
    for name, count in (("medium/train/000.txt", 2), ("hard/000.txt", 1)):
        path = folder / name
        path.parent.mkdir(parents=True)
        path.write_text("".join(f"; {i}\n" + "\n".join(EASY) + "\n\n" for i in range(count)))
    return folder


def test_levels_are_read_from_files_of_the_collection(tmp_path: Path) -> None:
    folder = write_collection(tmp_path)
    assert len(read_levels(folder / "medium" / "train" / "000.txt")) == 2
    for path in (folder, folder / "hard", folder / "hard" / "000.txt"):
        assert level_from_files(path, "hard", 42) == read_level(EASY)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no level"),
        ("##########\n", "expected a line `; number` first"),
        ("; 7\n" + "\n".join(EASY[:9]), "level 7: a Boxoban level has 10 lines"),
        ("; 7\n" + "\n".join(EASY).replace("@", "?"), r"this one has \['\?'\]"),
        ("; 7\n" + "\n".join(EASY).replace("@", " "), "one player and as many boxes as goals"),
        ("; 7\n" + "\n".join(EASY).replace("##########", "####  ####"), "walled in"),
    ],
)
def test_a_malformed_file_is_refused_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "000.txt"
    path.write_text(text)
    with pytest.raises(UsageError, match=said) as refusal:
        level_from_files(path, "hard", 1)
    assert "000.txt" in str(refusal.value)
