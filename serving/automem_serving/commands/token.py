"""`automem token`: make, list and revoke the bearer tokens of a server."""

import getpass
import os
import time
from pathlib import Path

from automem.commands.arguments import Parser
from automem.errors import UsageError
from automem_serving.access import SCOPES, Tokens
from automem_serving.context import TOKENS_FILE


def main(argv: list[str]) -> int:
    """See the module's docstring."""
    parser = Parser(
        "token",
        "Make a token for a tenant (shown once, stored as a hash); without TENANT: list them.",
        [
            "automem token ann                          # completions and episodes",
            "automem token ops --scopes admin",
            "automem token --revoke 1f2e3d4c",
        ],
    )
    parser.add_argument("tenant", nargs="?", metavar="TENANT")
    parser.add_argument("--scopes", default="complete,act", help=f"of {', '.join(SCOPES)}")
    parser.add_argument("--revoke", metavar="ID")
    parser.add_argument(
        "--dir", type=Path, default=Path("runs/serving"), help="the server's serving.dir"
    )
    options = parser.parse_args(argv)
    tokens = Tokens(options.dir.expanduser() / TOKENS_FILE)
    if options.revoke and options.tenant:
        raise UsageError("either make a token for TENANT or --revoke one, not both")
    if options.revoke:
        record = tokens.revoke(options.revoke, _me())
        print(f"revoked: {record.id} of {record.tenant}")
        return 0
    if options.tenant:
        token, record = tokens.issue(options.tenant, tuple(options.scopes.split(",")), _me())
        print(f"id {record.id}, tenant {record.tenant}, scopes {', '.join(record.scopes)}")
        print(token)
        return 0
    for record in tokens.all():
        state = ",".join(record.scopes)
        if record.is_revoked:
            state = f"revoked {_day(record.revoked)} by {record.by}"
        print(f"{record.id}  {_day(record.created)}  {record.tenant:<20}{state}")
    return 0


def _day(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))


def _me() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return f"uid {os.getuid()}"
