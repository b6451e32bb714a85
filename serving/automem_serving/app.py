"""The ASGI application of one replica: its routes behind a gate, errors in one shape.

`build_app(context)` is all there is to a server: Ray Serve runs it in each replica, tests call it
directly. Coming up loads the model; going down lets acts under way finish.
"""

import importlib.metadata
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException

from automem.errors import AutoMemError
from automem_serving.context import Context
from automem_serving.episode_routes import episode_routes
from automem_serving.gate import Gate
from automem_serving.model_routes import model_routes
from automem_serving.operation_routes import operation_routes
from automem_serving.problems import as_api_error, error_body
from automem_serving.scaffold_routes import scaffold_routes
from automem_serving.schemas import PROBLEMS

_HTTP_CODES = {400: "invalid_request", 404: "not_found", 405: "method_not_allowed"}
_log = logging.getLogger("automem.serving")
DESCRIPTION = """The current policy over HTTP: OpenAI-compatible completions, and the agent with its
memory directory as episodes. Give `Authorization: Bearer automem_...` where the server asks for it.
"""


def build_app(context: Context) -> FastAPI:
    """The application over one replica's context, which it starts and stops."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await context.start()
        try:
            yield
        finally:
            await context.stop()

    app = FastAPI(
        title="AutoMem",
        version=importlib.metadata.version("automem"),
        description=DESCRIPTION,
        openapi_url="/openapi",
        docs_url="/docs",
        redoc_url=None,
        responses=PROBLEMS,
        lifespan=lifespan,
    )
    bearer = Depends(HTTPBearer(auto_error=False, description="automem_..., of `automem token`"))
    app.include_router(model_routes(context), dependencies=[bearer])
    app.include_router(episode_routes(context), dependencies=[bearer])
    app.include_router(scaffold_routes(context), dependencies=[bearer])
    app.include_router(operation_routes(context))
    app.add_exception_handler(AutoMemError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_error)
    settings = context.spec.settings
    app.add_middleware(
        Gate,
        limits=settings.limits,
        metrics=context.metrics,
        loopback_only=settings.auth == "none",
    )
    return app


async def _on_error(request: Request, error: Exception) -> JSONResponse:
    request_id = getattr(request.state, "request_id", "")
    problem = as_api_error(error, request_id)
    if problem.status >= 500:
        where = f"request {request_id}: {request.method} {request.url.path}"
        _log.error("%s: %r", where, error, exc_info=error)
    response = problem.response()
    response.headers["x-request-id"] = request_id  # a 500 is answered outside the gate
    return response


async def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    """What FastAPI found wrong with a request, in one sentence; values are not repeated."""
    assert isinstance(error, RequestValidationError)
    found = [
        f"{'.'.join(str(part) for part in one['loc'][1:]) or one['loc'][0]}: {one['msg']}"
        for one in error.errors()[:5]
    ]
    return JSONResponse(error_body(422, "invalid_request", "; ".join(found)), 422)


async def _on_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = _HTTP_CODES.get(error.status_code, "http_error")
    body = error_body(error.status_code, code, str(error.detail))
    return JSONResponse(body, error.status_code, error.headers)
