"""Ctrl-C: once to stop in order, twice to stop at once."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Whether somebody asked the run to stop: a signal, or the caller by `also`."""

    def __init__(self, also: Callable[[], bool] | None = None) -> None:
        self.is_set = False
        self._also = also

    def __call__(self) -> bool:
        return self.is_set or (self._also is not None and self._also())


@contextmanager
def stop_on_signal(request: StopRequest) -> Iterator[None]:
    """SIGINT or SIGTERM sets the request; a second one raises KeyboardInterrupt. Outside of the
    main thread, where Python allows no handlers, the request is never set."""

    def ask(number: int, frame: FrameType | None) -> None:
        if request.is_set:
            raise KeyboardInterrupt
        request.is_set = True

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, ask) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
