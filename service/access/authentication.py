"""Authentication: a request carries an API key or a token and is mapped to its principal. Without
keys and tokens the gateway is open.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from fastapi import Request

from affect.archive import OPERATIONS, Operation
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
    """`id` is the key of quotas and caches; it reveals nothing secret. `quota` None: the operator's
    default.
    """

    id: str
    scopes: frozenset[str]
    quota: Quota | None = None

    @property
    def owner(self) -> str:
        """The owner of jobs and Idempotency-Keys: "" for a principal that is known by an address
        only, which others may share; their jobs are open to anybody who knows the id.
        """
        return "" if self.id.startswith("at:") else self.id


class CredentialVerifier(Protocol):
    """For one kind of credential."""

    def recognises(self, credential: str) -> bool:
        """Whether it looks like one of this kind."""
        ...

    async def verify(self, credential: str) -> Principal:
        """The principal it belongs to. Raises InvalidCredential."""
        ...


class InvalidCredential(Exception):
    """An invalid credential; the text is for the client."""


class Authenticator:
    """Every kind of credential that is accepted."""

    def __init__(self, metrics: Metrics, *verifiers: CredentialVerifier) -> None:
        self.metrics, self.verifiers = metrics, verifiers
        if not verifiers:
            log.warning(
                "no API keys and no tokens are configured: the gateway is open to everyone who "
                "reaches it"
            )

    async def authenticate(
        self, request: Request[Any], operation: Operation | None = None
    ) -> Principal:
        """The principal of a request. Raises Problem: 401 without a valid credential, 403 without
        the scope of the operation, if there is one.
        """
        if not self.verifiers:
            address = request.client.host if request.client else "unknown"
            return Principal(f"at:{address}", frozenset(OPERATIONS))
        try:
            principal = await self._verified(extract_credential(request.headers))
            if operation is not None and operation not in principal.scopes:
                raise _forbidden(principal, operation)
        except Problem as problem:
            self.metrics.denied.labels(problem.status).inc()
            raise
        return principal

    async def _verified(self, credential: str) -> Principal:
        for verifier in self.verifiers:
            if verifier.recognises(credential):
                try:
                    return await verifier.verify(credential)
                except InvalidCredential as error:
                    raise _unauthorized(str(error)) from None
        raise _unauthorized("not a key or token of this gateway")


def extract_credential(headers: Mapping[str, str]) -> str:
    """The credential of a request. Raises Problem when there is none, or two that differ."""
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    if scheme and scheme.lower() != "bearer":
        raise _unauthorized("the authorization scheme is not Bearer")
    credentials = {
        credential
        for credential in (bearer.strip(), headers.get("x-api-key", "").strip())
        if credential
    }
    if not credentials:
        raise Problem(
            "unauthorized",
            "send an API key: `Authorization: Bearer KEY` or `X-API-Key: KEY`",
            headers={"WWW-Authenticate": "Bearer"},
        )
    if len(credentials) > 1:
        raise _unauthorized("Authorization and X-API-Key differ; send one")
    return credentials.pop()


def _unauthorized(detail: str) -> Problem:
    """401. The credential itself is never repeated."""
    return Problem(
        "unauthorized", detail, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'}
    )


def _forbidden(principal: Principal, scope: str) -> Problem:
    """403, naming the scope that is missing."""
    scopes = ", ".join(sorted(principal.scopes)) or "none"
    headers = {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'}
    return Problem(
        "forbidden", f"this needs the scope {scope!r}; yours are: {scopes}", headers=headers
    )
