"""A memory directory as an MCP server, so that any agent can use it: over stdio or HTTP.

The protocol is the official `mcp` package's, in every version that it speaks. Over HTTP there is no
authentication: loopback only, and only requests that name a loopback host (the package checks it).
"""

import asyncio
import importlib.metadata
import socket
from typing import Any

from mcp.server.lowlevel.server import Server
from mcp.server.stdio import stdio_server
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
    ToolAnnotations,
)

from automem.errors import UsageError
from automem_serving.memory_folder import MemoryFolder, ToolDefinition
from automem_serving.settings import is_loopback

MCP_PATH = "/mcp"
_INSTRUCTIONS = (
    "A memory directory of text files that outlives this conversation. Look at it first (`list`, "
    "or `memory` with the command view), search rather than read whole files, and write down what "
    "a later conversation will need, on short lines of their own."
)


def memory_server(folder: MemoryFolder) -> Server[Any]:
    """The MCP server over one folder."""

    async def list_tools(context: Any, params: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(tools=[_tool(tool) for tool in folder.tools()])

    async def call_tool(context: Any, params: CallToolRequestParams) -> CallToolResult:
        result = await asyncio.to_thread(folder.call, params.name, params.arguments or {})
        return CallToolResult(content=[TextContent(text=result.text)], is_error=result.is_error)

    return Server(
        "automem-memory",
        version=importlib.metadata.version("automem"),
        instructions=_INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


async def serve_stdio(folder: MemoryFolder) -> None:
    """Answer on standard input and output until the client closes them."""
    server = memory_server(folder)
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())


def serve_http(folder: MemoryFolder, host: str, port: int) -> None:
    """Answer at `http://host:port/mcp` until Ctrl-C. UsageError where the port cannot be had."""
    import uvicorn

    if not is_loopback(host):
        raise UsageError(f"--host {host}: there is no authentication here, so loopback only")
    app = memory_server(folder).streamable_http_app(
        streamable_http_path=MCP_PATH, stateless_http=True, host=host
    )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
        except OSError as error:
            raise UsageError(
                f"--port {port} on {host} cannot be had ({error.strerror}): choose another"
            ) from error
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5)
        uvicorn.Server(config).run(sockets=[listening])


def _tool(tool: ToolDefinition) -> Tool:
    return Tool(
        name=tool.name,
        description=tool.description,
        input_schema=tool.schema,
        annotations=ToolAnnotations(read_only_hint=tool.is_reading, open_world_hint=False),
    )
