"""A served policy behind a real socket, without Ray: for clients that are programs of their own."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from automem.engine.protocol import Engine
from automem_serving.app import build_app
from automem_serving.context import Context
from automem_serving.settings import ServedSpec


@contextmanager
def live(spec: ServedSpec, engine: Engine) -> Iterator[str]:
    """The address of a running replica on a free port of loopback."""
    config = uvicorn.Config(
        build_app(Context(spec, engine)), host="127.0.0.1", port=0, log_level="warning"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="live policy", daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + 240  # a model is loaded, perhaps on a busy machine
        while not server.started:
            assert thread.is_alive(), "the server did not start: its log says why"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=30)
        assert not thread.is_alive()
