"""The table of attacks: a gateway over a tiny model, one attack after the other, and what others
see of it: how long they wait, what they are told, and what memory it takes.

python -m benchmarks.attacks [--only WORDS]

Attacker and witness have a key each. The witness asks one reading after the other, and /healthz
beside it. Memory is that of the gateway and its children above what they had before, at its peak.
"""

import asyncio
import base64
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import click
import numpy as np
import psutil
import yaml
from PIL import Image

from benchmarks.load import portrait
from service.access.api_keys import new_key

SERVER = """
import asyncio, resource, sys
from contextlib import asynccontextmanager
from pathlib import Path
from service.cli.server import listen, run
from tests.support.gateway import LocalBackend
from tests.support.tiny import tiny_model

@asynccontextmanager
async def open_backend(folder):
    yield LocalBackend(tiny_model())

if sys.argv[1] != "None":
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]),) * 2)
asyncio.run(run([Path("models")], listen("127.0.0.1", 0), opener=open_backend))
"""
PREDICT, GENERATE = "/v2/models/affectgan-predict/infer", "/v2/models/affectgan-generate/infer"
WITNESS_SECONDS = 0.1  # between what the witness sends
MIB = 2**20
COLUMNS = (
    "attack",
    "answers to it",
    "readings of others (p50, most)",
    "/healthz (most)",
    "others were told",
    "memory",
)


