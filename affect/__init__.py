"""The shared kernel: vocabulary, labels, pictures, faces, networks, counterfactuals, protocol.

Everything that training, the TorchServe handlers and the gateway must agree on is here and nowhere
else. The modules catalogue, labels, card, images, faces, archive, client and protocol.messages do
not import torch, so the gateway stays light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from affect.version import __version__ as __version__

if TYPE_CHECKING:
    from affect.client import AsyncClient as AsyncClient
    from affect.client import Client as Client
    from affect.local import Reader as Reader
    from affect.marking.verification import verify as verify

__all__ = ["AsyncClient", "Client", "Reader", "verify"]

# Imported on first use: `import affect` loads neither torch nor the HTTP client.
_HOMES = {
    "Reader": "affect.local",
    "Client": "affect.client",
    "AsyncClient": "affect.client",
    "verify": "affect.marking.verification",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'affect' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
