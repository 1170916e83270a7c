"""A gateway in a process of its own that follows a file of versions, with a tiny model in that
process in the place of TorchServe.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.gateway_process import status
from tests.support.programs import Program, started
from tests.support.waiting import LIMIT_SECONDS, until

SERVER = """
import asyncio, sys
from contextlib import asynccontextmanager
from pathlib import Path
from affect.card import ModelCard
from service.cli.convergence import DeclaredFile
from service.cli.server import listen, run
from tests.support.gateway import local_backend

@asynccontextmanager
async def open_backend(folder):
    yield local_backend(ModelCard.load(folder).version)

declared, folders = DeclaredFile.open(Path(sys.argv[1]), Path(sys.argv[2]))
routing = declared.declaration.routing
asyncio.run(run(folders, listen("127.0.0.1", 0), routing, opener=open_backend, declared=declared))
"""


@contextmanager
def following(file: Path, folder: Path) -> Iterator[tuple[Program, str]]:
    """The gateway and its address, once it is ready. What it followed last is kept in `folder`."""
    environment = {"TMPDIR": str(folder), "AFFECTGAN_CACHE_BYTES": "0"}
    arguments = [sys.executable, "-c", SERVER, str(file), str(folder / "last-good.yaml")]
    with started(arguments, environment) as program:
        url = program.word("http://")
        until(lambda: status(f"{url}/readyz") == 200, LIMIT_SECONDS)
        yield program, url
