"""What crosses between a worker's process and the engine's: calls, answers, and exceptions, which
come out as they went in."""

import pickle

import msgspec
from ray.exceptions import RayError

from automem.engine.protocol import Completion, GenerateRequest
from automem.errors import AutoMemError, EngineError


class Call(msgspec.Struct, array_like=True):
    """A worker's call, by a number that it never uses again."""

    number: int
    request: GenerateRequest
    is_streamed: bool = False


class Batch(msgspec.Struct, array_like=True):
    """What a worker asks in one tick of its event loop."""

    calls: list[Call]
    cancelled: list[int]
    adapters: dict[str, str]
    """Where the adapters that calls may name are: a replaced actor has to load them anew."""


class Answer(msgspec.Struct, array_like=True):
    """To one call."""

    number: int
    completion: Completion | None
    error: bytes = b""
    """The pickled exception where there is no completion."""
    tokens: tuple[int, ...] = ()
    """Of a streamed call that goes on."""


class News(msgspec.Struct, array_like=True):
    """What is ready for a worker."""

    answers: list[Answer]
    under_way: list[int] | None = None
    """All calls of the worker that go on; told at first, and where there is no answer to tell. What
    is neither here nor answered was lost with an earlier process."""


encode = msgspec.msgpack.Encoder().encode
decode_batch = msgspec.msgpack.Decoder(Batch).decode
decode_news = msgspec.msgpack.Decoder(News).decode


def pickled(error: Exception) -> bytes:
    """`error` as bytes; an EngineError with its words where it cannot be unpickled."""
    try:
        data = pickle.dumps(error)
        pickle.loads(data)
    except Exception:  # noqa: BLE001  anything may go wrong in another's exception
        return pickle.dumps(EngineError(f"{type(error).__name__}: {error}"))
    return data


def as_raised(error: RayError) -> Exception:
    """What the engine raised, without Ray's wrapping; EngineError where the actor is gone."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, AutoMemError):
        return cause
    return EngineError(f"the engine's actor failed: {error}")
