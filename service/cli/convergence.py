"""A gateway that follows a declaration: what the file says is opened, routed and closed, in this
order, so that no request is lost. A file that cannot be followed changes nothing.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from affect import artefacts
from service.backend.interface import Backend
from service.backend.pool import ModelServerPool, check_model_folder
from service.inference.declaration import Declaration
from service.inference.model_registry import ModelRegistry
from service.inference.routing import RoutingError
from service.observability.metrics import Metrics

POLL_SECONDS = 2.0
log = logging.getLogger(__name__)


def fetch_declared(declaration: Declaration) -> list[Path]:
    """Folders of all versions, the default first. Raises ArtefactError, CardError, RoutingError."""
    return [_fetch(*key, text) for key, text in declaration.references.items()]


@dataclass(frozen=True)
class DeclaredFile:
    """A file as it was when it was read; `digest` is that of its bytes.

    `last_good`: the file that stores the last declaration that was followed; `followed`: this one
    was read from `path`, not from `last_good`.
    """

    path: Path
    declaration: Declaration
    digest: str
    last_good: Path | None = None
    followed: bool = True

    @classmethod
    def read(cls, path: Path) -> "DeclaredFile":
        """Raises RoutingError."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise RoutingError(f"{path} cannot be read: {error.strerror}") from error
        declaration = Declaration.parse(content.decode(errors="replace"), str(path))
        return cls(path, declaration, sha256(content).hexdigest())

    @classmethod
    def open(cls, path: Path, last_good: Path | None) -> tuple["DeclaredFile", list[Path]]:
        """The file and the folders of its versions; of the one stored at `last_good` when this one
        cannot be followed. Raises ArtefactError, CardError, RoutingError, TorchServeError.
        """
        try:
            declared = cls.read(path)
            folders = fetch_declared(declared.declaration)
        except ValueError as error:
            if last_good is None or not last_good.is_file():
                raise
            log.error("%s: serving what was declared before, %s", error, last_good)
            stored = cls.read(last_good)
            folders = fetch_declared(stored.declaration)
            declared = cls(path, stored.declaration, stored.digest, followed=False)
        return replace(declared, last_good=last_good), folders

    def keep(self) -> None:
        """Store it as the last declaration that was followed."""
        if self.last_good is None:
            return
        try:
            self.last_good.parent.mkdir(parents=True, exist_ok=True)
            self.declaration.save(self.last_good)
        except OSError as error:
            log.error("%s cannot be written: %s", self.last_good, error.strerror)


class Convergence:
    """`async with convergence.following():` the file, whose versions are open already. `models` is
    there once the app has started.
    """

    def __init__(
        self,
        opened: DeclaredFile,
        pool: ModelServerPool,
        models: Callable[[], ModelRegistry],
        metrics: Metrics,
        *,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self.path, self.pool, self._models, self.metrics = opened.path, pool, models, metrics
        self._opened = opened
        self.poll_seconds = poll_seconds
        self._followed, self._digest, self._latest_digest = (
            opened.declaration,
            opened.digest,
            opened.digest,
        )
        if opened.followed:
            opened.keep()
        self._report(followed=opened.followed)

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Inside, the file is checked every few seconds."""
        task = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self.poll_seconds)
            try:
                await self._check()
            except Exception:
                log.exception("%s is not followed", self.path)
                self._report(followed=False)

    async def _check(self) -> None:
        try:
            content = self.path.read_bytes()
        except OSError as error:
            log.error("%s cannot be read, and nothing changes: %s", self.path, error.strerror)
            self._report(followed=False)
            return
        digest = sha256(content).hexdigest()
        if digest == self._latest_digest:
            return
        try:
            text = content.decode(errors="replace")
            declared = Declaration.parse(text, str(self.path))
            await self._converge(declared)
            self._digest = digest
            replace(self._opened, declaration=declared).keep()
            self._report(followed=True)
        except ValueError as error:  # of the file, of a model, of a reference
            log.error("the versions stay as they were: %s", error)
            self._report(followed=False)
        self._latest_digest = digest

    async def _converge(self, declared: Declaration) -> None:
        """Open, then route, then close. Raises ValueError, having changed nothing."""
        models, before, after = self._models(), self._followed.references, declared.references
        for key in before.keys() & after.keys():
            if before[key] != after[key]:
                raise RoutingError(
                    f"{' '.join(key)} is served from {before[key]}: a version is never another "
                    "model; give the new one another version"
                )
        await self._open(models, {key: after[key] for key in after if key not in before})
        log.warning("%d versions after a change of %s", len(after), self.path.name)
        for name, model in declared.root.items():
            models.route(name, model.route)
        self._followed = declared
        for name, version in before.keys() - after.keys():
            leaving = await models.drain_and_remove(name, version)
            await self.pool.close(leaving.backend)

    async def _open(self, models: ModelRegistry, references: dict[tuple[str, str], str]) -> None:
        backends: list[Backend] = []
        try:
            for (name, version), reference in references.items():
                if version in models.versions_of(name):
                    raise RoutingError(f"{name} {version} was opened by hand; remove it first")
                folder = await asyncio.to_thread(_fetch, name, version, reference)
                backends.append(await self.pool.open(folder))
            for backend in backends:
                await models.add(backend)
        except BaseException:
            for backend in backends:
                with suppress(KeyError):
                    await self.pool.close(backend)
            raise

    def _report(self, *, followed: bool) -> None:
        self.metrics.declaration_followed.set(followed)
        self.metrics.declaration.clear()
        self.metrics.declaration.labels(self._digest[:12]).set(1)


def _fetch(name: str, version: str, reference: str) -> Path:
    """Raises ArtefactError, CardError, RoutingError."""
    folder = artefacts.fetch(reference)
    card = check_model_folder(folder)
    if (card.name, card.version) != (name, version):
        raise RoutingError(
            f"{reference} holds {card.name} {card.version} and is declared as {name} {version}"
        )
    return folder
