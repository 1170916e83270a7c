"""Rate limits of a caller: requests and images, each a bucket that refills evenly (GCRA: one number
a bucket, when it is full again).

With Redis the buckets are shared by all gateways and both are checked in one script; without, or
while Redis fails, each gateway keeps its own. The headers are those of the IETF draft "RateLimit
header fields for HTTP".
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cachetools import LRUCache
from fastapi import Request

from service.access.authentication import Principal, Quota
from service.observability.metrics import Metrics
from service.problems import Problem
from service.settings import Settings
from service.storage.redis import Redis, RedisUnavailable

# of one gateway; the least recently used are dropped, which makes them full again
MOST_BUCKETS = 100_000

# KEYS: buckets. ARGV: quota, seconds, cost of each. Returns the microseconds until each can cover
# its cost (0: now) and until it is full. Nothing is taken unless all can cover their cost. Time is
# that of Redis.
SCRIPT = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local full, wait, short = {}, {}, false
for i, key in ipairs(KEYS) do
  local quota, window, cost = ARGV[3*i-2], ARGV[3*i-1] * 1000000, ARGV[3*i]
  local at = math.max(now, tonumber(redis.call('GET', key) or '0') or 0)
  full[i] = math.min(at - now, window)
  wait[i] = math.max(0, math.ceil(full[i] + cost * window / quota - window))
  short = short or wait[i] > 0
end
local reply = {}
for i, key in ipairs(KEYS) do
  local quota, window, cost = ARGV[3*i-2], ARGV[3*i-1] * 1000000, ARGV[3*i]
  if not short then
    full[i] = math.ceil(full[i] + cost * window / quota)
    local keep = math.ceil(full[i] / 1000) + 1
    redis.call('SET', key, string.format('%.0f', now + full[i]), 'PX', keep)
  end
  reply[#reply+1] = wait[i]
  reply[#reply+1] = full[i]
end
return reply
"""


@dataclass(frozen=True)
class LimitRequest:
    """`cost` of one bucket's `quota` in `seconds`."""

    name: str
    quota: int
    seconds: int
    cost: int


@dataclass(frozen=True)
class BucketState:
    """A bucket after a request: seconds until it can cover the cost (0: taken), and until it is
    full.
    """

    wait_seconds: float
    full_seconds: float


class LocalBuckets:
    """The buckets of this gateway alone."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._full_at: LRUCache[tuple[str, str], float] = LRUCache(MOST_BUCKETS)

    def take(self, principal: str, limits: Sequence[LimitRequest]) -> list[BucketState]:
        """Take everything, or nothing."""
        now = self._clock()
        full = [
            min(max(0.0, self._full_at.get((principal, limit.name), 0.0) - now), limit.seconds)
            for limit in limits
        ]
        costs = [limit.cost * limit.seconds / limit.quota for limit in limits]
        wait = [
            max(0.0, level + cost - limit.seconds)
            for level, cost, limit in zip(full, costs, limits, strict=True)
        ]
        # A rounding error is no reason to refuse.
        wait = [0.0 if seconds < 1e-6 else seconds for seconds in wait]
        if not any(wait):
            full = [level + cost for level, cost in zip(full, costs, strict=True)]
            self._full_at.update(
                {
                    (principal, limit.name): now + level
                    for limit, level in zip(limits, full, strict=True)
                }
            )
        return [BucketState(*pair) for pair in zip(wait, full, strict=True)]


class SharedBuckets:
    """The buckets of all gateways at one Redis."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis

    async def take(self, principal: str, limits: Sequence[LimitRequest]) -> list[BucketState]:
        """Take everything, or nothing. Raises RedisUnavailable."""
        keys = [
            f"affectgan:quota:{{{principal}}}:{limit.name}:{limit.quota}:{limit.seconds}"
            for limit in limits
        ]
        numbers = [
            number for limit in limits for number in (limit.quota, limit.seconds, limit.cost)
        ]
        sent = self.redis.send(
            "EVAL", SCRIPT, len(keys), *keys, *numbers
        )  # by its hash: 47 us for 49, and lost when Redis restarts
        reply = await self.redis.receive("quota", sent)
        if not _is_possible(reply, limits):
            raise self.redis.failed("quota", "garbled")
        return [
            BucketState(wait / 1e6, full / 1e6)
            for wait, full in zip(reply[::2], reply[1::2], strict=True)
        ]


