"""What is kept for stop texts."""

from automem.engine.render import load_tokenizer
from automem.engine.stops import Endings


def test_callers_stop_texts_are_not_kept_for_ever(tiny_model):
    endings = Endings(load_tokenizer(tiny_model), frozenset({2}))
    agents = endings.watch(("</log>",))
    for number in range(200):
        assert endings.watch((f"stop {number}",)) is not None
        assert endings.watch(("</log>",)) is agents  # what is in use stays prepared
    assert len(endings._watches) <= 32
