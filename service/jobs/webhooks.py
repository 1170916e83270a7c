"""Webhooks: a POST to the client when its job has come to an end (`X-Webhook-URL`).

Only to targets that the operator lists, only to public addresses unless the operator says otherwise, and always to the very address
that was checked. No redirect is followed. A body is signed with its time:

    X-AffectGAN-Signature: t=1700000000,v1=<hex of HMAC-SHA-256(secret, "1700000000." + body)>
"""

import asyncio
import hashlib
import hmac
import ipaddress
import logging
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_before_delay,
    wait_random_exponential,
)

from service.observability.metrics import Metrics
from service.problems import Problem, invalid

HEADER, SIGNATURE, DELIVERY = "X-Webhook-URL", "X-AffectGAN-Signature", "X-AffectGAN-Delivery"
CALL_SECONDS = 10.0
TOLERANCE_SECONDS = 300.0
PORTS = {"https": 443, "http": 80}
EMBEDDING = (
    ipaddress.ip_network("64:ff9b::/96"),
    ipaddress.ip_network("2002::/16"),
    ipaddress.ip_network("2001::/32"),
)
log = logging.getLogger(__name__)


class _Refused(Exception):
    """The target said no, or may not be called: trying again would not help."""


class _Unheard(Exception):
    """The target may hear the next call."""


@dataclass(frozen=True)
class Target:
    """A place that may be called."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, text: str) -> "Target":
        """`host`, `host:port`, `https://host:port` or `http://host:port`; without a scheme it is https. Raises ValueError."""
        url = urlsplit(text if "://" in text else f"https://{text}")
        if (
            url.scheme not in PORTS
            or not url.hostname
            or url.username
            or url.path.strip("/")
            or url.query
            or url.fragment
        ):
            raise ValueError(
                f"webhook target {text!r}: give host, host:port, or http://host:port for a place without TLS"
            )
        return cls(url.scheme, url.hostname, url.port or PORTS[url.scheme])


class Webhooks:
    """Calls targets: `async with Webhooks(...)`. Without a secret there are none."""

    def __init__(
        self,
        targets: Sequence[str],
        private_targets: Sequence[str],
        secret: str | None,
        metrics: Metrics,
        *,
        seconds: float,
    ) -> None:
        self.private = {Target.of(text) for text in private_targets}
        self.targets = {Target.of(text) for text in targets} | self.private
        if self.targets and not secret:
            raise ValueError(
                "webhook targets are listed, but AFFECTGAN_WEBHOOK_SECRET is missing: calls are signed with it"
            )
        self.secret, self.metrics, self.seconds = secret or "", metrics, seconds

    async def __aenter__(self) -> "Webhooks":
        self._public, self._private = (self._session(private=private) for private in (False, True))
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(self._public.close(), self._private.close())

    def check(self, url: str) -> str:
        """The URL, if it may be called. Raises Problem: 422."""
        try:
            target = _target(url)
        except ValueError as error:
            raise invalid(HEADER, url, str(error)) from None
        if not self.targets:
            raise invalid(HEADER, url, "this gateway calls nobody; ask for the job instead")
        if target not in self.targets:
            raise invalid(
                HEADER, url, "not a target that this gateway may call; its operator lists them"
            )
        if target not in self.private and _is_address(target.host) and not public(target.host):
            raise invalid(HEADER, url, "not a public address")
        return url

    async def call(self, url: str, body: bytes, delivery: str) -> bool:
        """Deliver, with waits that grow, for `seconds`. True when the target took it (2xx)."""
        tries = AsyncRetrying(
            retry=retry_if_exception_type(_Unheard),
            wait=wait_random_exponential(0.5, max=60),
            stop=stop_before_delay(self.seconds),
            reraise=True,
        )
        try:
            self.check(url)  # the operator may have changed the list since
            await tries(self._once, url, body, delivery)
        except (_Refused, _Unheard, Problem) as error:
            self.metrics.webhooks.labels("failed").inc()
            log.warning("the webhook of job %s is given up: %s", delivery[:6], error)
            return False
        self.metrics.webhooks.labels("delivered").inc()
        return True

    async def _once(self, url: str, body: bytes, delivery: str) -> None:
        session = self._private if _target(url) in self.private else self._public
        headers = {
            "Content-Type": "application/json",
            DELIVERY: delivery,
            SIGNATURE: sign(self.secret, body, int(time.time())),
        }
        try:
            async with session.post(
                url, data=body, headers=headers, allow_redirects=False
            ) as response:
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if any(isinstance(cause, _Refused) for cause in _causes(error)):
                raise _Refused("its name leads to an address that is not public") from error
            self.metrics.webhooks.labels("retried").inc()
            raise _Unheard(type(error).__name__) from error
        if 200 <= status < 300:
            return
        if status in (408, 425, 429) or status >= 500:
            self.metrics.webhooks.labels("retried").inc()
            raise _Unheard(f"it answered {status}")
        raise _Refused(f"it answered {status}")

    def _session(self, *, private: bool) -> aiohttp.ClientSession:
        resolver = ThreadedResolver() if private else _Public()
        connector = aiohttp.TCPConnector(
            resolver=resolver, use_dns_cache=False, limit=16, force_close=True
        )
        return aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(total=CALL_SECONDS), trust_env=False
        )


class _Public(AbstractResolver):
    """Resolves to public addresses only. The connection goes to what is returned here, so a name cannot change in between."""

    def __init__(self) -> None:
        self._inner = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        if not all(public(result["host"]) for result in found):
            raise OSError("resolves to an address that is not public") from _Refused(
                f"{host} resolves to an address that is not public"
            )
        return found

    async def close(self) -> None:
        await self._inner.close()


def public(address: str) -> bool:
    """Whether an IP address is one of the public Internet, and does not hold another one inside."""
    ip: Any = ipaddress.ip_address(address.split("%")[0])
    if ip.version == 6:
        ip = ip.ipv4_mapped or ip
    return bool(
        ip.is_global
        and not ip.is_multicast
        and not any(ip in network for network in EMBEDDING if network.version == ip.version)
    )


def sign(secret: str, body: bytes, seconds: int) -> str:
    """The signature header of a body sent at this Unix time."""
    return f"t={seconds},v1={_mac(secret, body, seconds)}"


def verify(
    secret: str,
    header: str,
    body: bytes,
    *,
    now: float | None = None,
    tolerance_seconds: float = TOLERANCE_SECONDS,
) -> bool:
    """What a receiver does: whether the body is from this gateway, and not an old one sent again."""
    fields = dict(part.partition("=")[::2] for part in header.split(","))
    if not fields.get("t", "").isdecimal():
        return False
    seconds = int(fields["t"])
    fresh = abs((time.time() if now is None else now) - seconds) <= tolerance_seconds
    return fresh and hmac.compare_digest(
        fields.get("v1", "").encode(), _mac(secret, body, seconds).encode()
    )


def _mac(secret: str, body: bytes, seconds: int) -> str:
    return hmac.new(secret.encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()


def _target(url: str) -> Target:
    """Where a URL leads. Raises ValueError."""
    parts = urlsplit(url)
    if (
        parts.scheme not in PORTS
        or not parts.hostname
        or parts.username is not None
        or parts.fragment
        or not url.isascii()
    ):
        raise ValueError("give an https URL without user and fragment")
    return Target(parts.scheme, parts.hostname, parts.port or PORTS[parts.scheme])


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
