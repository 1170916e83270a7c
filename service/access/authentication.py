"""Who may: a request shows an API key or a token, and gets the caller behind it. Without keys and tokens the gateway is open."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from fastapi import Request

from affect.archive import OPERATIONS
from service.observability.metrics import Metrics
from service.problems import Problem

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Quota:
    """Buckets of so much, refilled evenly within `seconds`. None: no limit."""

    requests: int | None = None
    images: int | None = None
    seconds: int = 60


@dataclass(frozen=True)
class Principal:
    """`id` is what is counted and cached under; it tells nothing secret. `quota` None: the operator's default."""

    id: str
    scopes: frozenset[str]
    quota: Quota | None = None

    @property
    def anonymous(self) -> bool:
        """Known by an address only, which others may share."""
        return self.id.startswith("at:")


class Credentials(Protocol):
    """One kind of credential."""

    def knows(self, credential: str) -> bool:
        """Whether it looks like one of this kind."""
        ...

    async def principal(self, credential: str) -> Principal:
        """Who it belongs to. Raises InvalidCredential."""
        ...


class InvalidCredential(Exception):
    """A credential that is worth nothing; the words are for the client."""


class Authenticator:
    """All kinds of credentials that are taken."""

    def __init__(self, metrics: Metrics, *kinds: Credentials) -> None:
        self.metrics, self.kinds = metrics, kinds
        if not kinds:
            log.warning(
                "no API keys and no tokens are configured: the gateway is open to everyone who reaches it"
            )

    async def principal(self, request: Request, operation: str | None = None) -> Principal:
        """Who asks. Raises Problem: 401 without a valid credential, 403 without the scope of the operation, if there is one."""
        if not self.kinds:
            return Principal(
                f"at:{request.client.host if request.client else 'unknown'}", frozenset(OPERATIONS)
            )
        try:
            return await self._known(request, operation)
        except Problem as problem:
            self.metrics.denied.labels(problem.status).inc()
            raise

    async def _known(self, request: Request, operation: str | None) -> Principal:
        credential = shown(request.headers)
        kind = next((kind for kind in self.kinds if kind.knows(credential)), None)
        if kind is None:
            raise unauthorized("not a key or token of this gateway")
        try:
            principal = await kind.principal(credential)
        except InvalidCredential as refusal:
            raise unauthorized(str(refusal)) from None
        if operation is not None and operation not in principal.scopes:
            raise forbidden(principal, operation)
        return principal


def shown(headers: Mapping[str, str]) -> str:
    """The credential of a request. Raises Problem when there is none, or two that differ."""
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    if scheme and scheme.lower() != "bearer":
        raise unauthorized("the authorization scheme is not Bearer")
    given = {
        credential
        for credential in (bearer.strip(), headers.get("x-api-key", "").strip())
        if credential
    }
    if not given:
        raise Problem(
            "unauthorized",
            "send an API key: `Authorization: Bearer KEY` or `X-API-Key: KEY`",
            headers={"WWW-Authenticate": "Bearer"},
        )
    if len(given) > 1:
        raise unauthorized("Authorization and X-API-Key differ; send one")
    return given.pop()


def unauthorized(why: str) -> Problem:
    """401. The credential itself is never repeated."""
    return Problem(
        "unauthorized", why, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'}
    )


def forbidden(principal: Principal, scope: str) -> Problem:
    """403, naming the scope that is missing."""
    have = ", ".join(sorted(principal.scopes)) or "none"
    headers = {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'}
    return Problem(
        "forbidden", f"this needs the scope {scope!r}; yours are: {have}", headers=headers
    )
