"""How an exception crosses from the engine's process to a worker's, and back into itself."""

import pickle

from ray.exceptions import RayError

from automem.errors import AutoMemError, EngineError


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
