"""openapi.yaml: written from the code, compared by a test. `python -m service.api.openapi
[--check]`.
"""

import sys
from pathlib import Path
from typing import Any

import yaml

from service.api.app import create_app
from service.settings import Settings

FILE = Path(__file__).parents[2] / "openapi.yaml"


def document() -> dict[str, Any]:
    """The OpenAPI 3.1 document, as /openapi.json has it."""
    return create_app(Settings(), backends=[]).openapi()


class _Plain(yaml.SafeDumper):
    """Without anchors, which few readers of OpenAPI expect."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def render() -> str:
    """The document as YAML."""
    return yaml.dump(document(), Dumper=_Plain, sort_keys=False, allow_unicode=True, width=140)


def main() -> None:
    """Write the file, or with --check fail when it differs."""
    if "--check" in sys.argv:
        if FILE.read_text() != render():
            sys.exit(f"{FILE.name} differs from the code: run `python -m service.api.openapi`")
    else:
        FILE.write_text(render())


if __name__ == "__main__":
    main()
