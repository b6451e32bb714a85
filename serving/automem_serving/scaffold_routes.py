"""Scaffolds by name: those of the configuration, and those that an administrator has registered.

An upload is data: its templates are rendered in a process of their own (`automem.agent.rendering`),
and `hooks.py`, which is code, is not taken. What is registered never changes; the same name with
other content is a newer record, and episodes keep what they began with. The records, with who made
them, are the audit log.
"""

import asyncio
import tempfile
from pathlib import Path
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Request

from automem.agent.scaffold import HOOKS
from automem.agent.scaffold_files import NAMES, write_files
from automem.errors import ScaffoldError
from automem.registry import RegisteredScaffold, Registry
from automem_serving.access import Caller
from automem_serving.context import Context
from automem_serving.problems import ApiError
from automem_serving.schemas import ScaffoldRequest

_FOLDER = "upload"


def scaffold_routes(context: Context) -> APIRouter:
    """The routes over one replica's context."""
    router = APIRouter(tags=["scaffolds"])
    registry, configured = context.registry, context.spec.scaffolds

    def acting(request: Request) -> Caller:
        return context.access.admit(request.headers, "act")

    def admin(request: Request) -> Caller:
        return context.access.admit(request.headers, "admin")

    Acting = Annotated[Caller, Depends(acting)]
    Admin = Annotated[Caller, Depends(admin)]

    @router.get("/v1/scaffolds")
    async def list_scaffolds(who: Acting) -> dict[str, list[str]]:
        """The names that episodes may give as `scaffold`."""
        registered = await asyncio.to_thread(registry.scaffolds)
        return {"data": sorted({*configured, *registered})}

    @router.get("/v1/admin/scaffolds")
    async def get_scaffolds(who: Admin) -> dict[str, Any]:
        """What each registered name means, and who put it there."""
        registered = await asyncio.to_thread(registry.scaffolds)
        return {"data": msgspec.to_builtins(list(registered.values()))}

    @router.post("/v1/admin/scaffolds", status_code=201)
    async def register(body: ScaffoldRequest, who: Admin) -> dict[str, Any]:
        """Put a scaffold under a name; 422 where it cannot be used, in its own words."""
        if body.name in configured:
            raise ApiError(
                409, "name_taken", f"{body.name} is a scaffold of this server's configuration"
            )
        _check_names(body.files)
        made = await asyncio.to_thread(_register, registry, body, who.signature)
        return dict(msgspec.to_builtins(made))

    return router


def _check_names(files: dict[str, str]) -> None:
    if HOOKS in files:
        raise ApiError(
            422,
            "hooks_not_taken",
            f"{HOOKS} is code and is not taken over HTTP: name the scaffold's folder in the "
            "server's configuration (`scaffolds`)",
        )
    strange = sorted(files.keys() - set(NAMES))
    if strange:
        raise ApiError(
            422, "not_a_scaffold", f"{strange[0]!r} is no part of a scaffold: {', '.join(NAMES)}"
        )


def _register(registry: Registry, body: ScaffoldRequest, by: str) -> RegisteredScaffold:
    with tempfile.TemporaryDirectory(prefix="automem-scaffold-") as folder:
        source = Path(folder) / _FOLDER
        write_files(body.files, source)
        try:
            return registry.register_scaffold(body.name, source, by)
        except ScaffoldError as error:
            said = str(error).replace(f"{source}/", "").replace(str(source), body.name)
            raise ApiError(422, "scaffold_failed", said, "files") from error
