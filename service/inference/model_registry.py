"""The model versions that are open: which one answers a request, and how a version is swapped
without losing a request.

The order of a swap: the new version is added with its workers ready, it becomes the default, the
old one gets nothing new, and it is removed when nothing of it is in flight.
"""

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from affect.archive import Operation
from affect.card import ModelCard
from affect.marking import Marker, default_marker
from service.backend.interface import Backend
from service.inference.operations import Operations
from service.inference.preprocessing import Preprocessor
from service.inference.routing import Route, Routing, RoutingError
from service.observability.metrics import Metrics
from service.problems import Problem, invalid

POLL_SECONDS = 0.05


@dataclass(eq=False)
class Version:
    """One open model. `digest` identifies archives, settings and weights: answers with the same
    digest are interchangeable.
    """

    card: ModelCard
    digest: str
    backend: Backend
    operations: Operations
    in_flight: int = field(default=0)  # requests, among them those that wait

    @property
    def name(self) -> str:
        """The model's name."""
        return self.card.name

    @property
    def version(self) -> str:
        """Its version."""
        return self.card.version

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


class ModelRegistry:
    """All open versions. The name of the first one is the default name; the first version of a name
    is that name's default.
    """

    def __init__(
        self,
        preprocessor: Preprocessor,
        metrics: Metrics,
        marker: Marker | None = None,
        *,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.preprocessor, self.metrics, self._draw = preprocessor, metrics, draw
        self.marker = marker or default_marker()
        self.versions: list[Version] = []
        self.routes: dict[str, Route] = {}

    # -- requests ----------------------------------------------------------------------------------

    @property
    def default(self) -> Version:
        """The version that answers requests that name none, canaries apart."""
        name = next(iter(self.routes))
        return self._open_version(name, self.routes[name].default)

    def choose(
        self,
        name: str | None = None,
        version: str | None = None,
        *,
        operation: Operation | None = None,
        prefix: str = "",
    ) -> Version:
        """The version that answers a request; a canary that is broken for the operation is passed
        over.

        Raises Problem for a version that is not open; `prefix` stands before the names of the
        request's fields.
        """
        names = list(self.routes)
        if name is not None and name not in self.routes:
            raise invalid(f"{prefix}model", name, f"no such model; there is {_quoted(names)}")
        name = name or names[0]
        versions = self.versions_of(name)
        if version is None:
            return self._routed(self.routes[name], versions, operation)
        if version not in versions:
            raise invalid(
                f"{prefix}version",
                version,
                f"{name} has no such version; there is {_quoted(versions)}",
            )
        return versions[version]

    @contextmanager
    def serving(
        self,
        name: str | None = None,
        version: str | None = None,
        *,
        operation: Operation | None = None,
        prefix: str = "",
    ) -> Iterator[Version]:
        """The version that `choose` gives; within, the request counts as in flight there, so that
        the version is not removed.
        """
        chosen = self.choose(name, version, operation=operation, prefix=prefix)
        chosen.in_flight += 1
        try:
            yield chosen
        finally:
            chosen.in_flight -= 1

    def find(self, name: str, version: str | None = None) -> Version:
        """The version, or the model's default. Raises Problem: 404."""
        if name not in self.routes:
            raise Problem("not_found", f"no model {name!r}; there is {_quoted(self.routes)}")
        versions = self.versions_of(name)
        version = self.routes[name].default if version is None else version
        if version not in versions:
            raise Problem(
                "not_found", f"{name} has no version {version!r}; there is {_quoted(versions)}"
            )
        return versions[version]

    async def ready(self) -> dict[Version, dict[str, bool]]:
        """For each version, and each operation, whether a worker can serve it."""
        versions = list(self.versions)
        states = await asyncio.gather(*(version.backend.ready() for version in versions))
        for version, operations in zip(versions, states, strict=True):
            for operation, ready in operations.items():
                self.metrics.ready.labels(operation, version.name, version.version).set(ready)
        return dict(zip(versions, states, strict=True))

    def versions_of(self, name: str) -> dict[str, Version]:
        """Versions of a model, in the order they came."""
        return {version.version: version for version in self.versions if version.name == name}

    def summaries(self) -> list[dict[str, Any]]:
        """Every version as in the answer of /v1/models."""
        return [self._summary(version) for version in self.versions]

    # -- operators ---------------------------------------------------------------------------------

    async def add(self, backend: Backend) -> Version:
        """Open for requests that name it; the first of its name is the default. Raises RoutingError
        when there is one already.
        """
        card, digest = await backend.card(), await backend.digest()
        self.check_not_open(card)
        version = Version(
            card,
            digest,
            backend,
            Operations(backend, self.preprocessor, self.metrics, card, self.marker),
        )
        self.versions.append(version)
        in_flight = self.metrics.serving.labels(version.name, version.version)
        in_flight.set_function(lambda: version.in_flight)
        self.metrics.describe(card, digest)
        if card.name not in self.routes:
            self.route(card.name, Route(default=card.version))
        return version

    def check_not_open(self, card: ModelCard) -> None:
        """Raises RoutingError when this version is open already."""
        if card.version in self.versions_of(card.name):
            raise RoutingError(
                f"{card.name} {card.version} is served already; archive the new one with another "
                "--version"
            )

    def route(self, name: str, route: Route) -> None:
        """Spread the requests for a model anew. Raises RoutingError when a version is not open."""
        versions = self.versions_of(name)
        if not versions:
            raise RoutingError(f"no model {name!r} is served; there is {_quoted(self.routes)}")
        missing = sorted(route.versions - set(versions))
        if missing:
            raise RoutingError(
                f"{name} has no version {missing[0]!r}; there is {_quoted(versions)}"
            )
        self.routes[name] = route
        for version in versions:
            self.metrics.share.labels(name, version).set(route.shares.get(version, 0.0))

    def follow(self, routing: Routing) -> None:
        """Set the routes of a file."""
        for name, route in routing.root.items():
            self.route(name, route)

    async def drain_and_remove(self, name: str, version: str) -> Version:
        """Close a version to new requests; returns once none is in flight. Raises RoutingError
        while requests are routed to it.
        """
        leaving = self._open_version(name, version)
        if len(self.versions_of(name)) == 1 and leaving is not self.default:
            del self.routes[name]
        elif version in self.routes[name].versions:
            raise RoutingError(
                f"requests for {name} are routed to {version}; make another the default, and "
                "neither weigh nor shadow it"
            )
        self.versions.remove(leaving)
        while leaving.in_flight:
            await asyncio.sleep(POLL_SECONDS)
        self.metrics.forget(leaving.card, leaving.digest)
        return leaving

    # -- inside ------------------------------------------------------------------------------------

    def _routed(
        self, route: Route, versions: dict[str, Version], operation: Operation | None
    ) -> Version:
        """Drawn by the route's weights; one whose breaker is open for the operation is passed
        over.
        """
        point = self._draw()
        for name, share in route.shares.items():
            point -= share
            if point < 0:
                version = versions[name]
                breakers = version.operations.dispatcher.breakers
                is_broken = operation is not None and breakers[operation].state == "open"
                return versions[route.default] if is_broken else version
        return versions[route.default]

    def _open_version(self, name: str, version: str) -> Version:
        versions = self.versions_of(name)
        if version not in versions:
            raise RoutingError(f"{name} has no version {version!r}; there is {_quoted(versions)}")
        return versions[version]

    def _summary(self, version: Version) -> dict[str, Any]:
        route = self.routes[version.name]
        return {
            "name": version.name,
            "version": version.version,
            "default": version.version == route.default,
            "share": round(route.shares.get(version.version, 0.0), 4),
            "shadow": route.shadow is not None and route.shadow.version == version.version,
            "labels": version.card.labels,
            "vocabulary": version.card.vocabulary,
            "digest": version.digest,
        }


def _quoted(names: Any) -> str:
    return ", ".join(repr(name) for name in names) or "none"
