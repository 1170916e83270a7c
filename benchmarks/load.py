"""Load on a running gateway: many clients for a while, optionally with TorchServe's worker killed
meanwhile; or one request of 64.

python -m benchmarks.load --clients 32 --seconds 60 [--kill predict]
python -m benchmarks.load --images 64
"""

import asyncio
import base64
import io
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import click
import numpy as np
import psutil
from PIL import Image

WATCHED_SECONDS = 20.0  # after a kill
AFRESH = {"Cache-Control": "no-store"}  # the model is measured, not the cache
KILL_AT = 0.4  # share of the run


@dataclass
class LoadReport:
    """What the clients saw: (end, seconds, status) of each request."""

    requests: list[tuple[float, float, str]] = field(default_factory=list)
    killed_at: float | None = None
    ready_again_at: float | None = None

    def table(self, seconds: float) -> str:
        """Throughput, errors and latency percentiles."""
        good = np.array([taken for _, taken, status in self.requests if status == "200"])
        errors = Counter(status for _, _, status in self.requests if status != "200")
        lines = [
            f"{len(self.requests)} requests in {seconds:.1f} s, {len(good) / seconds:.1f} "
            f"answered/s, errors {dict(errors) or 0}"
        ]
        if len(good):
            marks = (50, 90, 99, 100)
            lines.append(
                "  ".join(f"p{mark} {1000 * np.percentile(good, mark):.0f} ms" for mark in marks)
            )
        if self.killed_at is not None:
            lines.append(self._after_the_kill(self.killed_at))
        return "\n".join(lines)

    def _after_the_kill(self, killed: float) -> str:
        after = sorted(
            end
            for end, _, status in self.requests
            if status == "200" and killed <= end <= killed + WATCHED_SECONDS
        )
        gap = max(np.diff([killed, *after]), default=float("nan"))
        errors = Counter(
            status for end, _, status in self.requests if status != "200" and end >= killed
        )
        ready = f"{self.ready_again_at - killed:.1f} s" if self.ready_again_at else "never"
        figures = f"longest time without an answer {gap:.2f} s; /readyz yes again after {ready}"
        return f"worker killed: errors after it: {dict(errors) or 'none'}; {figures}"


@click.command()
@click.option("--url", default="http://127.0.0.1:8000", show_default=True)
@click.option("--clients", type=int, default=32, show_default=True)
@click.option("--seconds", type=float, default=60.0, show_default=True)
@click.option(
    "--kill",
    type=click.Choice(["predict"]),
    help="kill TorchServe's worker of this operation after two fifths of the time",
)
@click.option(
    "--crops", is_flag=True, help="send an aligned 64 px crop, which needs no face finder"
)
@click.option(
    "--images",
    type=int,
    help="instead: one request of this many pictures, one broken, one without a face",
)
def main(
    url: str, clients: int, seconds: float, kill: str | None, crops: bool, images: int | None
) -> None:
    """Print what clients see."""
    if images:
        asyncio.run(one_large_request(url, images))
        return
    start = time.monotonic()
    report = asyncio.run(load(url, clients, seconds, kill is not None, crops))
    click.echo(report.table(time.monotonic() - start))


async def load(url: str, clients: int, seconds: float, kill: bool, crops: bool) -> LoadReport:
    """`clients` loops of one request after the other."""
    report = LoadReport()
    until = time.monotonic() + seconds
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        tasks = [_client(session, url, until, report, crops) for _ in range(clients)]
        if kill:
            tasks.append(_killer(session, url, time.monotonic() + KILL_AT * seconds, report))
        await asyncio.gather(*tasks)
    return report


async def one_large_request(url: str, count: int) -> None:
    """`count` pictures, of which one is broken and one shows no face."""
    picture = base64.b64encode(portrait()).decode()
    contents = [picture] * count
    contents[count // 3] = base64.b64encode(portrait()[:5000]).decode()
    contents[count // 2] = base64.b64encode(_png(np.full((200, 200, 3), 120, np.uint8))).decode()
    start = time.monotonic()
    async with aiohttp.ClientSession() as session:
        body = json.dumps({"images": [{"content": content} for content in contents]}).encode()
        async with session.post(
            f"{url}/v1/predict", data=body, headers={"Content-Type": "application/json", **AFRESH}
        ) as answer:
            results = (await answer.json())["results"]
    click.echo(
        f"{len(results)} results in {time.monotonic() - start:.2f} s: "
        f"{dict(Counter(result['status'] for result in results))}"
    )
    for result in results:
        if result["status"] != "ok":
            click.echo(
                f"  {result['index']}: {result['error']['title']}: {result['error']['detail']}"
            )


async def _client(
    session: aiohttp.ClientSession, url: str, until: float, report: LoadReport, crops: bool
) -> None:
    body, kind = crop_request() if crops else (portrait(), "image/jpeg")
    while time.monotonic() < until:
        start = time.monotonic()
        try:
            async with session.post(
                f"{url}/v1/predict", data=body, headers={"Content-Type": kind, **AFRESH}
            ) as answer:
                rows = await answer.read()
                status = (
                    str(answer.status)
                    if answer.status != 200 or b'"status":"ok"' in rows
                    else "row error"
                )
        except aiohttp.ClientError as error:
            status = type(error).__name__
        report.requests.append((time.monotonic(), time.monotonic() - start, status))


async def _killer(
    session: aiohttp.ClientSession, url: str, when: float, report: LoadReport
) -> None:
    await asyncio.sleep(when - time.monotonic())
    process = worker()
    process.kill()
    report.killed_at = time.monotonic()
    missed = False
    while time.monotonic() < report.killed_at + WATCHED_SECONDS:
        async with session.get(f"{url}/readyz") as answer:
            missed |= answer.status != 200
            if missed and answer.status == 200:
                report.ready_again_at = time.monotonic()
                return
        await asyncio.sleep(0.1)


def worker() -> psutil.Process:
    """The process that serves predict: the first socket that TorchServe's configuration gives
    out.
    """
    workers = [
        p
        for p in psutil.process_iter(["cmdline"])
        if any("model_service_worker.py" in part for part in p.info["cmdline"] or ())
    ]
    if not workers:
        raise click.ClickException("no TorchServe worker runs on this machine")
    return min(
        workers, key=lambda process: " ".join(process.info["cmdline"]).rsplit(".ts.sock.", 1)[-1]
    )


def crop_request(count: int = 1) -> tuple[bytes, str]:
    """Body and content type of a predict request with aligned 64 px crops."""
    content = (
        Path(__file__).parents[1] / "service" / "cli" / "examples" / "happiness.png"
    ).read_bytes()
    packed = {
        "images": [{"content": base64.b64encode(content).decode()}] * count,
        "options": {"faces": "none"},
    }
    return json.dumps(packed).encode(), "application/json"


def portrait() -> bytes:
    """The public-domain photograph that scikit-image ships, 512 px."""
    from skimage import data

    out = io.BytesIO()
    Image.fromarray(data.astronaut()).save(out, "JPEG", quality=90)
    return out.getvalue()


def _png(image: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    return out.getvalue()


if __name__ == "__main__":
    main()
