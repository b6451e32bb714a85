import re
from html.parser import HTMLParser

import msgspec
import pytest
from support.traces import Habits, failed_play, play, write_run

from automem import report
from automem.errors import UsageError
from automem.references import references_for
from automem.report import Arm, Reference, WorldPart, write_report
from automem.report_parts.charts import interval_bar, nice_ceiling, strip
from automem.report_parts.gather import STRIP_BINS, Strip, gather
from automem.trace.events import Committed, Failed, Observed, OpDone
from automem.trace.metrics import METRICS
from automem.trace.replay import find_replay, find_replay_in
from automem.trace.statistics import Estimate


class Page(HTMLParser):
    """A page's text, and whether its elements are closed in order."""

    VOID = frozenset({"meta", "link", "br", "img", "input", "hr"})

    def __init__(self, html):
        super().__init__()
        self.open, self.text, self.tags, self.addresses = [], "", [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "action")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "base"
    return write_run(folder, [*(play(seed) for seed in range(42, 48)), failed_play(99)])


def page_of(*arguments, **options):
    return Page(write_report(*arguments, **options).read_text())


def test_the_page_is_whole_and_loads_nothing_from_anywhere(run):
    html = write_report(run).read_text()
    page = Page(html)
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert page.addresses == []
    assert "url(" not in html
    assert "default-src 'none'" in html


def test_it_opens_with_the_replay_of_a_moment_that_needed_memory(run):
    html = write_report(run).read_text()
    replay = find_replay_in([run])
    assert replay is not None
    place = html.index("A moment that needed memory")
    assert place < html.index('class="results"')
    told = Page(html[html.index("<ol>") : html.index("</ol>") + 5]).text
    for text in (replay.line, replay.operation, replay.action, f"step {replay.written_step}"):
        assert text in told


def test_it_shows_interval_seeds_metrics_strips_failures_and_config(run):
    text = page_of(run).text
    for words in ("95 % interval", "Each seed", "Redundant writes", "Episodes", "1 failed",
                  "no such name", "env: concentration"):  # fmt: skip
        assert words in text


def test_several_runs_stand_side_by_side_under_their_names(run, tmp_path):
    perfect = write_run(
        tmp_path / "x", [play(s, habits=Habits(1, 1, 0, 0, 0, 0)) for s in (42, 43)]
    )
    arms = [Arm("base model", run, "as shipped"), Arm("perfect memory", perfect)]
    story = "Same player, better note-taker: 12 to 31 of 40 cards."
    page = page_of(arms, title="The tour", story=story, out=tmp_path / "tour.html")
    for words in ("The tour", story, "base model", "as shipped", "perfect memory"):
        assert words in page.text
    assert (tmp_path / "tour.html").exists()


def test_a_failed_episode_counts_in_the_mean_that_is_shown(run):
    data = gather(Arm("base", run))
    assert data.failed == 1
    without = [row["progression"] for row in data.rows if not row["failed"]]
    assert data.progression.mean == pytest.approx(sum(without) / (len(without) + 1))


def test_pending_episodes_make_the_page_say_that_it_is_provisional(tmp_path):
    folder = write_run(tmp_path / "run", [play(1)], pending=("concentration-8-0",))
    text = page_of(folder).text
    assert "1 pending" in text
    assert "every mean here is provisional" in text


def test_a_run_in_which_nothing_is_finished_has_a_page_too(tmp_path):
    folder = write_run(tmp_path / "run", [], pending=("concentration-8-0",))
    assert "1 episode is not finished" in page_of(folder).text
    with pytest.raises(UsageError, match="at least one run"):
        write_report([])


def test_hostile_text_from_world_model_and_config_is_only_text(tmp_path):
    hostile = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 7 * 7 }}"
    events = play(3)
    for place, event in enumerate(events):
        match event:
            case Observed():
                events[place] = msgspec.structs.replace(event, observation=hostile)
            case Committed():
                events[place] = msgspec.structs.replace(event, action=event.action + hostile)
            case OpDone() if event.result.lines:
                text = event.result.text.replace(" ", hostile)
                result = msgspec.structs.replace(event.result, text=text)
                events[place] = msgspec.structs.replace(event, result=result)
    events.insert(5, Failed(0, hostile, hostile, True))
    folder = write_run(tmp_path / "run", [events], config=hostile)
    html = write_report([Arm(hostile, folder, hostile)], title=hostile, story=hostile).read_text()
    page = Page(html)
    assert not {"script", "img"} & set(page.tags)
    assert "&lt;script&gt;alert(1)" in html
    assert page.text.count("{{ 7 * 7 }}") > 4


