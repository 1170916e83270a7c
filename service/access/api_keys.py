"""API keys: `affectgan keys new` makes one; a YAML file of hashes lists the valid ones and their
scopes.

A key is 256 random bits, so there is nothing to guess and a plain SHA-256 is the right hash at
rest: scrypt and the like protect passwords that people choose, at the cost of milliseconds for
every request. The writer and the reader of the file are here.
"""

import datetime
import hashlib
import hmac
import logging
import re
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import click
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from affect.archive import OPERATIONS, Operation
from service.access.authentication import InvalidCredential, Principal, Quota
from service.settings import Settings

RELOAD_SECONDS = 5.0  # between checks of the file: keys are added and removed without a restart
PREFIX = "ag"
_KEY = re.compile(rf"{PREFIX}_([0-9a-f]{{12}})_[A-Za-z0-9_-]{{43}}")
_NO_DIGEST = "0" * 64
log = logging.getLogger(__name__)


class KeysError(ValueError):
    """The file of keys cannot be used: names the place and what is allowed there."""


class Key(BaseModel):
    """One key: its public id, the SHA-256 of all of it, what it may do, and how much."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Annotated[str, Field(pattern="^[0-9a-f]{12}$")]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    name: str
    scopes: frozenset[Operation] = frozenset(OPERATIONS)
    requests: int | None = Field(
        default=None, ge=1, description="requests in `seconds` (default: AFFECTGAN_QUOTA_REQUESTS)"
    )
    images: int | None = Field(
        default=None,
        ge=1,
        description="pictures or items in `seconds` (default: AFFECTGAN_QUOTA_IMAGES)",
    )
    seconds: int = Field(default=60, ge=1)
    expires: datetime.datetime | None = None

    @field_validator("expires")
    @classmethod
    def _in_utc(cls, expires: datetime.datetime | None) -> datetime.datetime | None:
        return (
            expires.replace(tzinfo=datetime.UTC)
            if expires is not None and expires.tzinfo is None
            else expires
        )

    @property
    def principal(self) -> Principal:
        """The principal that the key identifies."""
        has_quota = self.requests is not None or self.images is not None
        return Principal(
            f"key:{self.id}",
            frozenset(self.scopes),
            Quota(self.requests, self.images, self.seconds) if has_quota else None,
        )


class KeyFile(BaseModel):
    """The file."""

    model_config = ConfigDict(extra="forbid")

    keys: list[Key]


def parse(text: str, source: str) -> dict[str, Key]:
    """Keys by id. Raises KeysError."""
    try:
        keys = KeyFile.model_validate(yaml.safe_load(text)).keys
    except yaml.YAMLError as error:
        raise KeysError(
            f"{source} is not YAML: {getattr(error, 'problem', 'unreadable')}"
        ) from None
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        raise KeysError(
            f"{source}: {'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}; see "
            "`affectgan keys new`"
        ) from None
    by_id = {key.id: key for key in keys}
    if len(by_id) != len(keys):
        raise KeysError(f"{source} names an id twice; remove one of them")
    return by_id


def new_key(name: str, **fields: object) -> tuple[str, Key]:
    """A new key: its text for the owner, and its entry in the file."""
    identity = secrets.token_hex(6)
    text = f"{PREFIX}_{identity}_{secrets.token_urlsafe(32)}"
    return text, Key.model_validate(
        {"id": identity, "sha256": digest(text), "name": name, **fields}
    )


def digest(text: str) -> str:
    """The stored hash of a key."""
    return hashlib.sha256(text.encode()).hexdigest()


class ApiKeys:
    """The currently valid keys. Raises KeysError when the file cannot be used at the start; a file
    that breaks later is ignored.
    """

    def __init__(
        self,
        text: str | None = None,
        file: Path | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.file, self._clock, self._checked = file, clock, clock()
        self._fixed = parse(text, "AFFECTGAN_KEYS") if text else {}
        self._loaded_version = self._file_version()
        self._keys = self._fixed | self._read()

    def recognises(self, credential: str) -> bool:
        """Whether it looks like a key."""
        return credential.startswith(f"{PREFIX}_")

    async def verify(self, credential: str) -> Principal:
        """Whose key it is. An unknown id takes as long as a wrong secret."""
        self._reload_if_changed()
        match = _KEY.fullmatch(credential)
        key = self._keys.get(match[1]) if match else None
        same = hmac.compare_digest(digest(credential), key.sha256 if key else _NO_DIGEST)
        if key is None or not same:
            raise InvalidCredential("unknown API key")
        if key.expires is not None and key.expires <= datetime.datetime.now(datetime.UTC):
            raise InvalidCredential("this API key has expired")
        return key.principal

    def _reload_if_changed(self) -> None:
        if self.file is None or self._clock() - self._checked < RELOAD_SECONDS:
            return
        self._checked = self._clock()
        try:
            version = self._file_version()
            if version != self._loaded_version:
                self._keys, self._loaded_version = self._fixed | self._read(), version
                log.warning("%d API keys after a change of %s", len(self._keys), self.file.name)
        except KeysError as error:
            log.error("the API keys stay as they were: %s", error)

    def _file_version(self) -> tuple[int, int]:
        if self.file is None:
            return (0, 0)
        try:
            stat = self.file.stat()
        except OSError as error:
            raise KeysError(f"AFFECTGAN_KEYS_FILE {self.file}: {error.strerror}") from error
        return stat.st_mtime_ns, stat.st_ino

    def _read(self) -> dict[str, Key]:
        return {} if self.file is None else parse(self.file.read_text(), str(self.file))


def api_keys_from_settings(settings: Settings) -> ApiKeys | None:
    """The keys that the settings name, if they name any. Raises KeysError."""
    text = settings.keys.get_secret_value() if settings.keys else None
    return ApiKeys(text, settings.keys_file) if text or settings.keys_file else None


@click.group()
def keys() -> None:
    """API keys of a gateway."""


@keys.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(OPERATIONS),
    help="what it may do; repeat (default: everything)",
)
@click.option("--requests", type=click.IntRange(1), help="requests in --seconds")
@click.option("--images", type=click.IntRange(1), help="pictures or items in --seconds")
@click.option("--seconds", type=click.IntRange(1), default=60, show_default=True)
@click.option("--days", type=click.IntRange(1), help="days until it expires (default: never)")
@click.option(
    "--file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="file of keys to add it to; made when missing",
)
def new(
    name: str,
    scopes: tuple[Operation, ...],
    requests: int | None,
    images: int | None,
    seconds: int,
    days: int | None,
    file: Path | None,
) -> None:
    """Make a key for NAME. The key goes to standard output, once; its hash into --file, or to
    standard error.
    """
    fields = {
        "scopes": scopes or OPERATIONS,
        "requests": requests,
        "images": images,
        "seconds": seconds,
        "expires": days and _in_days(days),
    }
    text, key = new_key(name, **fields)
    if file is None:
        click.echo(_dump([key]), err=True, nl=False)
    else:
        _add(key, file)
        click.echo(f"wrote {file}; the key itself is kept nowhere", err=True)
    click.echo(text)


def _add(key: Key, file: Path) -> None:
    """Add a key to a file, which is created when missing. Raises ClickException."""
    try:
        existing = parse(file.read_text(), str(file)).values() if file.exists() else ()
    except KeysError as error:
        raise click.ClickException(str(error)) from error
    replacement = file.with_name(file.name + ".new")
    replacement.write_text(_dump([*existing, key]))
    replacement.replace(file)


def _in_days(days: int) -> datetime.datetime:
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    return now + datetime.timedelta(days=days)


def _dump(keys: Sequence[Key]) -> str:
    return yaml.safe_dump({"keys": [_as_yaml(key) for key in keys]}, sort_keys=False)


def _as_yaml(key: Key) -> dict[str, object]:
    values = key.model_dump(mode="json", exclude_none=True)
    return values | {"scopes": [operation for operation in OPERATIONS if operation in key.scopes]}
