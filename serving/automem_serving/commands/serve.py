"""`automem serve`: the policy over HTTP until Ctrl-C."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from automem.commands.arguments import Parser


def main(argv: list[str]) -> int:
    """See the module's docstring."""
    parser = Parser(
        "serve",
        "Serve the current policy over HTTP: OpenAI-compatible completions, and the agent with "
        "its memory as /v1/episodes.",
        [
            "automem serve                                    # the small model, on this machine",
            "automem serve engine.model=Qwen/Qwen2.5-7B-Instruct serving.port=8080",
            "automem serve serving=shared                     # tokens, every address, replicas",
            "automem serve serving.replicas.count=2 --show    # print the configuration and stop",
            "automem ask 'Where is card 05?'                  # in another terminal",
        ],
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="conf/serve.yaml")
    parser.add_argument("--config-dir", metavar="DIR", help="your own tree, searched first")
    parser.add_argument("--show", action="store_true", help="print the configuration and stop")
    options = parser.parse_intermixed_args(argv)

    from omegaconf import OmegaConf

    from automem.config import compose
    from automem_serving.configured import served_spec

    config = compose("serve", options.overrides, options.config_dir)
    if options.show:
        print(OmegaConf.to_yaml(config, resolve=True), end="")
        return 0
    spec = served_spec(config, options.config_dir)

    from automem.rollout.ray_local import connected
    from automem_serving.deployment import serving

    print(f"starting {config.engine.name} and Ray Serve ...", flush=True)
    with connected(), _until_told() as told, serving(spec) as url:
        told.is_ready = True
        print(f"serving: {url}   (page: {url}/docs, metrics: {url}/metrics)")
        if spec.settings.auth == "none":
            print(
                "auth:    none. Everybody on this machine may use it; it listens on loopback only"
            )
        else:
            print("auth:    tokens; make one with `automem token TENANT`")
        print(f"next:    automem ask --url {url} 'hello'      Ctrl-C stops", flush=True)
        told.to_stop.wait()
        print("stopping: acts under way are finished first", flush=True)
    return 0


class _Told:
    """Ctrl-C and SIGTERM: they break off what comes up, and end what is up in peace."""

    def __init__(self) -> None:
        self.to_stop = threading.Event()
        self.is_ready = False

    def __call__(self, *_: object) -> None:
        is_first = not self.to_stop.is_set()
        self.to_stop.set()
        if is_first and not self.is_ready:
            raise KeyboardInterrupt


@contextmanager
def _until_told() -> Iterator[_Told]:
    """To be entered when Ray is up, which takes SIGTERM for itself while it comes up."""
    told = _Told()
    before = {number: signal.signal(number, told) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
