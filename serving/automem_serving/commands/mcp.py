"""`automem mcp`: a memory directory for any agent that speaks the Model Context Protocol."""

import asyncio
import importlib.util
import sys
from pathlib import Path

from automem.commands.arguments import Parser
from automem.errors import UsageError


def main(argv: list[str]) -> int:
    """See the module's docstring."""
    parser = Parser(
        "mcp",
        "Serve a memory directory over MCP: on standard input and output, or with --http on a port "
        "of this machine. Another program starts it, as docs/mcp.md shows.",
        [
            "automem mcp ~/memory                  # what a client's configuration starts",
            "automem mcp ~/memory --http           # http://127.0.0.1:8710/mcp",
            "automem mcp RUN/episodes/EPISODE/memory    # an episode's: for reading only",
        ],
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="made where it is missing")
    parser.add_argument("--read-only", action="store_true", help="offer no tool that writes")
    parser.add_argument("--http", action="store_true", help="instead of standard input and output")
    parser.add_argument("--host", default="127.0.0.1", help="loopback only")
    parser.add_argument("--port", type=int, default=8710)
    options = parser.parse_args(argv)
    if importlib.util.find_spec("mcp") is None:
        raise UsageError("the package `mcp` is not installed: pip install 'automem[mcp]'")

    from automem_serving.mcp_server import MCP_PATH, serve_http, serve_stdio
    from automem_serving.memory_folder import MemoryFolder

    folder = MemoryFolder(options.folder.expanduser(), is_read_only=options.read_only)
    how = "for reading only" if folder.is_read_only else "for reading and writing"
    where = f"http://{options.host}:{options.port}{MCP_PATH}" if options.http else "stdio"
    print(f"memory: {options.folder} {how}, over {where}", file=sys.stderr, flush=True)
    if options.http:
        serve_http(folder, options.host, options.port)
    else:
        asyncio.run(serve_stdio(folder))
    return 0
