"""openapi.yaml: written from the code, compared by a test. `python -m service.openapi [--check]`."""

import sys
from pathlib import Path
from typing import Any

import yaml
from pydantic.json_schema import models_json_schema

from affect.card import ModelCard
from service.app import BODY_MODELS, create_app
from service.settings import Settings

FILE = Path(__file__).parents[1] / "openapi.yaml"

SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, or a JWT of the operator's identity provider"},
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key"},
}


def document() -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    app = create_app(Settings(), backends=[])
    described = app.openapi()
    _, bodies = models_json_schema([(kind, "validation") for kind in BODY_MODELS], ref_template="#/components/schemas/{model}")
    described["components"]["schemas"] |= bodies["$defs"]
    described["components"]["schemas"].setdefault("ModelCard", ModelCard.model_json_schema(ref_template="#/components/schemas/{model}"))
    described["components"]["securitySchemes"] = SECURITY
    for unused in ("HTTPValidationError", "ValidationError"):  # ours are problems
        described["components"]["schemas"].pop(unused, None)
    refused = described["paths"]["/v1/predict"]["post"]["responses"]["422"]
    for path in described["paths"].values():
        for operation in path.values():
            if "422" in operation["responses"]:
                operation["responses"]["422"] = refused
    return described


def render() -> str:
    """The document as YAML."""
    return yaml.safe_dump(document(), sort_keys=False, allow_unicode=True, width=140)


def main() -> None:
    """Write the file, or with --check fail when it differs."""
    if "--check" in sys.argv:
        if FILE.read_text() != render():
            sys.exit(f"{FILE.name} differs from the code: run `python -m service.openapi`")
    else:
        FILE.write_text(render())


if __name__ == "__main__":
    main()
