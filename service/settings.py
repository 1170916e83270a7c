"""The gateway's settings: environment variables AFFECTGAN_*, files of a secret, or defaults fit for
one machine.
"""

import dataclasses
import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)

from affect.archive import OPERATIONS, Operation
from affect.marking.credentials import MarkingSettings

PREFIX, SECRETS_DIR = "AFFECTGAN_", "AFFECTGAN_SECRETS_DIR"
# Variables that are no settings: of the clients, of the models to serve, of demonstrations.
NO_SETTINGS = {SECRETS_DIR} | {
    f"{PREFIX}{name}"
    for name in (
        "URL",
        "KEY",
        "WEIGHTS",
        "MODELS",
        "MODELS_CACHE",
        "TRUSTED_KEY",
        "VERSIONS",
        "LAST_GOOD",
        "RUNTIME",
    )
}
# What Kubernetes sets in every pod for a Service that is called affectgan or affectgan-redis.
_SERVICE_LINK = re.compile(r"\w+_SERVICE_(HOST|PORT(_\w+)?)|\w+_PORT_\d+_(TCP|UDP)(_\w+)?")
Targets = Annotated[
    tuple[str, ...],
    NoDecode,
    BeforeValidator(lambda text: text.replace(",", " ").split() if isinstance(text, str) else text),
]
# Checked here: uvicorn takes an invalid address for a host name, and "*" for every client.
Networks = Annotated[
    Targets, AfterValidator(lambda given: tuple(str(ip_network(text)) for text in given))
]


