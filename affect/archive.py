"""What a model archive is: one per operation, holding code, weights, card and the settings of its
handler.

An archive unpacks to a model folder (card.json, weights.safetensors) beside the `affect` package
that wrote it, so code and weights can never disagree and two versions can be served side by side.
"""

from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from affect.card import CardError

Operation = Literal["predict", "generate", "explain"]
OPERATIONS: tuple[Operation, ...] = ("predict", "generate", "explain")
CONFIG_FILE = "model-config.yaml"


def model_name(operation: Operation) -> str:
    """The name under which TorchServe serves an operation; the archive is this and ".mar"."""
    return f"affectgan-{operation}"


def archive_of(models: Path, operation: Operation) -> Path:
    """Where the archive of an operation lies."""
    return models / f"{model_name(operation)}.mar"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def digest_of(models: Path) -> str:
    """SHA-256 over the three archives of a folder, hexadecimal: the same code, weights and settings
    give the same answers.
    """
    digest = sha256()
    for operation in OPERATIONS:
        digest.update(bytes.fromhex(sha256_of(archive_of(models, operation))))
    return digest.hexdigest()


Precision = Literal["float32", "bfloat16"]


class HandlerSettings(BaseModel):
    """The `handler` part of model-config.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    operation: Operation
    batch_faces: tuple[int, ...] = Field(
        default=(1,),
        description="sizes of a forward pass, rising; a batch is cut and padded to these",
    )
    threads: int = Field(
        default=1,
        ge=1,
        description="torch threads; more than one per worker is slower on busy cores",
    )
    runtime: Literal["auto", "torch", "openvino"] = Field(
        default="auto",
        description="what computes the reading network and the decoder; auto: OpenVINO on a "
        "processor that has it",
    )
    drawing: Precision = Field(
        default="float32",
        description="what OpenVINO draws in; bfloat16 takes half the time where the processor has "
        "it, and moves pixels by up to 8 of 255",
    )
    frames: int = Field(
        default=5, ge=2, description="pictures on the way from a face to its counterfactual"
    )

    @field_validator("batch_faces")
    @classmethod
    def _rising(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if not sizes or sizes[0] < 1 or list(sizes) != sorted(set(sizes)):
            raise ValueError(f"batch_faces is {sizes}; give rising sizes from 1 on")
        return sizes


class Context(Protocol):
    """The part of TorchServe's context that our handlers use."""

    model_yaml_config: dict[str, Any]

    @property
    def system_properties(self) -> dict[str, Any]:
        """`model_dir`, `gpu_id` and more."""
        ...

    def set_response_status(self, code: int, phrase: str, idx: int) -> None:
        """HTTP status of one job of the batch."""

    def set_response_content_type(self, idx: int, value: str) -> None:
        """Content type of one job's answer."""


def settings_of(context: Context, operation: Operation) -> HandlerSettings:
    """The settings this worker was archived with.

    Raises CardError when the archive is not for this handler.
    """
    try:
        settings = HandlerSettings.model_validate(context.model_yaml_config.get("handler"))
    except ValidationError as error:
        raise CardError(
            f"{CONFIG_FILE} has no usable `handler` part: {error}; archive the run again"
        ) from error
    if settings.operation != operation:
        raise CardError(
            f"this archive is for {settings.operation}, the handler is {operation}: "
            "archive the run again"
        )
    return settings


def folder_of(context: Context) -> Path:
    """Where the archive is unpacked."""
    return Path(context.system_properties["model_dir"])


def device_of(context: Context) -> str:
    """The device TorchServe gave this worker, in torch's words."""
    gpu = context.system_properties.get("gpu_id")
    return "cpu" if gpu is None else f"cuda:{gpu}"
