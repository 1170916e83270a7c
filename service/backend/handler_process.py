"""What a worker process of `--runtime process` does: the handler of an archive, as TorchServe runs
it, without TorchServe.

The archive brings its own `affect`, so code and weights agree here too. Nothing else of this
project may be imported in this module: it is loaded before the archive is.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from service.backend.child_process import configure_child

_loaded: dict[str, Any] = {}


@dataclass
class WorkerContext:
    """`affect.archive.Context`: what a handler receives, and the status it sets of each request."""

    model_yaml_config: dict[str, Any]
    system_properties: dict[str, Any]
    statuses: dict[int, int] = field(default_factory=dict)

    def set_response_status(self, code: int, phrase: str, idx: int) -> None:
        """HTTP status of one request; 200 by default."""
        self.statuses[idx] = code

    def set_response_content_type(self, idx: int, value: str) -> None:
        """Ignored: the content type follows from the status."""


def load(folder: str, operation: str, config: dict[str, Any], gpu: int | None) -> int:
    """Import and initialise the handler, unless that is done; this process's id.

    Raises what the handler raises: CardError, JudgeError.
    """
    if "handler" not in _loaded:
        configure_child()
        os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        for name in [name for name in sys.modules if name.partition(".")[0] == "affect"]:
            del sys.modules[name]  # of the command that started us
        sys.path.insert(0, folder)
        module = importlib.import_module(operation)
        handler = getattr(module, f"{operation.capitalize()}Handler")()
        handler.initialize(_context(folder, config, gpu))
        _loaded["handler"] = handler
    return os.getpid()


def run(
    folder: str, operation: str, config: dict[str, Any], gpu: int | None, bodies: Sequence[bytes]
) -> list[tuple[int, bytes]]:
    """Status and body of the answer to each request of a batch."""
    load(folder, operation, config, gpu)
    context = _context(folder, config, gpu)
    answers = _loaded["handler"].handle([{"body": body} for body in bodies], context)
    return [(context.statuses.get(index, 200), body) for index, body in enumerate(answers)]


def _context(folder: str, config: dict[str, Any], gpu: int | None) -> WorkerContext:
    return WorkerContext(config, {"model_dir": folder, "gpu_id": gpu})
