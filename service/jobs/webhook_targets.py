"""Where webhooks may go: to targets that the operator lists, and to public addresses only, unless
the operator lists them as private.

The connection goes to the very address that was checked, so that DNS rebinding has no effect.
"""

import ipaddress
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

PORTS = {"https": 443, "http": 80}
# Networks whose addresses hold another one inside: NAT64, 6to4, Teredo.
EMBEDDING = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "2002::/16", "2001::/32")))


class NotPublic(Exception):
    """A name leads to an address that is not one of the public Internet."""


@dataclass(frozen=True)
class Target:
    """A target that may be called."""

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """`host`, `host:port`, `https://host:port` or `http://host:port`; https unless said.

        Raises ValueError.
        """
        url = urlsplit(text if "://" in text else f"https://{text}")
        has_extra_parts = url.username or url.path.strip("/") or url.query or url.fragment
        if url.scheme not in PORTS or not url.hostname or has_extra_parts:
            raise ValueError(
                f"webhook target {text!r}: give host, host:port, or http://host:port for a place "
                "without TLS"
            )
        return cls(url.scheme, url.hostname, url.port or PORTS[url.scheme])

    @classmethod
    def of_url(cls, url: str) -> Self:
        """Where a URL leads. Raises ValueError."""
        parts = urlsplit(url)
        plain = parts.username is None and not parts.fragment and url.isascii()
        if parts.scheme not in PORTS or not parts.hostname or not plain:
            raise ValueError("give an https URL without user and fragment")
        return cls(parts.scheme, parts.hostname, parts.port or PORTS[parts.scheme])

    @property
    def names_private_address(self) -> bool:
        """Whether the host is an address, not a name, and not a public one."""
        try:
            return not is_public(self.host)
        except ValueError:
            return False


class PublicResolver(AbstractResolver):
    """Resolves to public addresses only."""

    def __init__(self) -> None:
        self._resolver = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Raises OSError, caused by NotPublic."""
        results = await self._resolver.resolve(host, port, family)
        if not all(is_public(result["host"]) for result in results):
            refusal = NotPublic(f"{host} resolves to an address that is not public")
            raise OSError(str(refusal)) from refusal
        return results

    async def close(self) -> None:
        """Nothing is open."""
        await self._resolver.close()


def is_public(address: str) -> bool:
    """Whether an address is one of the public Internet, and does not hold another one inside.

    Raises ValueError for what is no address.
    """
    ip: Any = ipaddress.ip_address(address.split("%")[0])
    if ip.version == 6:
        ip = ip.ipv4_mapped or ip
    embeds = any(ip in network for network in EMBEDDING if network.version == ip.version)
    return bool(ip.is_global and not ip.is_multicast and not embeds)


def caused_by_address(error: BaseException | None) -> bool:
    """Whether NotPublic is among the causes of an error."""
    return any(isinstance(cause, NotPublic) for cause in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
