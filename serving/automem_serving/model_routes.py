"""`/v1/models` and `/v1/chat/completions`, as OpenAI's clients expect them."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from automem.engine.protocol import Completion, GenerateRequest
from automem_serving.access import Caller
from automem_serving.context import Context
from automem_serving.policies import Target
from automem_serving.problems import not_found
from automem_serving.schemas import ChatRequest

_ANSWERS = {
    "description": "A completion; with `stream`, its chunks as server-sent events.",
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
}


def model_routes(context: Context) -> APIRouter:
    """The routes over one replica's context."""
    router = APIRouter(prefix="/v1", tags=["models"])
    chat, policies, metrics = context.chat, context.policies, context.metrics

    def caller(request: Request) -> Caller:
        return context.access.admit(request.headers, "complete")

    Completing = Annotated[Caller, Depends(caller)]

    def described(name: str) -> dict[str, Any]:
        move = policies.active.get(name)
        extra = {"version": move.version, "share": move.share} if move else {}
        return {"id": name, "object": "model", "created": 0, "owned_by": "automem"} | extra

    @router.get("/models")
    async def list_models(who: Completing) -> dict[str, Any]:
        """Base model, aliases, policy versions and adapters: every name that `model` may have."""
        return {"object": "list", "data": [described(name) for name in policies.names()]}

    @router.get("/models/{name:path}")
    async def get_model(name: str, who: Completing) -> dict[str, Any]:
        """One of them."""
        if name not in policies.names():
            raise not_found("model")
        return described(name)

    @router.post("/chat/completions", responses={200: _ANSWERS})
    async def chat_completions(body: ChatRequest, who: Completing) -> Response:
        """A completion by the base model, an alias, a policy version or an adapter."""
        target, request = await chat.prepare(body, who.tenant)
        headers = {"X-AutoMem-Version": target.version}
        if not body.stream:
            answer = await chat.complete(target, request)
            usage = answer["usage"]
            cached = usage["prompt_tokens_details"]["cached_tokens"]
            metrics.count_tokens("chat", usage["prompt_tokens"], cached, usage["completion_tokens"])
            return JSONResponse(answer, headers=headers)
        with_usage = body.stream_options is not None and body.stream_options.include_usage
        events = streamed(target, request, with_usage)
        return StreamingResponse(events, media_type="text/event-stream", headers=headers)

    async def streamed(
        target: Target, request: GenerateRequest, with_usage: bool
    ) -> AsyncIterator[str]:
        completion: Completion | None
        async for event, completion in chat.stream(target, request, with_usage):
            yield event
            if completion is not None:
                metrics.count_tokens(
                    "chat",
                    completion.prompt_tokens,
                    completion.cached_tokens,
                    completion.completion_tokens,
                )

    return router