class RateLimiter:
    """The rate limits of all callers. `default` holds for callers without a quota of their own."""

    def __init__(
        self,
        default: Quota,
        metrics: Metrics,
        redis: Redis | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.default, self.metrics, self._clock = default, metrics, clock
        self.local = LocalBuckets(clock)
        self.shared = SharedBuckets(redis) if redis else None
        self._empty_until: LRUCache[str, float] = LRUCache(MOST_BUCKETS)

    def check_exhausted(self, principal: Principal) -> None:
        """Before a body is read: raises Problem for a caller who was refused and has not waited as
        long as the answer said.
        """
        seconds_left = self._empty_until.get(principal.id, 0.0) - self._clock()
        if seconds_left > 0:
            raise self._exceeded("requests", seconds_left)

    async def take(self, principal: Principal, images: int, request: Request[Any]) -> None:
        """One request with so many images. The answer will carry the RateLimit headers. Raises
        Problem: 413, 429.
        """
        quota = principal.quota or self.default
        costs = (("requests", quota.requests, 1), ("images", quota.images, images))
        limits = [
            LimitRequest(name, capacity, quota.seconds, cost)
            for name, capacity, cost in costs
            if capacity is not None
        ]
        if not limits:
            return
        for limit in limits:
            if limit.cost > limit.quota:
                raise Problem(
                    "too_many_images",
                    f"{limit.cost} images in one request; your quota allows {limit.quota} in "
                    f"{limit.seconds} s",
                )
        states = await self._take(principal.id, limits)
        request.scope["state"].setdefault("headers", []).extend(rate_limit_headers(limits, states))
        slowest = max(range(len(limits)), key=lambda index: states[index].wait_seconds)
        if states[slowest].wait_seconds > 0:
            if limits[slowest].name == "requests":
                self._empty_until[principal.id] = self._clock() + states[slowest].wait_seconds
            raise self._exceeded(limits[slowest].name, states[slowest].wait_seconds)

    async def _take(self, principal: str, limits: Sequence[LimitRequest]) -> list[BucketState]:
        if self.shared is not None:
            try:
                return await self.shared.take(principal, limits)
            except RedisUnavailable:
                self.metrics.quota_local.inc()
        return self.local.take(principal, limits)

    def _exceeded(self, name: str, seconds: float) -> Problem:
        self.metrics.quota_exceeded.labels(name).inc()
        wait = max(1, math.ceil(seconds))
        return Problem(
            "quota_exceeded",
            f"your quota of {name} is used up; try again in {wait} s",
            retry_seconds=wait,
        )


def rate_limiter_from_settings(
    settings: Settings, metrics: Metrics, redis: Redis | None
) -> RateLimiter:
    """With the settings' quotas for callers without one of their own."""
    default = Quota(settings.quota_requests, settings.quota_images, settings.quota_seconds)
    return RateLimiter(default, metrics, redis)


def rate_limit_headers(
    limits: Sequence[LimitRequest], states: Sequence[BucketState]
) -> list[tuple[bytes, bytes]]:
    """RateLimit-Policy and RateLimit: `"requests";q=100;w=60` and `"requests";r=42;t=18`; t is when
    all of the quota is there again.
    """
    policy = ", ".join(f'"{limit.name}";q={limit.quota};w={limit.seconds}' for limit in limits)
    remaining = ", ".join(
        f'"{limit.name}";r={_left(limit, level)};t={math.ceil(level.full_seconds)}'
        for limit, level in zip(limits, states, strict=True)
    )
    return [(b"ratelimit-policy", policy.encode()), (b"ratelimit", remaining.encode())]


def _is_possible(reply: object, limits: Sequence[LimitRequest]) -> bool:
    """Whether numbers from Redis are plausible: no wait and no bucket is longer than its window."""
    if not isinstance(reply, list) or len(reply) != 2 * len(limits):
        return False
    largest = [limit.seconds * 1_000_000 + 1 for limit in limits for _ in range(2)]
    return all(
        isinstance(number, int) and 0 <= number <= limit
        for number, limit in zip(reply, largest, strict=True)
    )


def _left(limit: LimitRequest, level: BucketState) -> int:
    return max(
        0, math.floor((limit.seconds - level.full_seconds) * limit.quota / limit.seconds + 1e-6)
    )
