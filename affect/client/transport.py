"""One request to the gateway and its answer: retried while the gateway asks to wait; every failure
is one sentence.
"""

import asyncio
import ipaddress
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import time
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp
import orjson
from pydantic import ValidationError
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_before_delay
from tenacity.wait import wait_exponential_jitter

from affect.answers import ProblemBody
from affect.version import __version__

BUSY = (429, 503)  # the gateway sends Retry-After
LONGEST_WAIT_SECONDS = 60.0  # between attempts where it does not
OnWait = Callable[[float, str], None]


class ApiError(Exception):
    """The gateway refused a request, or what answered is no gateway. The text is one line for
    people.
    """

    def __init__(self, message: str, status: int = 0, problem: ProblemBody | None = None) -> None:
        super().__init__(message)
        self.status, self.problem = status, problem

    @property
    def code(self) -> str:
        """The gateway's stable code, "" where there is none."""
        return self.problem.code if self.problem else ""


class Unreachable(ApiError):
    """No server answered."""


class _Busy(ApiError):
    """The request may be sent again `after` so many seconds."""

    after: float | None = None


@dataclass(frozen=True)
class Answer:
    """An HTTP response."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str

    def json(self) -> Any:
        """The body as JSON. Raises ApiError when it is none."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            kind = self.headers.get("Content-Type", "no type")
            raise ApiError(
                f"{self.url} answered {len(self.body)} bytes of {kind} that are not JSON: is it "
                "the gateway, and whole?",
                self.status,
            ) from error


class Transport:
    """Connections to one gateway. `patience_seconds` is how long a request is tried again while the
    gateway is busy, and no wait goes beyond it; `on_wait(seconds, why)` is called before each wait.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None,
        timeout_seconds: float,
        patience_seconds: float,
        on_wait: OnWait | None,
    ) -> None:
        self.url = url.rstrip("/")
        if urlsplit(self.url).scheme not in ("http", "https"):
            raise ValueError(f"url is {url!r}; give one such as http://127.0.0.1:8000")
        self._headers = {"User-Agent": f"affectgan/{__version__}"} | (
            {"Authorization": f"Bearer {api_key}"} if api_key else {}
        )
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._patience_seconds, self._on_wait = patience_seconds, on_wait
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the connections back."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """The answer of status 2xx. Raises ApiError for every other status, Unreachable without an
        answer.
        """
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(_Busy),
            wait=self._wait,
            stop=stop_before_delay(self._patience_seconds),
            before_sleep=self._notify_wait,
            reraise=True,
        )
        answer: Answer = await retrying(self._once, method, path, body, headers or {})
        return answer

    async def once(self, method: str, path: str) -> Answer:
        """The same without retries."""
        return await self._once(method, path, None, {})

    async def _once(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> Answer:
        if self._session is None:  # made inside the event loop that uses it
            self._session = aiohttp.ClientSession(
                headers=self._headers, timeout=self._timeout, trust_env=not _is_loopback(self.url)
            )
        url = self.url + path
        try:
            async with self._session.request(method, url, data=body, headers=headers) as reply:
                answer = Answer(reply.status, dict(reply.headers), await reply.read(), url)
        except TimeoutError as error:
            seconds = self._timeout.total or 0
            raise Unreachable(f"no answer from {url} within {seconds:.0f} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise _unreachable(url, error) from error
        if answer.status >= 400:
            raise _refusal(answer)
        return answer

    def _wait(self, state: RetryCallState) -> float:
        after = getattr(state.outcome and state.outcome.exception(), "after", None)
        grows = wait_exponential_jitter(initial=1, max=LONGEST_WAIT_SECONDS)
        return after if after is not None else grows(state)

    def _notify_wait(self, state: RetryCallState) -> None:
        if (
            self._on_wait is not None
            and state.next_action is not None
            and state.outcome is not None
        ):
            self._on_wait(state.next_action.sleep, str(state.outcome.exception()))


def _unreachable(url: str, error: Exception) -> Unreachable:
    if isinstance(error, aiohttp.ClientConnectorError):
        reason = error.os_error.strerror or str(error.os_error)
        return Unreachable(f"nobody answers at {url} ({reason}); start one with `affectgan serve`")
    if isinstance(error, aiohttp.InvalidURL):
        return Unreachable(f"{url} is no address")
    return Unreachable(f"the answer of {url} broke off ({error or type(error).__name__})")


def _refusal(answer: Answer) -> ApiError:
    """The ApiError of a status of 400 and above, with the gateway's problem document if the body is
    one.
    """
    try:
        problem = ProblemBody.model_validate_json(answer.body)
        message = f"{problem.title}: {problem.detail}"
    except ValidationError:
        problem, message = None, f"{answer.url} answered HTTP {answer.status}"
    if answer.status in BUSY:
        busy = _Busy(message, answer.status, problem)
        busy.after = _seconds(answer.headers.get("Retry-After"))
        return busy
    return ApiError(message, answer.status, problem)


def _seconds(retry_after: str | None) -> float | None:
    """Retry-After as RFC 9110 has it: seconds, or a date."""
    if retry_after is None:
        return None
    try:
        if retry_after.isdecimal():
            return float(retry_after)
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time())
    except (ValueError, OverflowError):
        return None


def _is_loopback(url: str) -> bool:
    """A server on this machine is never asked through a proxy, whatever http_proxy says."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


async def cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until they have ended."""
    stopped = list(tasks)
    for task in stopped:
        task.cancel()
    await asyncio.gather(*stopped, return_exceptions=True)
