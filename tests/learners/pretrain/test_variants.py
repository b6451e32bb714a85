"""Random scaffolds."""

import random
import re

from automem.agent.scaffold import Scaffold
from automem_envs.concentration.view import _SCHEMA
from automem_learners.pretrain.tokenizer import build_tokenizer
from automem_learners.pretrain.variants import random_scaffold


def drawn(count: int, is_held_out: bool = False) -> list[Scaffold]:
    return [random_scaffold(random.Random(seed), is_held_out) for seed in range(count)]


def system(scaffold: Scaffold, routine: str = "plan") -> str:
    values = {
        "instruction": "find pairs of cards",
        "files": scaffold.schema.files,
        "operations": ["<|SEARCH|>file|keyword<|END|>"],
    }
    return scaffold.render(f"{routine}.system", values)


def user(scaffold: Scaffold, routine: str) -> str:
    values = {
        "action": "flip 05",
        "changed": True,
        "observation": "new deck\npending none\ndown 01 02",
        "index": (),
        "shown": (),
        "notices": ["nothing changed"],
    }
    return scaffold.render(routine, values)


def test_a_variant_is_a_function_of_its_seed() -> None:
    assert [s.digest for s in drawn(5)] == [s.digest for s in drawn(5)]
    assert len({s.digest for s in drawn(60)}) == 60


def test_every_variant_says_which_file_holds_the_cards() -> None:
    for scaffold in drawn(60):
        for routine in ("log", "plan"):
            assert len(_SCHEMA.findall(system(scaffold, routine))) == 1


def test_held_out_variants_share_no_file_name_and_no_order_with_the_others() -> None:
    names = {f.name for s in drawn(60) for f in s.schema.files}
    assert not names & {f.name for s in drawn(60, is_held_out=True) for f in s.schema.files}
    for routine in ("log", "plan"):
        seen = {s.sources[routine] for s in drawn(60)}
        assert not seen & {s.sources[routine] for s in drawn(60, is_held_out=True)}


def test_the_words_of_variants_are_tokens() -> None:
    tokenizer = build_tokenizer()
    letters = {tokenizer.convert_tokens_to_ids(letter) for letter in "bcdefghijklmnopqrstuvwxyz"}
    for scaffold in [*drawn(100), *drawn(50, is_held_out=True)]:
        for text in (system(scaffold, "log"), system(scaffold), user(scaffold, "plan")):
            assert not letters & set(tokenizer.encode(text, add_special_tokens=False)), text


def test_the_commit_message_keeps_its_header() -> None:
    for scaffold in drawn(60):
        text = scaffold.render("commit", {"forced": False, "form": "x"})
        assert re.match(r"# commit(\n|$)", text)
        assert scaffold.render("commit", {"forced": True, "form": "x"}).startswith("# commit now")
