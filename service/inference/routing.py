"""Which version answers: a default, weights for a canary, a shadow. `affectgan serve --routing
FILE` reads a small YAML file:

affectgan:                     # the model's name default: "1.0" weights: {"1.0": 95, "1.1": 5}
shadow: {version: "1.1", share: 0.2}
"""

from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError, model_validator


class RoutingError(ValueError):
    """Routing that cannot be followed: names file or version, and the remedy."""


class Shadow(BaseModel):
    """A version that gets copies of requests; its answers are compared and discarded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str
    share: float = Field(
        default=1.0, gt=0, le=1, description="share of the requests that is copied"
    )


class Route(BaseModel):
    """How requests that name no version are spread over the versions of one model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    default: str
    weights: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(
        default={}, description="relative; empty: all to the default"
    )
    shadow: Shadow | None = None

    @model_validator(mode="after")
    def _some_weight(self) -> Self:
        if self.weights and not sum(self.weights.values()):
            raise ValueError("weights are all 0; give one version more")
        return self

    @property
    def shares(self) -> dict[str, float]:
        """Share of each version that gets any, in (0, 1]; they add up to 1."""
        weights = {version: weight for version, weight in self.weights.items() if weight} or {
            self.default: 1.0
        }
        return {version: weight / sum(weights.values()) for version, weight in weights.items()}

    @property
    def versions(self) -> set[str]:
        """Every version that it names."""
        return {self.default, *self.shares, *([self.shadow.version] if self.shadow else [])}


class Routing(RootModel[dict[str, Route]]):
    """The routes of a file by model name."""

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the file. Raises RoutingError."""
        try:
            return cls.model_validate(yaml.safe_load(path.read_text()) or {})
        except OSError as error:
            raise RoutingError(f"{path} cannot be read: {error.strerror}") from error
        except yaml.YAMLError as error:
            raise RoutingError(f"{path} is not YAML: {error}") from error
        except ValidationError as error:
            faults = "; ".join(
                f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()
            )
            raise RoutingError(
                f"{path} is no routing ({faults}); write versions in quotes, as in "
                "service/inference/routing.py"
            ) from error


NO_ROUTING = Routing({})
