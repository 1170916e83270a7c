"""A gateway over a real tiny model."""

from collections.abc import Iterator

import pytest

from service.settings import Settings
from tests.support.gateway import Gateway, serve


@pytest.fixture(scope="session")
def gateway() -> Iterator[Gateway]:
    yield from serve(Settings(cache_bytes=0))
