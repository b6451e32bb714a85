"""Attribution and the reviewer: selectors that ask a model."""

import pytest
from support.agent_harness import SpyEngine
from support.told_game import Told, append, play_told, search
from support.traces import write_run

from automem.engine.protocol import Capabilities, Completion
from automem.errors import EngineError, UsageError
from automem_learners.select.attribution import AttributionSelector, without_line
from automem_learners.select.reviewer import EngineJudge, ReviewerSelector, read_opinion
from automem_learners.select.run import select
from automem_learners.select.selection import read_selection
from automem_learners.select.selector import provenance
from automem_learners.select.thinning import Thinning

# The action names nothing that was written: only a model can tell that the second line was used.
STEPS = [
    Told("new deck"),
    Told("a", (append("lake is calm"),)),
    Told("b", (append("lake lies west"),)),
    Told("thirsty", (), (search("lake"),), "go"),
    Told("drank", progression=0.5),
]


@pytest.fixture
async def run(tmp_path):
    quiet = [Told("x") for _ in STEPS]
    return write_run(tmp_path / "run", [
        await play_told(tmp_path, STEPS, seed=1), await play_told(tmp_path, quiet, seed=2),
    ])  # fmt: skip


class WestEngine(SpyEngine):
    """Thinks an action likelier by 2 nats where its context holds the word `west`."""

    def __init__(self, tokenizer: str, **can: bool) -> None:
        super().__init__(lambda view, request: "")
        self._tokenizer, self._can = tokenizer, {"scoring": True, "token_ids": True} | can

    async def capabilities(self) -> Capabilities:
        return Capabilities(model="west", tokenizer=self._tokenizer, **self._can)

    async def score(self, token_ids, adapter=None):
        from automem.engine.render import decode, load_tokenizer

        text = decode(load_tokenizer(self._tokenizer), list(token_ids))
        last = -1.0 if "west" in text else -3.0
        return [0.0] * (len(token_ids) - 1) + [last]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    from support.tiny_model import build_tokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    build_tokenizer(folder)
    return str(folder)


def test_attribution_finds_the_line_that_moved_the_action(run, tokenizer, tmp_path):
    selector = AttributionSelector(WestEngine(tokenizer), threshold=1.0)
    select([run], selector, Thinning(), tmp_path / "s")
    chosen = {(t.episode, t.step): t.kind for t in read_selection(tmp_path / "s").turns}
    assert chosen[("toy-1-0", 2)] == "write"
    assert ("toy-1-0", 1) not in chosen
    assert chosen[("toy-1-0", 3)] in ("consult", "plan_end")
    assert selector.notes["lines used"].startswith("1 of 2 at 1 nats or more; mean +1.00")


def test_attribution_keeps_to_its_budget(run, tokenizer, tmp_path):
    selector = AttributionSelector(WestEngine(tokenizer), budget=1)
    report = select([run], selector, Thinning(), tmp_path / "s")
    assert selector.notes["lines scored"] == "0 of a budget of 1"
    assert report["selected"] == 0


def test_an_engine_that_cannot_score_is_refused(run, tokenizer, tmp_path):
    selector = AttributionSelector(WestEngine(tokenizer, scoring=False))
    with pytest.raises(UsageError, match="cannot score tokens"):
        select([run], selector, Thinning(), tmp_path / "s")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# results\nSEARCH f|a\na 1\na 2", "# results\nSEARCH f|a\na 2"),
        ("# results\nSEARCH f|a\na 1", "# results\nSEARCH f|a\nno match"),
        ("# results\nREAD f\na 1\nSEARCH f|b\nb", "# results\nREAD f\nno match\nSEARCH f|b\nb"),
        ("# results\nSEARCH *|a\nf: a 1\nf: a 2", "# results\nSEARCH *|a\nf: a 2"),
        ("# observation\na 1\n# memory f\na 1\nb", "# observation\na 1\n# memory f\nb"),
    ],
)  # fmt: skip
def test_a_prompt_without_a_line_reads_as_if_it_had_not_been_written(text, expected):
    talk = [("system", "a 1"), ("user", text), ("assistant", "a 1")]
    assert without_line(talk, "a 1") == [
        ("system", "a 1"),
        ("user", expected),
        ("assistant", "a 1"),
    ]


def judge_by(answers):
    """A judge whose model gives these answers in turn, the last one for ever."""
    left = list(answers)
    return EngineJudge(SpyEngine(lambda view, request: left.pop(0) if len(left) > 1 else left[0]))


def reviewed(run, folder, judge, **options):
    shortlist = provenance(evidence={"kind": "preceded", "top_share": 1.0})
    selector = ReviewerSelector(judge, shortlist, **options)
    return selector, select([run], selector, Thinning(), folder)


def test_the_reviewers_word_is_final_and_its_reason_kept(run, tmp_path):
    good = 'Sure:\n```json\n{"good": true, "reason": "it will be asked for"}\n```'
    selector, report = reviewed(run, tmp_path / "s", judge_by([good]))
    assert report["selected"] == report["good"] > 0
    turn = read_selection(tmp_path / "s").turns[0]
    assert turn.why == "the reviewer found it good: it will be asked for"
    assert "without a verdict" in selector.notes["reviewed"]
    _, report = reviewed(run, tmp_path / "t", judge_by(['{"good": false, "reason": "no"}']))
    assert report["selected"] == 0
    assert report["kinds"]["write"]["rejected"]["the reviewer found it bad"] > 0


def test_an_answer_that_is_no_verdict_is_asked_for_once_more(run, tmp_path):
    _, report = reviewed(
        run, tmp_path / "s", judge_by(["I like it", '{"good": true, "reason": "yes"}'])
    )
    assert report["selected"] > 0
    _, report = reviewed(run, tmp_path / "t", judge_by(["I like it"]))
    rejected = [r for row in report["kinds"].values() for r in row["rejected"]]
    assert "the reviewer gave no verdict" in rejected


def test_a_reviewer_that_cannot_be_reached_is_an_error(run, tmp_path):
    class Dead(SpyEngine):
        async def generate(self, request) -> Completion:
            raise EngineError("refused")

    with pytest.raises(EngineError, match="refused"):
        reviewed(run, tmp_path / "s", EngineJudge(Dead(lambda view, request: "")))


@pytest.mark.parametrize(
    ("text", "is_read"),
    [
        ('{"good": true, "reason": "x"}', True),
        ('{"good": "yes", "reason": "x"}', False),
        ('{"good": true}', False),
        ('{"good": true, "reason": "x", "score": 7}', False),
        ("good", False),
    ],
)
def test_verdicts_are_validated(text, is_read):
    assert (read_opinion(text) is not None) is is_read
