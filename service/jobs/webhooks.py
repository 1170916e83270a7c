"""Webhooks: a POST to the client when its job has come to an end (`X-Webhook-URL`).

Where they may go: service/jobs/webhook_targets.py. No redirect is followed. Calls are signed as
Standard Webhooks (standardwebhooks.com) say, so that receivers verify them with a library of that
name: headers webhook-id, webhook-timestamp and webhook-signature.
"""

import asyncio
import base64
import binascii
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Self

import aiohttp
from aiohttp.resolver import ThreadedResolver
from standardwebhooks import Webhook
from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_before_delay,
    wait_random_exponential,
)

from service.jobs.webhook_targets import PublicResolver, Target, caused_by_address
from service.observability.metrics import Metrics
from service.problems import Problem, invalid

HEADER = "X-Webhook-URL"
ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
REQUEST_SECONDS = 10.0
CONNECTIONS = 16
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 60.0
RETRIED_STATUSES = (408, 425, 429)  # beside those from 500 on
SECRET_PREFIX, SECRET_BYTES = "whsec_", range(24, 65)  # as the standard has them
log = logging.getLogger(__name__)


class _Rejected(Exception):
    """The target refused, or may not be called: trying again would not help."""


class _NotDelivered(Exception):
    """The target did not answer well: the call may be repeated."""


class Webhooks:
    """Calls targets: `async with Webhooks(...)`. Without a secret there are none.

    Raises ValueError for a target or a secret that cannot be used.
    """

    def __init__(
        self,
        targets: Sequence[str],
        private_targets: Sequence[str],
        secret: str | None,
        metrics: Metrics,
        *,
        seconds: float,
    ) -> None:
        self.private = {Target.parse(text) for text in private_targets}
        self.targets = {Target.parse(text) for text in targets} | self.private
        if self.targets and not secret:
            raise ValueError(
                "webhook targets are listed, but AFFECTGAN_WEBHOOK_SECRET is missing: "
                "calls are signed with it"
            )
        self._signer = Webhook(_secret_bytes(secret)) if secret else None
        self.metrics, self.seconds = metrics, seconds

    async def __aenter__(self) -> Self:
        self._public_session = _session(PublicResolver())
        self._private_session = _session(ThreadedResolver())
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(self._public_session.close(), self._private_session.close())

    def check(self, url: str) -> str:
        """The URL, if it may be called. Raises Problem: 422."""
        try:
            target = Target.of_url(url)
        except ValueError as error:
            raise invalid(HEADER, url, str(error)) from None
        if not self.targets:
            raise invalid(HEADER, url, "this gateway calls nobody; ask for the job instead")
        if target not in self.targets:
            raise invalid(
                HEADER, url, "not a target that this gateway may call; its operator lists them"
            )
        if target not in self.private and target.names_private_address:
            raise invalid(HEADER, url, "not a public address")
        return url

    async def deliver(self, url: str, body: bytes, message_id: str) -> bool:
        """With growing waits, for `seconds`. True when the target took it (2xx)."""
        attempts = AsyncRetrying(
            retry=retry_if_exception_type(_NotDelivered),
            wait=wait_random_exponential(FIRST_WAIT_SECONDS, max=LONGEST_WAIT_SECONDS),
            stop=stop_before_delay(self.seconds),
            reraise=True,
        )
        try:
            self.check(url)  # the operator may have changed the list since
            await attempts(self._attempt, url, body, message_id)
        except (_Rejected, _NotDelivered, Problem) as error:
            self.metrics.webhooks.labels("failed").inc()
            log.warning("the webhook of job %s is given up: %s", message_id[:6], error)
            return False
        self.metrics.webhooks.labels("delivered").inc()
        return True

    async def _attempt(self, url: str, body: bytes, message_id: str) -> None:
        private = Target.of_url(url) in self.private
        session = self._private_session if private else self._public_session
        headers = {"Content-Type": "application/json", **self._signed(body, message_id)}
        try:
            async with session.post(
                url, data=body, headers=headers, allow_redirects=False
            ) as response:
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if caused_by_address(error):
                raise _Rejected("its name leads to an address that is not public") from error
            self.metrics.webhooks.labels("retried").inc()
            raise _NotDelivered(type(error).__name__) from error
        if 200 <= status < 300:
            return
        if status in RETRIED_STATUSES or status >= 500:
            self.metrics.webhooks.labels("retried").inc()
            raise _NotDelivered(f"it answered {status}")
        raise _Rejected(f"it answered {status}")

    def _signed(self, body: bytes, message_id: str) -> dict[str, str]:
        """Headers that prove who sent this body, and when."""
        assert self._signer is not None
        now = datetime.now(UTC)
        signature = self._signer.sign(message_id, now, body.decode())
        return {ID: message_id, TIMESTAMP: str(int(now.timestamp())), SIGNATURE: signature}


def _session(resolver: PublicResolver | ThreadedResolver) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(
        resolver=resolver, use_dns_cache=False, limit=CONNECTIONS, force_close=True
    )
    timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
    return aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False)


def _secret_bytes(text: str) -> bytes:
    """The bytes of a secret. Raises ValueError, without the secret."""
    try:
        secret = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        secret = b""
    if len(secret) not in SECRET_BYTES:
        raise ValueError(
            "AFFECTGAN_WEBHOOK_SECRET is no secret of Standard Webhooks: give whsec_ and 24 to 64 "
            'random bytes in base64, such as `echo "whsec_$(openssl rand -base64 32)"` prints'
        )
    return secret
