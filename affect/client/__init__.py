"""A client of the gateway: typed answers, retries, batches, jobs. `Client` for programs,
`AsyncClient` for event loops.
"""

from affect.client.async_client import AsyncClient
from affect.client.blocking import Client
from affect.client.transport import ApiError, Unreachable

__all__ = ["ApiError", "AsyncClient", "Client", "Unreachable"]
