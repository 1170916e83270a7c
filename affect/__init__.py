"""The shared kernel: vocabulary, labels, pictures, faces, networks, counterfactuals, wire, archive.

Everything that training, the TorchServe handlers and the gateway must agree on is here and nowhere
else. The modules catalogue, labels, card, images, faces, wire and archive do not import torch, so
the gateway stays light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from affect.client import AsyncClient as AsyncClient
    from affect.client import Client as Client
    from affect.local import Reader as Reader

__version__ = "0.1.0"
__all__ = ["AsyncClient", "Client", "Reader"]

# Imported when they are asked for: `import affect` stays free of torch and of the network.
_HOMES = {"Reader": "affect.local", "Client": "affect.client", "AsyncClient": "affect.client"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'affect' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
