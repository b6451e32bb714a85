"""Who may do what: bearer tokens, scopes, and each tenant's rate.

A token is 256 random bits, so a plain SHA-256 of it is kept at rest and the token itself nowhere.
Records are append-only; revoking is one more record. Scopes: `complete` (chat completions), `act`
(episodes), `admin` (aliases). Promise: a replica sees a new or a revoked token at its next request.
Not covered: rates over all replicas together; each counts for itself.
"""

import hashlib
import secrets
import time
from pathlib import Path
from typing import Any

import msgspec

from automem.errors import UsageError
from automem.loops.records import Records
from automem_serving.problems import ApiError
from automem_serving.store import is_tenant

SCOPES = ("complete", "act", "admin")
LOCAL = "local"
"""The tenant of everybody, where there is no authentication."""
_PREFIX = "automem_"


class TokenRecord(msgspec.Struct, frozen=True):
    """One line of `tokens.jsonl`."""

    id: str
    digest: str
    """SHA-256 of the token, in hex."""
    tenant: str
    scopes: tuple[str, ...]
    created: float
    is_revoked: bool = False
    revoked: float = 0.0
    """When; 0 while it is worth something."""
    by: str = ""
    """Who wrote this line: who made the token, or who revoked it."""


class Caller(msgspec.Struct, frozen=True):
    """Who is calling."""

    tenant: str
    scopes: tuple[str, ...]
    token: str = ""
    """Id of the token, for the audit log."""

    @property
    def signature(self) -> str:
        """How the audit log names the caller."""
        return f"{self.tenant}/{self.token}" if self.token else self.tenant


class Tokens:
    """The tokens in one file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._records = Records(path, TokenRecord)
        self._stamp: tuple[int, int, int] | None = None
        self._by_digest: dict[str, TokenRecord] = {}

    def issue(self, tenant: str, scopes: tuple[str, ...], by: str = "") -> tuple[str, TokenRecord]:
        """A new token (shown once, kept nowhere) and its record."""
        if not is_tenant(tenant):
            raise UsageError(
                f"a tenant cannot be called {tenant!r}: expected at most 32 lower-case letters, "
                "digits and -"
            )
        unknown = [scope for scope in scopes if scope not in SCOPES]
        if unknown or not scopes:
            raise UsageError(
                f"no scope {', '.join(unknown) or 'given'}; there are {', '.join(SCOPES)}"
            )
        token = _PREFIX + secrets.token_urlsafe(32)
        record = TokenRecord(
            secrets.token_hex(4), _digest(token), tenant, tuple(scopes), time.time(), by=by
        )
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._records.append(record)
        self._path.chmod(0o600)
        return token, record

    def revoke(self, token_id: str, by: str = "") -> TokenRecord:
        """Make a token worthless. UsageError where there is none of this id."""

        def mark(known: list[TokenRecord]) -> TokenRecord:
            newest = {record.id: record for record in known}
            if token_id not in newest:
                raise UsageError(f"no token has the id {token_id!r}; `automem token` lists them")
            if newest[token_id].is_revoked:
                return newest[token_id]
            return msgspec.structs.replace(
                newest[token_id], is_revoked=True, revoked=time.time(), by=by
            )

        return self._records.append_after(mark)

    def all(self) -> list[TokenRecord]:
        """Every token's newest record."""
        return list({record.id: record for record in self._records.all()}.values())

    def caller(self, token: str) -> Caller | None:
        """Whose token this is; None where it is nobody's."""
        self._read_again()
        record = self._by_digest.get(_digest(token))
        if record is None or record.is_revoked:
            return None
        return Caller(record.tenant, record.scopes, record.id)

    def _read_again(self) -> None:
        try:
            status = self._path.stat()
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        except FileNotFoundError:
            stamp = (0, 0, 0)
        if stamp != self._stamp:
            self._by_digest = {record.digest: record for record in self.all()}
            self._stamp = stamp


class Rates:
    """A token bucket per tenant."""

    def __init__(self, per_s: float, burst: int) -> None:
        self._per_s = per_s
        self._burst = burst
        self._left: dict[str, tuple[float, float]] = {}
        """Tenant to (requests left, when)."""

    def take(self, tenant: str, now: float | None = None) -> None:
        """Count one request; 429 where the tenant has none left."""
        now = time.monotonic() if now is None else now
        left, since = self._left.get(tenant, (float(self._burst), now))
        left = min(float(self._burst), left + (now - since) * self._per_s)
        if left < 1.0:
            self._left[tenant] = (left, now)
            wait_s = (1.0 - left) / self._per_s
            raise ApiError(
                429,
                "rate_limited",
                f"more than {self._per_s:g} requests/s; slow down",
                headers={"Retry-After": str(max(1, round(wait_s)))},
            )
        self._left[tenant] = (left - 1.0, now)


class Access:
    """Decides about each request."""

    def __init__(self, tokens: Tokens | None, rates: Rates) -> None:
        """`tokens` None: no authentication."""
        self._tokens = tokens
        self._rates = rates

    def admit(self, headers: Any, scope: str) -> Caller:
        """Who is calling; 401, 403 or 429 where they may not."""
        caller = self._identify(headers.get("authorization", ""))
        self._rates.take(caller.tenant)
        if scope not in caller.scopes:
            raise ApiError(403, "missing_scope", f"this token does not have the scope {scope!r}")
        return caller

    def _identify(self, authorization: str) -> Caller:
        if self._tokens is None:
            return Caller(LOCAL, SCOPES)
        kind, _, token = authorization.partition(" ")
        caller = self._tokens.caller(token.strip()) if kind.lower() == "bearer" else None
        if caller is None:
            raise ApiError(
                401,
                "invalid_token",
                "a valid token is needed: `Authorization: Bearer automem_...`",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return caller


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