@dataclass
class Target:
    """A running gateway: its address, process and log, the keys of attacker and witness."""

    url: str
    process: psutil.Process
    log: Path
    attacker: dict[str, str]
    slow: dict[str, str]
    witness: dict[str, str]

    def memory_bytes(self) -> int:
        """Of the gateway and what it started."""
        total = 0
        for process in [self.process, *self.process.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                total += process.memory_info().rss
        return total


@dataclass
class Observed:
    """What came back: to the attacker (status, bytes, seconds), to the witness (status,
    seconds).
    """

    answers: list[tuple[str, int, float]] = field(default_factory=list)
    witnessed: list[tuple[str, float]] = field(default_factory=list)
    health: list[tuple[str, float]] = field(default_factory=list)
    peak_bytes: int = 0
    note: str = ""

    def row(self, name: str) -> str:
        """One line of the table."""
        statuses = Counter(status for status, *_ in self.answers)
        answers = ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
        if self.answers:
            largest, longest = (max(answer[i] for answer in self.answers) for i in (1, 2))
            answers += f"; {largest:,} bytes, {longest:.1f} s"
        others = Counter(status for status, _ in self.witnessed + self.health)
        others_answers = ", ".join(
            f"{count} x {status}" for status, count in sorted(others.items())
        )
        waits, health = ([seconds for _, seconds in one] for one in (self.witnessed, self.health))
        return (
            f"| {name} | {'; '.join(filter(None, (answers, self.note)))} | {np.median(waits):.2f}, "
            f"{max(waits):.2f} s | {max(health):.2f} s | {others_answers} | "
            f"+{self.peak_bytes / MIB:.0f} MiB |"
        )


Attack = Callable[[Target, aiohttp.ClientSession, Observed], Awaitable[None]]


async def nothing(*_: object) -> None:
    await asyncio.sleep(5)


def body_of(path: str, make: Callable[[], bytes], *, times: int = 1) -> Attack:
    """The same JSON, so many times at once."""

    async def attack(target: Target, session: aiohttp.ClientSession, observed: Observed) -> None:
        headers = target.attacker | {"Content-Type": "application/json"}
        body = make()
        await asyncio.gather(
            *(_post(session, target.url + path, body, headers, observed) for _ in range(times))
        )

    return attack


def picture_of(make: Callable[[], bytes], *, times: int) -> Attack:
    """The same picture as a raw body, so many times at once."""

    async def attack(target: Target, session: aiohttp.ClientSession, observed: Observed) -> None:
        headers = target.attacker | {"Content-Type": "image/png"}  # the bytes decide
        picture = await asyncio.to_thread(make)
        url = f"{target.url}/v1/predict"
        await asyncio.gather(
            *(_post(session, url, picture, headers, observed) for _ in range(times))
        )

    return attack


async def slow_bodies(target: Target, _: object, observed: Observed) -> None:
    """200 bodies of a key worth five requests an hour, a byte a second for twenty seconds."""
    head = (
        f"POST /v1/predict HTTP/1.1\r\nHost: x\r\nX-API-Key: {target.slow['X-API-Key']}\r\n"
        "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
    )
    await _trickle(target, 200, head.encode(), observed)


async def half_headers(target: Target, _: object, observed: Observed) -> None:
    """900 heads that never end."""
    await _trickle(target, 900, b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: ", observed)


async def idle_connections(target: Target, _: object, observed: Observed) -> None:
    """300 at a gateway that may open 128 files."""
    await _trickle(target, 300, b"", observed)


async def many_pictures(target: Target, session: aiohttp.ClientSession, observed: Observed) -> None:
    """Four clients with 64 portraits each, and single portraits beside them."""
    content = base64.b64encode(portrait()).decode()
    body = json.dumps({"images": [{"content": content}] * 64}).encode()
    headers = target.attacker | {"Content-Type": "application/json", "X-Deadline-Seconds": "120"}

    url = f"{target.url}/v1/predict"
    await asyncio.gather(*(_post(session, url, body, headers, observed) for _ in range(4)))


def seeds() -> bytes:
    """1 MB."""
    tensor = {"name": "seed", "datatype": "INT64", "shape": [500_000], "data": [1] * 500_000}
    return json.dumps({"inputs": [tensor]}, separators=(",", ":")).encode()


def tiny_images() -> bytes:
    """2 MB of images of one pixel."""
    shape = [333_000, 1, 1, 3]
    tensor = {"name": "image", "datatype": "UINT8", "shape": shape, "data": [7] * 999_000}
    return json.dumps({"inputs": [tensor]}, separators=(",", ":")).encode()


def empty_strings() -> bytes:
    """4 MB of strings of nothing."""
    count = 1_333_000
    tensor = {"name": "image", "datatype": "BYTES", "shape": [count], "data": [""] * count}
    return json.dumps({"inputs": [tensor]}, separators=(",", ":")).encode()


def zeros() -> bytes:
    """1 MB of numbers in the place of pictures."""
    return json.dumps({"images": [0] * 500_000}, separators=(",", ":")).encode()


def progressive(side: int, scans: int) -> bytes:
    """A JPEG of one colour that repeats its last scan, which is a few bytes."""
    out = io.BytesIO()
    Image.new("RGB", (side, side)).save(out, "JPEG", progressive=True)
    content = out.getvalue()
    last = content[content.rindex(b"\xff\xda") : -2]
    return content[:-2] + last * (scans - content.count(b"\xff\xda")) + content[-2:]


def plain(kind: str, mode: str) -> bytes:
    """50 megapixels of one colour."""
    out = io.BytesIO()
    Image.new(mode, (7071, 7071), (9, 9, 9, 9)[: len(mode)]).save(out, kind)
    return out.getvalue()


ATTACKS: dict[str, Attack] = {
    "none": nothing,
    "v2: 2 MB of uint8 images of 1x1": body_of(PREDICT, tiny_images),
    '`{"images": [0, 0, ...]}`, 1 MB': body_of("/v1/predict", zeros),
    "v2: BYTES of 4 MB": body_of(PREDICT, empty_strings),
    "v2: 1 MB of seeds": body_of(GENERATE, seeds),
    "v2: the first of these, 16 at once": body_of(PREDICT, tiny_images, times=16),
    "JPEG of 4,000 scans, 16 at once": picture_of(lambda: progressive(1024, 4000), times=16),
    "JPEG of 95 scans and 15 megapixels, 16 at once": picture_of(
        lambda: progressive(3936, 95), times=16
    ),
    "RGBA PNG of 50 megapixels, 16 at once": picture_of(lambda: plain("PNG", "RGBA"), times=16),
    "WebP of 50 megapixels, 16 at once": picture_of(lambda: plain("WEBP", "RGB"), times=16),
    "200 slow bodies of a key worth 5 requests an hour": slow_bodies,
    "4 clients with 64 portraits each": many_pictures,
    "900 half heads": half_headers,
    "300 idle connections at 128 descriptors": idle_connections,
}
FEW_FILES = "300 idle connections at 128 descriptors"


@click.command()
@click.option("--only", default="", help="attacks whose name holds this")
def main(only: str) -> None:
    """Print the table."""
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|")
    for name, attack in ATTACKS.items():
        if only in name:
            print(asyncio.run(_measure(name, attack)), flush=True)


async def _measure(name: str, attack: Attack) -> str:
    observed = Observed()
    async with (
        _running(descriptors=128 if name == FEW_FILES else None) as target,
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(150)
        ) as session,
    ):
        await _witness_once(target, session, Observed())
        before = target.memory_bytes()
        watching = asyncio.create_task(_watch(target, before, observed))
        witness = asyncio.create_task(_witness(target, session, observed))
        await attack(target, session, observed)
        await asyncio.sleep(1)
        for task in (watching, witness):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        lines = target.log.read_text().splitlines()
        observed.note += f"{len(lines)} lines of log"
        if any(status == "500" for status, *_ in observed.answers):
            click.echo("\n".join(lines), err=True)
    return observed.row(name)


@contextlib.asynccontextmanager
async def _running(descriptors: int | None) -> AsyncIterator[Target]:
    with tempfile.TemporaryDirectory() as folder:
        keys = {name: new_key(name) for name in ("attacker", "witness")}
        keys["slow"] = new_key("slow", requests=5, seconds=3600)
        listed = [key.model_dump(mode="json", exclude_none=True) for _, key in keys.values()]
        file, log = Path(folder, "keys.yaml"), Path(folder, "log")
        file.write_text(yaml.safe_dump({"keys": listed}))
        environment = os.environ | {"AFFECTGAN_KEYS_FILE": str(file), "AFFECTGAN_CACHE_BYTES": "0"}
        with log.open("w") as out:
            server = subprocess.Popen(
                [sys.executable, "-c", SERVER, str(descriptors)],
                stdout=out,
                stderr=out,
                env=environment,
            )
        try:
            url = await _address(server, log)
            process = psutil.Process(server.pid)
            headers = {name: {"X-API-Key": text} for name, (text, _) in keys.items()}
            yield Target(url, process, log, **headers)
        finally:
            server.kill()
            server.wait()


async def _address(server: "subprocess.Popen[bytes]", log: Path) -> str:
    while server.poll() is None:
        for word in log.read_text().split():
            if word.startswith("http://"):
                await asyncio.sleep(1)
                return word
        await asyncio.sleep(0.1)
    raise click.ClickException(f"the gateway ended: {log.read_text()}")


async def _watch(target: Target, before: int, observed: Observed) -> None:
    while True:
        observed.peak_bytes = max(observed.peak_bytes, target.memory_bytes() - before)
        await asyncio.sleep(0.05)


async def _witness(target: Target, session: aiohttp.ClientSession, observed: Observed) -> None:
    while True:
        await _witness_once(target, session, observed)
        await asyncio.sleep(WITNESS_SECONDS)


async def _witness_once(target: Target, session: aiohttp.ClientSession, observed: Observed) -> None:
    """A portrait, as a person would send it: it has to be decoded and searched too."""
    own = Observed()
    headers = target.witness | {"Content-Type": "image/jpeg"}
    await _post(session, f"{target.url}/v1/predict", portrait(), headers, own)
    status, _, seconds = own.answers[0]
    observed.witnessed.append((status, seconds))
    start = time.monotonic()
    try:
        async with session.get(f"{target.url}/healthz") as answer:
            status = f"healthz {answer.status}"
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        status = f"healthz {type(error).__name__}"
    observed.health.append((status, time.monotonic() - start))


async def _post(
    session: aiohttp.ClientSession,
    url: str,
    body: bytes,
    headers: dict[str, str],
    observed: Observed,
) -> None:
    start, size = time.monotonic(), 0
    try:
        async with session.post(url, data=body, headers=headers) as answer:
            status, size = str(answer.status), len(await answer.read())
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        status = type(error).__name__
    observed.answers.append((status, size, time.monotonic() - start))


async def _trickle(target: Target, count: int, head: bytes, observed: Observed) -> None:
    """So many connections that send this, and then a byte a second for twenty seconds."""
    host, port = target.url.removeprefix("http://").split(":")
    opened = await asyncio.gather(
        *(asyncio.open_connection(host, int(port)) for _ in range(count)), return_exceptions=True
    )
    writers = [pair[1] for pair in opened if not isinstance(pair, BaseException)]
    for writer in writers:
        writer.write(head)
    for _ in range(20):
        await asyncio.sleep(1)
        for writer in writers:
            if head and not writer.is_closing():
                with contextlib.suppress(OSError):
                    writer.write(b" ")
    ended = sum(pair[0].at_eof() for pair in opened if not isinstance(pair, BaseException))
    observed.note = f"{len(writers)} connections, {ended} ended by the gateway; "
    for writer in writers:
        writer.close()


if __name__ == "__main__":
    main()
