"""`/v1/episodes`: the agent over HTTP."""

import asyncio
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import PlainTextResponse

from automem_serving.access import Caller
from automem_serving.acts import Act
from automem_serving.context import Context
from automem_serving.diffs import changed_files, unified_diff
from automem_serving.episodes import EpisodeState
from automem_serving.problems import ApiError, not_found
from automem_serving.schemas import (
    ActRequest,
    AnswerBody,
    DiffBody,
    EpisodeBody,
    EpisodeRequest,
    FileDiff,
    MemoryBody,
    MemoryFile,
    ToolAnswerBody,
    ToolRequest,
)

Key = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        max_length=200,
        pattern=r"^[\x21-\x7e]*$",
        description="a retry with the same key and body gets the same answer and changes nothing",
    ),
]
EpisodeId = Annotated[str, Path(max_length=64)]


def episode_routes(context: Context) -> APIRouter:
    """The routes over one replica's context."""
    router = APIRouter(prefix="/v1/episodes", tags=["episodes"])
    service, limits = context.episodes, context.spec.settings.limits

    def caller(request: Request) -> Caller:
        return context.access.admit(request.headers, "act")

    Acting = Annotated[Caller, Depends(caller)]

    @router.post("", status_code=201)
    async def create_episode(
        body: EpisodeRequest, who: Acting, response: Response, key: Key = ""
    ) -> EpisodeBody:
        """Make an episode: an agent with a memory directory of its own."""
        pinned, is_new = await service.create(who.tenant, body.wanted(), key)
        response.headers["Location"] = f"/v1/episodes/{pinned.started.episode}"
        response.headers["Idempotent-Replayed"] = "false" if is_new else "true"
        return _body(await service.state(who.tenant, pinned.started.episode))

    @router.get("")
    async def list_episodes(who: Acting) -> dict[str, list[str]]:
        """The ids of your episodes."""
        return {"data": await asyncio.to_thread(service.store.ids, who.tenant)}

    @router.get("/{episode}")
    async def get_episode(episode: EpisodeId, who: Acting) -> EpisodeBody:
        """How an episode stands."""
        return _body(await service.state(who.tenant, episode))

    @router.delete("/{episode}", status_code=204)
    async def delete_episode(episode: EpisodeId, who: Acting) -> Response:
        """Remove an episode, its memory and its trace, for good."""
        await service.delete(who.tenant, episode)
        return Response(status_code=204)

    @router.post("/{episode}/act")
    async def act(
        episode: EpisodeId, body: ActRequest, who: Acting, response: Response, key: Key = ""
    ) -> AnswerBody:
        """Tell what the world shows and how the last action came out; get the next action."""
        if len(body.observation) > limits.observation_chars:
            raise ApiError(
                413,
                "observation_too_long",
                f"an observation may have {limits.observation_chars} characters at most",
                "observation",
            )
        wanted = Act(body.observation, body.outcome.outcome(), key, body.step)
        answer, is_replayed = await service.act(who.tenant, episode, wanted)
        response.headers["Idempotent-Replayed"] = "true" if is_replayed else "false"
        response.headers["X-AutoMem-Version"] = answer.policy
        context.metrics.count_act(answer.policy, "replayed" if is_replayed else "new")
        if not is_replayed:
            usage = answer.usage
            context.metrics.count_tokens(
                "act", usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens
            )
        return AnswerBody(**msgspec.to_builtins(answer))

    @router.post("/{episode}/tools/memory")
    async def use_memory_tool(
        episode: EpisodeId, body: ToolRequest, who: Acting, response: Response, key: Key = ""
    ) -> ToolAnswerBody:
        """A command of the `memory_20250818` tool on the episode's memory, between two acts."""
        answer, is_replayed = await service.use_tool(
            who.tenant, episode, body.command_fields(), key
        )
        response.headers["Idempotent-Replayed"] = "true" if is_replayed else "false"
        return ToolAnswerBody(
            episode=episode,
            content=answer.text,
            is_error=answer.is_error,
            changed_files=list(answer.changed_files),
        )

    @router.get("/{episode}/memory")
    async def get_memory(episode: EpisodeId, who: Acting) -> MemoryBody:
        """The index of the memory directory."""
        view = await service.memory(who.tenant, episode)
        files = [
            MemoryFile(name=name, lines=len(text.splitlines()), bytes=len(text.encode()))
            for name, text in sorted(view.now.items())
        ]
        return MemoryBody(episode=episode, step=view.steps, files=files)

    @router.get("/{episode}/memory/{file:path}", response_class=PlainTextResponse)
    async def get_memory_file(episode: EpisodeId, file: str, who: Acting) -> PlainTextResponse:
        """One memory file's text."""
        view = await service.memory(who.tenant, episode)
        if file not in view.now:
            raise not_found("memory file")
        return PlainTextResponse(view.now[file])

    @router.get("/{episode}/diff")
    async def get_diff(
        episode: EpisodeId, who: Acting, since: Annotated[int | None, Query(ge=0)] = None
    ) -> DiffBody:
        """How memory changed since act `since` was answered; without it, since the beginning."""
        view = await service.memory(who.tenant, episode, since)

        def differences() -> list[FileDiff]:
            return [
                FileDiff(
                    file=name,
                    change=change,
                    diff=unified_diff(name, view.before.get(name, ""), view.now.get(name, "")),
                )
                for name, change in changed_files(view.before, view.now).items()
            ]

        files = await asyncio.to_thread(differences)
        return DiffBody(episode=episode, since=since, step=view.steps, files=files)

    return router


def _body(state: EpisodeState) -> EpisodeBody:
    started = state.pinned.started
    return EpisodeBody(
        id=started.episode,
        world=started.world,
        policy=started.policy,
        scaffold=state.pinned.scaffold,
        fallback_action=started.fallback_action,
        max_steps=started.max_steps,
        created=state.pinned.created,
        step=state.step,
        progression=state.progression,
        done=state.stop is not None,
        stop=state.stop,
        pending_key=state.pending_key,
    )