def _origin(text: str) -> str:
    """`text`, when it is scheme://host or scheme://host:port. Anything else would never match, or
    end a policy early.
    """
    if not re.fullmatch(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?", text):
        raise ValueError(f"{text!r} is no origin; write https://host or https://host:port")
    return text


Operations = Annotated[
    tuple[Operation, ...],
    NoDecode,
    BeforeValidator(lambda text: text.replace(",", " ").split() if isinstance(text, str) else text),
]
Origins = Annotated[Targets, AfterValidator(lambda given: tuple(map(_origin, given)))]


class Settings(BaseSettings):
    """Every field is the variable AFFECTGAN_<FIELD> in capitals."""

    model_config = SettingsConfigDict(env_prefix="AFFECTGAN_", frozen=True)

    max_body_bytes: int = Field(default=64 * 2**20, ge=1024, description="largest request body")
    bodies_bytes: int = Field(
        default=512 * 2**20,
        ge=1024,
        description="most that all bodies of requests in flight may hold together",
    )
    body_seconds: float = Field(
        default=30.0, gt=0, description="time in which a request's body must have come"
    )
    connections: int = Field(
        default=4096, ge=1, description="open at a time; fewer where descriptors allow no more"
    )
    head_seconds: float = Field(
        default=10.0, gt=0, description="time in which the head of a request must have come"
    )
    send_seconds: float = Field(
        default=60.0, gt=0, description="time for which a client may read nothing of its answer"
    )
    caller_uploads: int = Field(
        default=32, ge=1, description="requests of one caller whose bodies may be on their way"
    )
    caller_share: float = Field(
        default=0.75,
        gt=0,
        le=1,
        description="of an operation's capacity, and of bodies_bytes, that one caller may hold",
    )
    max_pixels: int = Field(
        default=50_000_000, ge=4096, description="largest picture, width x height"
    )
    max_images: int = Field(default=64, ge=1, description="most pictures or items in one request")
    deadline_seconds: float = Field(
        default=30.0, gt=0, description="time a request may take unless it asks otherwise"
    )
    max_deadline_seconds: float = Field(
        default=120.0, gt=0, description="longest time a request may ask for"
    )
    operations: Operations = Field(
        default=OPERATIONS,
        min_length=1,
        description="those that get workers here; others are refused, and are another tier's",
    )
    predict_capacity: int = Field(
        default=128, ge=1, description="predict requests in flight before new ones are refused"
    )
    generate_capacity: int = Field(
        default=64, ge=1, description="generate requests in flight before new ones are refused"
    )
    explain_capacity: int = Field(
        default=32, ge=1, description="explain requests in flight before new ones are refused"
    )
    predict_workers: int | None = Field(
        default=None,
        ge=1,
        description="processes for predict with --runtime process; default: the archive's",
    )
    predict_batch: int | None = Field(
        default=None,
        ge=1,
        description="predict requests in a batch with --runtime process; default: the archive's",
    )
    generate_workers: int | None = Field(
        default=None,
        ge=1,
        description="processes for generate with --runtime process; default: the archive's",
    )
    generate_batch: int | None = Field(
        default=None,
        ge=1,
        description="generate requests in a batch with --runtime process; default: the archive's",
    )
    explain_workers: int | None = Field(
        default=None,
        ge=1,
        description="processes for explain with --runtime process; default: the archive's",
    )
    explain_batch: int | None = Field(
        default=None,
        ge=1,
        description="explain requests in a batch with --runtime process; default: the archive's",
    )
    gpus: int = Field(
        default=0, ge=0, description="GPUs that workers of --runtime process share; 0: none"
    )
    decode_threads: int = Field(default=2, ge=1, description="threads that decode, find and align")
    decode_bytes: int = Field(
        default=512 * 2**20,
        ge=2**20,
        description="most that large pictures may take together while they are decoded",
    )
    metrics_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="a port of its own for /metrics, which the gateway's port then does not have",
    )
    metrics_host: str = Field(
        default="127.0.0.1", description="address that metrics_port listens on"
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="lines for people, or one JSON object a line"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="WARNING", description="INFO has a line for each request"
    )
    traces_url: str | None = Field(
        default=None,
        description="OTLP over HTTP: where OpenTelemetry spans go, such as "
        "http://collector:4318/v1/traces",
    )
    trusted_proxies: Networks = Field(
        default=(),
        description="addresses and networks (10.0.0.0/8), comma-separated, whose X-Forwarded-For "
        "is believed",
    )
    cors_origins: Origins = Field(
        default=(),
        description="https://app.example, comma-separated: pages of these origins may ask from a "
        "browser; none by default",
    )
    page_picture_origins: Origins = Field(
        default=(),
        description="https://pictures.example, comma-separated: the page may load pictures from "
        "there by their address",
    )
    drain_seconds: float = Field(
        default=0.0,
        ge=0,
        description="time between SIGTERM and closing, while /readyz already says no",
    )
    yunet: Path | None = Field(
        default=None,
        description="OpenCV's face_detection_yunet .onnx, to replace the built-in face finder",
    )
    keys_file: Path | None = Field(
        default=None,
        description="YAML file of API keys' hashes (`affectgan keys new`), read again when it "
        "changes",
    )
    keys: SecretStr | None = Field(default=None, description="the same as text, from a secret")
    token_jwks_url: str | None = Field(
        default=None,
        description="where an identity provider publishes the keys that sign its tokens",
    )
    token_issuer: str | None = Field(default=None, description="`iss` of tokens that are taken")
    token_audience: str | None = Field(default=None, description="`aud` of tokens that are taken")
    token_scope_prefix: str = Field(
        default="", description="before predict, generate and explain in a token's `scope`"
    )
    quota_requests: int | None = Field(
        default=None,
        ge=1,
        description="requests in quota_seconds, for callers without a quota of their own",
    )
    quota_images: int | None = Field(
        default=None, ge=1, description="pictures or items in quota_seconds, likewise"
    )
    quota_seconds: int = Field(default=60, ge=1, description="in which a quota is whole again")
    signing_certificate: Path | None = Field(
        default=None,
        description="PEM chain, the signer's first, that signs what is drawn (C2PA)",
    )
    signing_key: Path | None = Field(default=None, description="its key, PEM, not encrypted")
    signing_folder: Path | None = Field(
        default=None,
        description="where a certificate for development, which identifies nobody, is made once; "
        "without it, it dies with the process",
    )
    timestamp_url: str | None = Field(
        default=None,
        description="RFC 3161 time-stamp authority, asked once for every picture that is signed",
    )
    trusted_certificates: Path | None = Field(
        default=None, description="PEM roots that /v1/verify trusts beside our own"
    )
    cache_bytes: int = Field(
        default=64 * 2**20,
        ge=0,
        description="of answers kept in this process; 0: none are kept anywhere",
    )
    cache_seconds: float = Field(default=600.0, gt=0, description="that an answer is kept")
    cache_secret: SecretStr | None = Field(
        default=None,
        min_length=16,
        description="of all gateways that share answers through Redis (default: one that dies "
        "with the process)",
    )
    remote_key: SecretStr | None = Field(
        default=None, description="the API key that --runtime oip://HOST sends"
    )
    redis_url: SecretStr | None = Field(
        default=None,
        description="redis://, rediss:// or unix:// of a Redis to share with other gateways",
    )
    redis_timeout_seconds: float = Field(
        default=0.05, gt=0, description="time Redis may take before the gateway goes on without it"
    )
    jobs_key: SecretStr | None = Field(
        default=None,
        description="32 random bytes in base64: with a Redis, jobs and repeatable answers are "
        "shared through it, sealed with this key",
    )
    job_capacity: int = Field(
        default=256, ge=1, description="jobs that wait or run before new ones are refused"
    )
    job_memory_bytes: int = Field(
        default=512 * 2**20,
        ge=1024,
        description="most that jobs without Redis may hold, questions and answers",
    )
    job_workers: int = Field(
        default=1,
        ge=0,
        description="jobs that this gateway does at a time; 0 leaves them to others",
    )
    job_slice_images: int = Field(
        default=8, ge=1, description="pictures of a job that are done together"
    )
    job_seconds: float = Field(
        default=3600.0, gt=0, description="time a job may wait, and time its answer is kept"
    )
    job_lease_seconds: float = Field(
        default=15.0, gt=0, description="silence of a gateway after which others take over its job"
    )
    job_drain_seconds: float = Field(
        default=20.0,
        ge=0,
        description="time after SIGTERM to finish and hand out jobs that only memory holds",
    )
    idempotency_seconds: float = Field(
        default=24 * 3600.0, gt=0, description="time an answer is kept for its Idempotency-Key"
    )
    idempotency_memory_bytes: int = Field(
        default=128 * 2**20, ge=1024, description="most that such answers may hold without Redis"
    )
    webhook_targets: Targets = Field(
        default=(),
        description="host, host:port or http://host:port, comma-separated: may be called",
    )
    webhook_private_targets: Targets = Field(
        default=(), description="the same, and may resolve to private addresses"
    )
    webhook_secret: SecretStr | None = Field(
        default=None, description="signs calls: whsec_ and base64; without it there are none"
    )
    webhook_seconds: float = Field(
        default=600.0, gt=0, description="time over which a call is tried again"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Files of a mounted secret (AFFECTGAN_SECRETS_DIR/affectgan_redis_url and so on), and then
        the environment: a secret takes precedence over a default in a ConfigMap.
        """
        folder = os.environ.get(SECRETS_DIR)
        secrets = (SecretsSettingsSource(settings_cls, secrets_dir=folder),) if folder else ()
        return init_settings, *secrets, env_settings

    @model_validator(mode="after")
    def _tokens_are_whole(self) -> "Settings":
        is_set = [
            bool(value) for value in (self.token_jwks_url, self.token_issuer, self.token_audience)
        ]
        if any(is_set) and not all(is_set):
            raise ValueError(
                "token_jwks_url, token_issuer and token_audience belong together: give all three "
                "or none"
            )
        return self

    @property
    def marking(self) -> MarkingSettings:
        """How pictures are marked."""
        return MarkingSettings(
            self.signing_certificate,
            self.signing_key,
            self.signing_folder,
            self.timestamp_url,
            self.trusted_certificates,
        )

    @property
    def batching(self) -> dict[str, dict[str, int]]:
        """The settings of each operation's workers, under the names of model-config.yaml."""
        names = {"minWorkers": "workers", "batchSize": "batch"}
        batches = {
            operation: {
                name: getattr(self, f"{operation}_{field}") for name, field in names.items()
            }
            for operation in OPERATIONS
        }
        return {
            operation: {name: value for name, value in values.items() if value is not None}
            for operation, values in batches.items()
        }

    def capacity(self, operation: str) -> int:
        """Requests of an operation that may be in flight."""
        return int(getattr(self, f"{operation}_capacity"))


def check_names(environment: Mapping[str, str]) -> None:
    """Check that every variable AFFECTGAN_*, and every file of the secret, is a setting: a misspelt
    one could leave a gateway without authentication. Raises ValueError with the nearest name.
    """
    fields = {
        *Settings.model_fields,
        *(field.name for field in dataclasses.fields(MarkingSettings)),
    }
    known_names = {f"{PREFIX}{field.upper()}" for field in fields} | NO_SETTINGS
    folder = environment.get(SECRETS_DIR)
    files = [path.name.upper() for path in Path(folder).glob("affectgan_*")] if folder else []
    names_set = [name for name in environment if name.startswith(PREFIX)]
    for name in [*names_set, *files]:
        if name not in known_names and not _is_service_link(name, environment.get(name, "")):
            nearest = get_close_matches(name, known_names, n=1, cutoff=0)
            raise ValueError(f"{name} is no setting; the nearest is {nearest[0]}")


def _is_service_link(name: str, value: str) -> bool:
    address = name.endswith("_PORT") and value.startswith(("tcp://", "udp://"))
    return address or _SERVICE_LINK.fullmatch(name) is not None
