"""The interface of a model server, and its errors.

TorchServe is one: service/backend/torchserve_client.py.
"""

from typing import ClassVar, Protocol

from affect.card import ModelCard
from affect.protocol.messages import (
    ExplainRequest,
    ExplainResponse,
    GenerateRequest,
    GenerateResponse,
    PredictRequest,
    PredictResponse,
)


class BackendError(Exception):
    """Base: the model server gave no answer. The text holds nothing of the request."""

    outcome: ClassVar[str] = "error"  # as metrics name it


class BackendUnavailable(BackendError):
    """There is no server or no worker, or it failed on this request."""

    outcome = "unavailable"


class BackendTimeout(BackendError):
    """No answer within the time the caller gave."""

    outcome = "timeout"


class BackendOverloaded(BackendError):
    """The operation's queue is full."""

    outcome = "overloaded"


class BackendRefused(BackendError):
    """The request does not fit the model that is served: names field, value and remedy."""

    outcome = "refused"

    def __init__(self, field: str, value: str, remedy: str) -> None:
        super().__init__(f"{field} is {value}; {remedy}")
        self.field, self.value, self.remedy = field, value, remedy


class Backend(Protocol):
    """One model, three operations. Every call raises BackendError."""

    async def card(self) -> ModelCard:
        """The card of the model that is served."""
        ...

    async def digest(self) -> str:
        """Identifies code, weights and settings, hexadecimal: equal digests give equal answers."""
        ...

    async def predict(self, request: PredictRequest, *, timeout_seconds: float) -> PredictResponse:
        """Read faces."""
        ...

    async def generate(
        self, request: GenerateRequest, *, timeout_seconds: float
    ) -> GenerateResponse:
        """Draw faces."""
        ...

    async def explain(self, request: ExplainRequest, *, timeout_seconds: float) -> ExplainResponse:
        """Explain what was read off faces."""
        ...

    async def ready(self) -> dict[str, bool]:
        """For each operation that has workers here whether one can serve it now; at most a second
        old.
        """
        ...
