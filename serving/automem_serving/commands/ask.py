"""`automem ask`: a small client of a server, with nothing but Python's own HTTP.

Promise: an act that failed is finished by the same command: it is sent under the key that it was
begun with. Not covered: an answer that was lost on its way to here; with `--key` that is got again.
"""

import http.client
import json
import os
import secrets
import urllib.error
import urllib.parse
import urllib.request
from argparse import Namespace
from typing import Any

from automem.commands.arguments import Parser
from automem.errors import AutoMemError, UsageError

TOKEN_VARIABLE = "AUTOMEM_TOKEN"
_TIMEOUT_S = 600.0
_MAY_BE_DONE = (0, 500, 502, 503, 504)
"""Statuses after which nobody knows whether the act was done; 0: no answer came."""


class ServerError(AutoMemError):
    """The server could not be reached, or refused."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status
        """Of the answer; 0 where none came."""


def main(argv: list[str]) -> int:
    """See the module's docstring."""
    parser = Parser(
        "ask",
        "Ask a server: one completion; or, as the world of an episode, for the next action.",
        [
            "automem ask 'Where is card 05?'",
            "automem ask --model v2 --max-tokens 20 'hello'",
            "automem ask --new 'Find the exit. Actions: north, south, east, west.'",
            "automem ask --episode ep-... 'a dark room, exits north and east'",
            "automem ask --episode ep-... --memory",
        ],
    )
    parser.add_argument("text", nargs="?", help="a question, or what the world shows")
    parser.add_argument("--url", default="http://127.0.0.1:8700", help="the server")
    parser.add_argument("--model", default="current", help="alias, version, adapter or base")
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--new", metavar="TASK", help="make an episode; prints its id")
    parser.add_argument("--episode", metavar="ID", help="act in this episode")
    parser.add_argument("--progression", type=float, default=0.0, help="what the task has reached")
    parser.add_argument("--final", action="store_true", help="the task is over: a last LOG")
    parser.add_argument("--memory", action="store_true", help="print the episode's memory")
    parser.add_argument("--key", help="of --new or an act: the same key and text is done once")
    options = parser.parse_args(argv)
    if options.new:
        body = {"task": options.new, "policy": options.model}
        print(_call(options.url, "/v1/episodes", body, key=_new_key(options))["id"])
    elif options.episode and options.memory:
        _print_memory(options)
    elif options.text is None:
        raise UsageError("what to ask? automem ask TEXT; see automem ask --help")
    elif options.episode:
        _act(options)
    else:
        _complete(options)
    return 0


def _complete(options: Namespace) -> None:
    body = {
        "model": options.model,
        "messages": [{"role": "user", "content": options.text}],
        "max_tokens": options.max_tokens,
    }
    answer = _call(options.url, "/v1/chat/completions", body)
    print(answer["choices"][0]["message"]["content"])


def _act(options: Namespace) -> None:
    outcome = {"progression": options.progression, "terminated": options.final}
    body = {"observation": options.text, "outcome": outcome}
    key, hint = _new_key(options), ""
    if options.key is None:
        state = _call(options.url, _path(options), session=options.episode)
        body["step"] = state["step"]
        if state["pending_key"] is not None:
            key = state["pending_key"]
            hint = f"; act {state['step']} was begun and not finished: it needs the same text again"
    try:
        answer = _call(options.url, f"{_path(options)}/act", body, options.episode, key)
    except ServerError as error:
        if error.status not in _MAY_BE_DONE:
            raise ServerError(f"{error}{hint}", error.status) from error
        again = f" --key {key}" if key else ""
        raise ServerError(f"{error}; again, without acting twice: the same{again}") from error
    for operation in answer["operations"]:
        words = " ".join(str(value) for value in operation["arguments"].values())
        print(f"  {operation['routine']:<5}{operation['op']} {words}  →  {operation['result']}")
    print(answer["action"] if not answer["done"] else f"over: {answer['stop']}")


def _print_memory(options: Namespace) -> None:
    for change in _call(options.url, f"{_path(options)}/diff")["files"]:
        print(change["diff"])


def _path(options: Namespace) -> str:
    return f"/v1/episodes/{urllib.parse.quote(options.episode, safe='')}"


def _new_key(options: Namespace) -> str:
    if options.key is None:
        return secrets.token_hex(12)
    if not options.key.isascii() or not options.key.isprintable() or " " in options.key:
        raise UsageError(f"--key is of printable ASCII without blanks, got {options.key!r}")
    return str(options.key)


def _call(
    url: str, path: str, body: dict[str, Any] | None = None, session: str = "", key: str = ""
) -> dict[str, Any]:
    """One call; ServerError where it is not answered with what was asked for."""
    headers = {"Content-Type": "application/json"}
    if token := os.environ.get(TOKEN_VARIABLE):
        headers["Authorization"] = f"Bearer {token}"
    if session:
        headers["x-session-id"] = urllib.parse.quote(session, safe="")
    if key:
        headers["Idempotency-Key"] = key
    data = None if body is None else json.dumps(body).encode()
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"--url must start with http:// or https://, got {url!r}")
    request = urllib.request.Request(url.rstrip("/") + path, data=data, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
            answer: dict[str, Any] = json.load(response)
            return answer
    except urllib.error.HTTPError as error:
        raise ServerError(f"{url}: {_reason(error)}", error.code) from error
    except http.client.InvalidURL as error:
        raise UsageError(f"--url {url!r} is none: {error}") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise ServerError(
            f"no server answers at {url} ({reason}): start one with `automem serve`, or give --url"
        ) from error
    except ValueError as error:
        raise ServerError(f"{url} answers, but not in JSON: is it `automem serve`?") from error


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        message = str(json.load(error)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = error.reason
    hint = f" (set {TOKEN_VARIABLE})" if error.code == 401 else ""
    return f"{error.code}: {message}{hint}"
