"""More than can be done: measures what a running gateway can answer, then sends a multiple of it,
whether answers come or not.

python -m benchmarks.overload --url http://127.0.0.1:8000 [--times 3] [--seconds 20] [--deadline 2]

Goodput should stay what it was, and whoever is refused should know within 50 ms. The flood comes
from one event loop, which is late itself; so a witness, a process that does nothing else, sends a
few requests meanwhile and shows what a client with a processor would see.
"""

import asyncio
import http.client
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from urllib.parse import urlsplit

import aiohttp
import click
import numpy as np

from benchmarks.load import AFRESH, crop_request, portrait

CLIENTS = 16  # that measure the capacity, each with one request at a time
WITNESS_SECONDS = 0.03  # between what the witness sends
# within which a full queue can do nothing: it is refused nearly always, and need not wait for
# answers
WITNESS_DEADLINE_SECONDS = 0.2


@dataclass(frozen=True)
class Sent:
    """One request: when it was sent, how long it took, its status."""

    start: float
    seconds: float
    status: int


@click.command()
@click.option("--url", default="http://127.0.0.1:8000", show_default=True)
@click.option("--times", type=float, default=3.0, show_default=True, help="the load, in capacities")
@click.option("--seconds", type=float, default=20.0, show_default=True)
@click.option(
    "--deadline", type=float, default=2.0, show_default=True, help="seconds each request has"
)
@click.option(
    "--crops", is_flag=True, help="send an aligned 64 px crop, which needs no face finder"
)
def main(url: str, times: float, seconds: float, deadline: float, crops: bool) -> None:
    """Print goodput and how long refusals took."""
    body, kind = crop_request() if crops else (portrait(), "image/jpeg")
    asyncio.run(_run(url, body, AFRESH | {"Content-Type": kind}, times, seconds, deadline))


async def _run(
    url: str, body: bytes, headers: dict[str, str], times: float, seconds: float, deadline: float
) -> None:
    async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0)) as session:
        capacity_before = await _capacity(session, body, headers, seconds)
        capacity = capacity_before / seconds
        click.echo(f"capacity: {capacity:.1f} requests/s by {CLIENTS} clients in {seconds:g} s")
        limited = headers | {"X-Deadline-Seconds": str(deadline)}
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(pool, time.monotonic)  # it is there
            watching = loop.run_in_executor(pool, witness, url, body, headers, seconds)
            sent = await _flood(session, body, limited, times * capacity, seconds)
            witnessed = [request for request in await watching if request.status == 503]
    answered = [request for request in sent if request.status == 200]
    refused = [request for request in sent if request.status == 503]
    late = [request for request in sent if request.status == 504]
    others = len(sent) - len(answered) - len(refused) - len(late)
    span = max(request.start + request.seconds for request in sent) - min(
        request.start for request in sent
    )
    click.echo(
        f"sent {len(sent)} in {seconds:g} s ({len(sent) / seconds:.1f}/s): {len(answered)} "
        f"answered, {len(refused)} refused, "
        f"{len(late)} late, {others} others"
    )
    click.echo(
        f"goodput {len(answered) / span:.1f}/s, {100 * len(answered) / span / capacity:.0f} % of "
        "the capacity"
    )
    for name, requests in (
        ("answered", answered),
        ("refused", refused),
        ("refused, by the witness", witnessed),
    ):
        if requests:
            marks = np.percentile(
                [1000 * request.seconds for request in requests], (50, 90, 99, 100)
            )
            click.echo(
                f"{name} ({len(requests)}): "
                + "  ".join(
                    f"p{mark} {value:.0f} ms"
                    for mark, value in zip((50, 90, 99, 100), marks, strict=True)
                )
            )


async def _capacity(
    session: aiohttp.ClientSession, body: bytes, headers: dict[str, str], seconds: float
) -> int:
    """Answers within `seconds` to clients that wait for one before they send the next."""
    end, done = time.monotonic() + seconds, 0

    async def client() -> None:
        nonlocal done
        while time.monotonic() < end:
            answer = await _request(session, body, headers)
            done += answer.status == 200

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return done


async def _flood(
    session: aiohttp.ClientSession,
    body: bytes,
    headers: dict[str, str],
    rate: float,
    seconds: float,
) -> list[Sent]:
    """Requests at this rate for so long; returns when the last is answered."""
    start, tasks = time.monotonic(), []
    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, start + number / rate - time.monotonic()))
        tasks.append(asyncio.create_task(_request(session, body, headers)))
    return list(await asyncio.gather(*tasks))


def witness(url: str, body: bytes, headers: dict[str, str], seconds: float) -> list[Sent]:
    """What one client sees that sends one request after the other, with a pause, on a connection
    that stays.
    """
    headers = headers | {"X-Deadline-Seconds": str(WITNESS_DEADLINE_SECONDS)}
    connection, end, sent = (
        http.client.HTTPConnection(urlsplit(url).netloc),
        time.monotonic() + seconds,
        [],
    )
    while time.monotonic() < end:
        start = time.monotonic()
        connection.request("POST", "/v1/predict", body, headers)
        answer = connection.getresponse()
        answer.read()
        sent.append(Sent(start, time.monotonic() - start, answer.status))
        time.sleep(WITNESS_SECONDS)
    connection.close()
    return sent


async def _request(session: aiohttp.ClientSession, body: bytes, headers: dict[str, str]) -> Sent:
    start = time.monotonic()
    try:
        async with session.post("/v1/predict", data=body, headers=headers) as answer:
            await answer.read()
            return Sent(start, time.monotonic() - start, answer.status)
    except aiohttp.ClientError:
        return Sent(start, time.monotonic() - start, 0)


if __name__ == "__main__":
    main()
