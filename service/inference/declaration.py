"""Which versions are served, declared in a file that every gateway follows
(`affectgan serve --versions FILE`; on Kubernetes a ConfigMap):

    affectgan:                      # the model's name
      versions:
        "1.0": /models/1.0          # a folder, or a reference pinned by digest
        "1.1": oci://registry.example/affectgan:1.1@sha256:...
      default: "1.1"
      weights: {"1.0": 95, "1.1": 5}          # as in service/inference/routing.py
      shadow: {version: "1.0", share: 0.1}

The writer and the reader of the file are here.
"""

from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError, model_validator

from service.inference.routing import Route, Routing, RoutingError, Shadow


class DeclaredModel(BaseModel):
    """The versions of one model, by reference, and how requests are spread over them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    versions: dict[str, str] = Field(min_length=1)
    default: str
    weights: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(default={})
    shadow: Shadow | None = None

    @model_validator(mode="after")
    def _routes_to_what_is_there(self) -> Self:
        missing = sorted(self.route.versions - set(self.versions))
        if missing:
            raise ValueError(f"{missing[0]!r} is routed to and not among its versions")
        return self

    @property
    def route(self) -> Route:
        """Of its requests."""
        return Route(default=self.default, weights=self.weights, shadow=self.shadow)


class Declaration(RootModel[dict[str, DeclaredModel]]):
    """The file. The first model answers requests that name none."""

    @classmethod
    def parse(cls, text: str, source: str) -> Self:
        """Raises RoutingError."""
        try:
            declared = cls.model_validate(yaml.safe_load(text))
        except yaml.YAMLError as error:
            problem = getattr(error, "problem", "unreadable")
            raise RoutingError(f"{source} is not YAML: {problem}") from error
        except ValidationError as error:
            faults = "; ".join(
                f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()
            )
            raise RoutingError(f"{source} declares no versions ({faults})") from error
        if not declared.root:
            raise RoutingError(f"{source} declares no model; write at least one")
        return declared

    @property
    def routing(self) -> Routing:
        """Of all models."""
        return Routing({name: model.route for name, model in self.root.items()})

    @property
    def references(self) -> dict[tuple[str, str], str]:
        """By name and version, defaults first."""
        return {
            (name, version): reference
            for name, model in self.root.items()
            for version, reference in sorted(
                model.versions.items(), key=lambda item: item[0] != model.default
            )
        }

    def swapped(self, name: str, version: str, reference: str) -> "Declaration":
        """With this version in the place of the model's default one."""
        current = self.root.get(name)
        versions = dict(current.versions) if current else {}
        if current is not None and current.default != version:
            versions.pop(current.default)
        model = DeclaredModel(versions={**versions, version: reference}, default=version)
        return Declaration({**self.root, name: model})

    def save(self, path: Path) -> None:
        """Replace the file atomically: readers see the old one or the new one."""
        unfinished = path.with_name(path.name + ".new")
        content = self.model_dump(mode="json", exclude_defaults=True)
        unfinished.write_text(yaml.safe_dump(content, sort_keys=False))
        unfinished.replace(path)
