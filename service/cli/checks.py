"""Checks before anything heavy starts; each fault is one line."""

from redis.asyncio import ConnectionPool

from service.access.api_keys import api_keys_from_settings
from service.cli.server import listen
from service.jobs import background
from service.observability.tracing import tracing_from_settings
from service.settings import Settings


def check_settings(settings: Settings) -> None:
    """Raises ValueError for keys, addresses, targets or packages that cannot be used."""
    api_keys_from_settings(settings)
    background.check_settings(settings)
    tracing_from_settings(settings).close()
    if settings.redis_url is not None:
        _check_redis_url(settings.redis_url.get_secret_value())


def _check_redis_url(url: str) -> None:
    try:
        ConnectionPool.from_url(url)
    except ValueError as error:  # never with the URL itself: it may hold a password
        raise ValueError(
            "redis_url is no address of a Redis; write redis://host:6379/0, rediss:// or "
            "unix:///path"
        ) from error


def check_metrics_port(settings: Settings) -> None:
    """While the gateway's own port is taken already. Raises ClickException when it is in use."""
    if settings.metrics_port:
        listen(
            settings.metrics_host, settings.metrics_port, option="AFFECTGAN_METRICS_PORT"
        ).close()
