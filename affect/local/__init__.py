"""The model in this process: reads, draws and explains pictures without a server. Needs the extra
`local`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from affect.local.reading import ActionUnit, LocalReading
from affect.local.readings import Readings

if TYPE_CHECKING:
    from affect.local.reader import Reader as Reader

__all__ = ["ActionUnit", "LocalReading", "Reader", "Readings"]


def __getattr__(name: str) -> Any:
    """The reader brings torch: who only handles tables does without."""
    if name != "Reader":
        raise AttributeError(f"module 'affect.local' has no attribute {name!r}")
    return import_module("affect.local.reader").Reader
