"""Health, metrics and the administration of aliases."""

import asyncio
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from automem.errors import UsageError
from automem.registry import AliasMovedError
from automem_serving.access import Caller
from automem_serving.context import Context
from automem_serving.problems import ApiError, as_api_error
from automem_serving.schemas import PromoteRequest, RollbackRequest


def operation_routes(context: Context) -> APIRouter:
    """The routes over one replica's context. Health and metrics ask for no token: they say nothing
    of any tenant."""
    router = APIRouter(tags=["operations"])
    policies, registry = context.policies, context.registry

    def caller(request: Request) -> Caller:
        return context.access.admit(request.headers, "admin")

    Admin = Annotated[Caller, Depends(caller)]

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """This process answers."""
        return {"status": "ok", "replica": context.replica}

    @router.get("/readyz", responses={503: {"description": "Not yet.", "model": dict[str, Any]}})
    async def readyz() -> Response:
        """The model is loaded, the engine can answer now and `current` can be served."""
        status = "starting"
        if context.is_ready:
            status = "engine away" if (await context.health()).problem else "ready"
        body = {
            "status": status,
            "model": policies.model,
            "aliases": {alias: move.version for alias, move in policies.active.items()},
            "behind": sorted(policies.problems),
        }
        return JSONResponse(body, 200 if status == "ready" else 503)

    @router.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Prometheus."""
        aliases = {name: (move.version, move.revision) for name, move in policies.active.items()}
        health = await context.health()
        page = context.metrics.page(
            context.episodes.loaded, aliases, len(policies.problems), health.waiting, health.running
        )
        return Response(page, media_type=CONTENT_TYPE_LATEST)

    @router.get("/v1/admin/aliases")
    async def get_aliases(who: Admin) -> dict[str, Any]:
        """Where the registry has the aliases, where this replica has them, and every move."""
        moves = await asyncio.to_thread(registry.moves)
        return {
            "registry": msgspec.to_builtins(await asyncio.to_thread(registry.aliases)),
            "replica": msgspec.to_builtins(policies.active),
            "problems": policies.problems,
            "moves": msgspec.to_builtins(moves),
        }

    @router.get("/v1/admin/versions")
    async def get_versions(who: Admin) -> dict[str, Any]:
        """Every published policy version."""
        return {"data": msgspec.to_builtins(list(registry.versions().values()))}

    @router.post("/v1/admin/aliases/{alias}")
    async def promote(alias: str, body: PromoteRequest, who: Admin) -> dict[str, Any]:
        """Let an alias name a version; 409 where it is not at `expected_revision`. The adapter is
        loaded here first, so a version that cannot be served is refused with 422."""
        version = registry.version(body.version)
        await policies.load(version)
        moved = await asyncio.to_thread(
            registry.promote, version.name, alias, body.share, body.expected_revision, who.signature
        )
        await policies.refresh()
        return dict(msgspec.to_builtins(moved))

    @router.post("/v1/admin/aliases/{alias}/rollback")
    async def rollback(alias: str, body: RollbackRequest, who: Admin) -> dict[str, Any]:
        """Undo the newest promotion of an alias."""
        try:
            moved = await asyncio.to_thread(
                registry.rollback, alias, body.expected_revision, who.signature
            )
        except AliasMovedError as error:
            raise as_api_error(error) from error
        except UsageError as error:
            raise ApiError(409, "nothing_to_undo", str(error)) from error
        await policies.refresh()
        return dict(msgspec.to_builtins(moved))

    return router
