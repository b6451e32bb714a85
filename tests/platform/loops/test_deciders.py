"""Who chooses the next recipe, from what the ledger says of the earlier ones."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.chat_server import ChatServer, answer_body, say
from support.loop_parts import SkillTrainer, make_loop, recipe, specialist

from automem.engine.openai import OpenAIEngine
from automem.errors import EngineError, UsageError
from automem.loops.deciders import FixedDecider, ReviewerDecider, SearchDecider
from automem.loops.gate import Verdict
from automem.loops.ledger import Closed, Trial
from automem.loops.recipes import Recipe, read_recipe

SPACE = {
    "data.episodes": {"low": 4, "high": 64, "log": True},
    "data.selector": ["provenance", "outcome"],
    "trainings.0.learning_rate": {"low": 1e-5, "high": 1e-2, "log": True},
}
FIRST = {"data": {"episodes": 8}, "trainings": [{"learning_rate": 1e-3}]}


def anything(recipe: Recipe) -> None:
    """A check that nothing fails."""


def no_second_selector(recipe: Recipe) -> None:
    if recipe.data.selector != "provenance":
        raise UsageError(f"no selector {recipe.data.selector!r}; did you mean 'provenance'?")


def trial(number: int, fields: Mapping[str, Any], gain: float | None) -> Trial:
    verdict = None if gain is None else Verdict.REJECTED
    closed = Closed(verdict, "for a reason", specialist("good") if verdict else None, None, gain)
    return Trial(number, read_recipe(fields), closed, 100)


# A list


def test_a_list_is_carried_out_in_turn_and_its_last_recipe_again() -> None:
    decider = FixedDecider([recipe("good"), recipe("bad")])
    done = [trial(number, FIRST, 0.1) for number in range(1, 4)]
    skills = [decider.choose(done[:n], anything).recipe.trainings[0]["skill"] for n in range(4)]
    assert skills == ["good", "bad", "bad", "bad"]


def test_a_wrong_recipe_further_down_the_list_is_told_at_once() -> None:
    with pytest.raises(UsageError, match=r"no field of decider\.recipes\[1\] 'start_'"):
        FixedDecider([recipe(), {"start_": "base"}])
    decider = FixedDecider([recipe(), recipe(selector="outcome")])
    with pytest.raises(UsageError, match="did you mean 'provenance'"):
        decider.choose((), no_second_selector)


def test_a_list_without_recipes_is_refused() -> None:
    with pytest.raises(UsageError, match="at least one recipe"):
        FixedDecider([])


# Search


def search(trials: Sequence[Trial], seed: int = 0, space: Mapping[str, Any] = SPACE) -> Recipe:
    return SearchDecider(FIRST, space, seed=seed).choose(trials, anything).recipe


def test_a_search_begins_with_what_is_known_to_work() -> None:
    assert search(()) == read_recipe(FIRST)


def test_a_search_stays_in_its_space_and_changes_nothing_else() -> None:
    trials: list[Trial] = []
    for number in range(1, 13):
        found = search(trials)
        fields = {
            "data": {"episodes": found.data.episodes, "selector": found.data.selector},
            "trainings": [dict(found.trainings[0])],
        }
        assert found == read_recipe(fields)
        assert 4 <= found.data.episodes <= 64
        assert found.data.selector in ("provenance", "outcome")
        assert 1e-5 <= found.trainings[0]["learning_rate"] <= 1e-2
        trials.append(trial(number, fields, found.data.episodes / 100))
    assert max(t.recipe.data.episodes for t in trials[6:]) > 32  # more episodes were better


def test_a_search_is_deterministic_and_another_seed_searches_elsewhere() -> None:
    trials = [trial(n, {"data": {"episodes": 4 + n}, **TRAINED}, n / 50) for n in range(1, 7)]
    assert search(trials) == search(trials)
    assert search(trials) != search(trials, seed=1)


TRAINED = {"trainings": [{"learning_rate": 1e-3}]}


@pytest.mark.parametrize(
    "outside",
    [
        {},
        {"data": {"episodes": 3}, **TRAINED},
        {"data": {"selector": "all"}, **TRAINED},
        {"trainings": [{"learning_rate": 1.0}]},
        {"trainings": [{"learning_rate": None}]},
        {"trainings": [{"learning_rate": "fast"}]},
        {"trainings": [{"learning_rate": {"low": 1}}]},
    ],
)
def test_a_search_survives_recipes_outside_its_space(outside: dict[str, Any]) -> None:
    trials = [trial(1, FIRST, 0.1), trial(2, outside, 0.3), trial(3, FIRST, None)]
    decision = SearchDecider(FIRST, SPACE).choose(trials, anything)
    assert "from 2 rounds" in decision.reason


def test_values_that_do_not_go_together_are_drawn_again() -> None:
    for number in range(1, 6):
        trials = [trial(n, FIRST, n / 10) for n in range(1, number + 1)]
        decision = SearchDecider(FIRST, SPACE).choose(trials, no_second_selector)
        assert decision.recipe.data.selector == "provenance"


def test_a_space_without_any_recipe_that_can_be_used_is_told() -> None:
    space = {"data.selector": ["outcome", "all"]}
    with pytest.raises(UsageError, match=r"decider\.space: .* \(no selector '(outcome|all)'"):
        SearchDecider(FIRST, space).choose([trial(1, FIRST, 0.1)], no_second_selector)


def test_a_broken_number_lies_outside_a_space_of_whole_ones() -> None:
    space = {"trainings.0.epochs": {"low": 1, "high": 4}}
    trials = [trial(1, {"trainings": [{"epochs": 2.5}]}, 0.1)]
    found = SearchDecider(FIRST, space).choose(trials, anything).recipe
    assert found.trainings[0]["epochs"] in (1, 2, 3, 4)


def test_what_a_training_leaves_to_its_defaults_can_be_searched() -> None:
    found = search([trial(1, FIRST, 0.1)], space={"trainings.0.lora.rank": [4, 8]})
    assert found.trainings[0]["lora"]["rank"] in (4, 8)
    assert found.trainings[0]["learning_rate"] == 1e-3


def test_whole_trainings_can_be_choices() -> None:
    space = {"trainings.0": [{"learning_rate": 1e-3}, {"learning_rate": 1e-4}]}
    found = search([trial(1, FIRST, 0.1), trial(2, FIRST, 0.2)], space=space)
    assert found.trainings[0] in space["trainings.0"]


@pytest.mark.parametrize(
    ("space", "told"),
    [
        ({"data.episods": [4]}, "'episods'; did you mean 'episodes'"),
        ({"dta.episodes": [4]}, "'dta'; did you mean 'data'"),
        ({"data.episodes": [4, 0]}, "data.episodes must be at least 1, got 0"),
        ({"data.episodes": {"low": 0, "high": 3}}, "data.episodes must be at least 1, got 0"),
        ({"data.episodes.more": [4]}, "the recipe has no data.episodes.more"),
        ({"trainings.1.skill": ["good"]}, "decider.space.trainings.1.skill: the recipe has no"),
        ({"trainings.first.skill": ["good"]}, "the recipe has no trainings.first"),
        ({"trainings.0.skil": ["good"]}, "'skil'; did you mean 'skill'"),
        ({"trainings.0.skill": ["good", "god"]}, "no skill 'god'; did you mean 'good'"),
        ({"data.episodes": []}, "decider.space.data.episodes must be a list of choices or"),
        ({"data.episodes": 4}, "decider.space.data.episodes must be a list of choices or"),
        ({"data.episodes": {"low": 4}}, "{low, high, log}, got {'low': 4}"),
        ({"data.episodes": {"low": 4, "high": 2}}, "decider.space.data.episodes: "),
        ({"data.episodes": {"low": 0, "high": 2, "log": True}}, "decider.space.data.episodes: "),
        ({"data.episodes": {"low": 4, "high": None}}, "decider.space.data.episodes: "),
        ({"data.episodes": {"low": 4, "high": 9, "lgo": True}}, "'lgo'; did you mean 'log'"),
    ],
)
def test_what_is_wrong_with_a_space_is_named_before_anything_is_played(
    space: dict[str, Any], told: str
) -> None:
    with pytest.raises(UsageError) as error:
        SearchDecider(recipe(), space).choose((), SkillTrainer().check)
    assert told in str(error.value)


def test_a_wrong_first_recipe_is_told() -> None:
    with pytest.raises(UsageError, match=r"no field of decider\.first 'dat'"):
        SearchDecider({"dat": {}}, SPACE)


def test_a_loop_writes_down_what_a_search_found_and_goes_on_from_it(tmp_path: Path) -> None:
    first = recipe("bad", episodes=1)
    space = {"trainings.0.skill": ["bad", "good"], "trainings.0.steps": {"low": 1, "high": 9}}
    decider = SearchDecider(first, space)
    loop = make_loop(tmp_path, decider=decider, rounds=4)
    loop.run()
    trials = loop.ledger.trials()
    assert [trial.recipe for trial in trials] == [
        decider.choose(trials[:number], anything).recipe for number in range(4)
    ]


# A strong model


class Thread:
    """The test's server in a loop of its own, since the decider has its own loop."""

    def __init__(self) -> None:
        self.server = ChatServer()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._do(self.server.start())

    def _do(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def close(self) -> None:
        self._do(self.server.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()


@pytest.fixture
def server() -> Iterator[ChatServer]:
    thread = Thread()
    yield thread.server
    thread.close()


def answers(server: ChatServer, *texts: str) -> None:
    server.script.extend(say(200, answer_body(text)) for text in texts)


def reviewer(server: ChatServer, **options: Any) -> ReviewerDecider:
    engine = OpenAIEngine(server.url, "judge", max_attempts=1, backoff_s=0.01)
    return ReviewerDecider(engine, recipe("good"), **options)


def said(recipe: Any, reason: str = "more of it") -> str:
    return json.dumps({"reason": reason, "recipe": recipe})


TRIALS = [
    trial(1, recipe("bad"), -0.1),
    trial(2, recipe("good", episodes=2), 0.0),
    trial(3, recipe("good", episodes=3, selector="outcome"), None),
]
Checked = Callable[[Recipe], None]


def test_a_reviewer_is_not_asked_for_the_first_recipe(server: ChatServer) -> None:
    decision = reviewer(server).choose((), SkillTrainer().check)
    assert decision.recipe == read_recipe(recipe("good"))
    assert server.requests == 0


def test_a_reviewer_reads_every_round_and_its_recipe_is_carried_out(server: ChatServer) -> None:
    decider = reviewer(server)
    for number in (1, 2):  # the second time in a new event loop
        answers(server, "I think:\n```json\n" + said(recipe("good", episodes=9)) + "\n```")
        decision = decider.choose(TRIALS, SkillTrainer().check)
        assert decision.recipe.data.episodes == 9
        assert decision.reason == "more of it"
        assert server.requests == number
    messages = json.loads(server.bodies[-1])["messages"]
    assert "episode_share" in messages[0]["content"]
    told = [json.loads(line) for line in messages[1]["content"].splitlines()]
    assert [(t["round"], t["gain"], t["turns"]) for t in told] == [
        (1, -0.1, 100),
        (2, 0.0, 100),
        (3, None, 100),
    ]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (said({"data": {"episods": 3}}), "'episods'; did you mean 'episodes'"),
        (said(recipe("god")), "no skill 'god'; did you mean 'good'"),
        (said({"data": {"episodes": 0}}), "data.episodes must be at least 1"),
        (said(3), "the answer must be"),
        ('{"recipe": {"trainings": [{"steps": NaN}]}}', "the answer is no JSON"),
        ("let us train longer", "the answer must be"),
        ("{" * 9 + "}", "the answer is no JSON"),
    ],
)
def test_a_wrong_answer_goes_back_with_what_is_wrong_and_is_mended(
    server: ChatServer, wrong: str, told: str
) -> None:
    answers(server, wrong, said(recipe("good", episodes=4)))
    decision = reviewer(server).choose(TRIALS, SkillTrainer().check)
    assert decision.recipe.data.episodes == 4
    *_, answer, mistake = json.loads(server.bodies[-1])["messages"]
    assert answer == {"role": "assistant", "content": wrong}
    assert told in mistake["content"]


def test_without_an_answer_the_best_recipe_so_far_is_tried_again(server: ChatServer) -> None:
    answers(server, *["no idea"] * 3)
    decision = reviewer(server).choose(TRIALS, SkillTrainer().check)
    # a gain of nothing is better than a loss
    assert decision.recipe == TRIALS[1].recipe
    assert "no recipe in 3 answers: round 2's again" in decision.reason


def test_a_reviewer_that_is_away_is_an_engine_error(server: ChatServer) -> None:
    server.script.append(say(503, b"{}"))
    with pytest.raises(EngineError, match="503"):
        reviewer(server, deadline_s=5.0).choose(TRIALS, SkillTrainer().check)
