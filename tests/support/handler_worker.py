"""Starts a handler as a TorchServe worker would: in an unpacked archive, with TorchServe's own
context.
"""

from pathlib import Path
from typing import Any, Protocol, TypeVar
from zipfile import ZipFile

import yaml
from ts.context import Context, RequestProcessor

from affect.archive import CONFIG_FILE, OPERATIONS, Operation, model_name
from tests.support.tiny import tiny_run
from training.archive import write_archives


class Handler(Protocol):
    def initialize(self, context: Any) -> None: ...

    def handle(self, data: Any, context: Any) -> list[bytes]: ...


H = TypeVar("H", bound=Handler)


def unpacked(folder: Path, operation: Operation) -> Path:
    """The folder that a worker of this operation finds."""
    archives = write_archives(tiny_run(folder / "run"), folder / "models")
    path = archives[OPERATIONS.index(operation)]
    assert path.stem == model_name(operation)
    ZipFile(path).extractall(folder / operation)
    return folder / operation


def context_of(folder: Path, requests: int = 1) -> Context:
    """TorchServe's context for a batch of requests."""
    config = yaml.safe_load((folder / CONFIG_FILE).read_text())
    context = Context(folder.name, str(folder), None, 8, None, "0.12.0", model_yaml_config=config)
    context.request_processor = [RequestProcessor({}) for _ in range(requests)]
    return context


def started(handler: H, folder: Path) -> H:
    handler.initialize(context_of(folder))
    return handler


def bodies(*contents: bytes) -> list[dict[str, bytearray]]:
    """Request bodies as TorchServe hands them over."""
    return [{"body": bytearray(content)} for content in contents]