def test_reference_points_stand_only_where_world_and_cap_agree(run, tmp_path):
    assert [r.value for r in references_for("crafter", 2000)] == [0.5136, 0.495, 0.55]
    assert references_for("crafter", 200) == []
    assert "random player" not in page_of(run, out=tmp_path / "a.html").text  # 40 steps, not 80
    beside = [Reference("concentration", "a rabbit", 0.2, "nowhere")]
    page = page_of(run, references=beside, out=tmp_path / "b.html")
    assert "a rabbit" in page.text


def test_long_episodes_are_drawn_in_bins(tmp_path):
    habits = Habits(searches=0)
    folder = write_run(tmp_path / "run", [play(3, cards=32, max_steps=2000, habits=habits)])
    (found,) = gather(Arm("x", folder)).strips
    assert found.steps > STRIP_BINS
    assert len(found.reached) == len(found.writes) == STRIP_BINS
    assert found.memory_bytes == sorted(found.memory_bytes)


def test_drawings_stay_inside_their_axes_and_never_say_nan():
    odd = Strip("e", 1, 0.0, 0, "cap", False, [0.0], [0], [0], [0])
    drawn = [
        interval_bar(Estimate(2.0, 1.0, (-1.0, 9.0), 3), 1.0, 0),
        interval_bar(Estimate(None, None, None, 0), 1.0, 0),
        interval_bar(Estimate(0.0, None, None, 1), nice_ceiling(0.0), 0),
        strip(odd, 1, 0, 0),
    ]
    for svg in drawn:
        assert "nan" not in svg
    for svg in (drawn[0], drawn[2]):
        found = re.findall(r'width="(-?[\d.]+)"|[MH](-?[\d.]+)', svg)
        numbers = [float(number) for pair in found for number in pair if number]
        assert numbers
        assert all(0 <= number <= 100 for number in numbers)
    points = re.findall(r'points="([^"]+)"', drawn[3])
    assert points
    for pair in " ".join(points).split():
        x, y = map(float, pair.split(","))
        assert 0 <= x <= 1000
        assert 0 <= y <= 64
    assert nice_ceiling(0.31) == 0.4
    assert nice_ceiling(264) == 300


def test_hardly_anything_is_not_drawn_as_half_of_the_axis(run):
    arm = gather(Arm("base", run))
    rare = Estimate(0.0002, 0.0002, (0.0, 0.0006), 50)
    metric = next(metric for metric in METRICS if metric.unit == "share")
    arm.metrics[metric.name] = rare
    part = WorldPart("toy", [(0, arm)], [], 1.0, [metric], [])
    assert report._metric_top(part, metric) == 0.05
    assert report._measure(rare, "share") == "< 0.1 %"


def test_a_replay_names_the_step_that_wrote_the_line_the_action_used():
    replay = find_replay(play(0))
    assert replay is not None
    assert replay.written_step < replay.step
    assert replay.action.split()[1] in replay.line
    assert replay.gain > 0
    assert len(replay.told()) == 4


def test_where_memory_never_paid_there_is_no_replay(tmp_path):
    never = Habits(writes=0, searches=0)
    assert find_replay(play(1, habits=never)) is None
    folder = write_run(tmp_path / "run", [play(1, habits=never)])
    assert find_replay_in([folder]) is None
    assert "A moment that needed memory" not in page_of(folder).text


def test_the_same_replay_is_found_in_events_and_in_tables(tmp_path):
    events = play(0)
    ours, theirs = find_replay(events), find_replay_in([write_run(tmp_path / "r", [events])])
    assert ours is not None
    assert theirs is not None
    assert msgspec.structs.replace(theirs, run="") == ours
