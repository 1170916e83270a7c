"""What a gateway opens when it starts, and closes also when the start fails."""

import socket

import pytest

from service.api.app import create_app
from service.inference.routing import Route, Routing, RoutingError
from service.observability.tracing import Tracing
from service.settings import Settings
from tests.support.gateway import local_backend


class Closing(Tracing):
    """Traces nothing, and knows whether it was closed."""

    closed = False

    def close(self) -> None:
        """See Tracing."""
        self.closed = True


async def test_what_was_open_is_closed_when_a_start_fails() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    routing, tracing = Routing({"affectgan": Route(default="no such version")}), Closing()
    app = create_app(
        Settings(metrics_port=port), backends=[local_backend()], routing=routing, tracing=tracing
    )
    with pytest.raises(RoutingError, match="no such version"):
        async with app.router.lifespan_context(app):
            pass
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    assert tracing.closed
