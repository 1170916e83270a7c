"""Pages of the book that are made from what they describe: the interface, commands, settings,
cards, notebooks.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from affect.cli import cli
from service.settings import Settings

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
Json = Mapping[str, Any]


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Called by MkDocs first: every decision is a page, and no page is forgotten."""
    assert config.nav is not None
    placed = yaml.safe_dump(config.nav)
    forgotten = [path.name for path in sorted(DOCS.glob("*.md")) if path.name not in placed]
    pages = [f"decisions/{path.name}" for path in sorted((DOCS / "decisions").glob("[0-9]*.md"))]
    if forgotten:
        config.nav.append({"More": forgotten})
    config.nav.append({"Decisions": ["decisions/index.md", *pages]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Called by MkDocs when it has collected the files: add ours."""
    pages = {
        "reference/http.md": http_reference(yaml.safe_load((ROOT / "openapi.yaml").read_text())),
        "reference/commands.md": command_reference(),
        "reference/settings.md": settings_reference(),
        "model-card.md": model_card(json.loads((ROOT / "weights" / "card.json").read_text())),
        "training.md": notebook(json.loads((DOCS / "notebooks" / "training.ipynb").read_text())),
        "video.md": notebook(json.loads((DOCS / "notebooks" / "video.ipynb").read_text())),
        "decisions/index.md": decisions(),
    }
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    return files


def http_reference(document: Json) -> str:
    """Every operation with its forms, parameters and answers, then every schema."""
    parts = [
        "# HTTP\n\nMade from `openapi.yaml`, which is made from the code. A running gateway shows "
        "it "
        "at `/docs` (to try) and `/redoc` (to read), and serves it at `/openapi.json`.\n"
    ]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts.append(_operation(method.upper(), path, operation))
    parts.append("## Schemas\n")
    for name, schema in document["components"]["schemas"].items():
        parts.append(_schema(name, schema))
    return "\n".join(parts)


def _operation(method: str, path: str, operation: Json) -> str:
    lines = [
        f"## {operation['summary']}\n",
        f"`{method} {path}` · operation `{operation['operationId']}`\n",
    ]
    lines.append(operation.get("description", ""))
    if "requestBody" in operation:
        content = operation["requestBody"]["content"]
        lines += ["\n| body | schema |\n|---|---|"]
        lines += [f"| `{kind}` | {_type(facts['schema'])} |" for kind, facts in content.items()]
    if operation.get("parameters"):
        lines += ["\n| parameter | in | type | |\n|---|---|---|---|"]
        for one in operation["parameters"]:
            text = _cell(one.get("description", ""))
            lines.append(f"| `{one['name']}` | {one['in']} | {_type(one['schema'])} | {text} |")
    lines += ["\n| status | |\n|---|---|"]
    for status, answer in operation["responses"].items():
        kinds = [
            _type(facts["schema"])
            for facts in answer.get("content", {}).values()
            if "schema" in facts
        ]
        shown = f": {' or '.join(dict.fromkeys(kinds))}" if kinds and status.startswith("2") else ""
        lines.append(f"| {status} | {_cell(answer['description'])}{shown} |")
    return "\n".join(lines) + "\n"


def _schema(name: str, schema: Json) -> str:
    lines = [f"### {name}\n", schema.get("description", "") + "\n"]
    fields = schema.get("properties", {})
    if not fields:
        return "\n".join(lines)
    required = schema.get("required", [])
    lines.append("| field | type | |\n|---|---|---|")
    for field, facts in fields.items():
        needed = "" if field in required else " *optional*"
        lines.append(
            f"| `{field}`{needed} | {_type(facts)} | {_cell(facts.get('description', ''))} |"
        )
    return "\n".join(lines) + "\n"


def _type(schema: Json) -> str:
    """A type in a few words, with a link where it is a schema of ours."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema.get("format") == "binary":
        return "the file's bytes"
    if "properties" in schema:
        return "form with " + ", ".join(f"`{name}`" for name in schema["properties"])
    kind = schema.get("type", "anything")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"{_type(schema['additionalProperties'])} by name"
    low, high = schema.get("minimum"), schema.get("maximum")
    return f"{kind} {low}..{high}" if low is not None and high is not None else str(kind)


def command_reference() -> str:
    """`--help` of every command."""
    parts = ["# Commands\n\nWhat `--help` says, of every command.\n"]
    for name, command in _commands("affectgan", cli):
        context = click.Context(command, info_name=name, max_content_width=88)
        parts.append(f"## {name}\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


def _commands(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield name, command
        return
    context = click.Context(command)
    for sub in command.list_commands(context):
        subcommand = command.get_command(context, sub)
        if subcommand is not None:
            yield from _commands(f"{name} {sub}", subcommand)


def settings_reference() -> str:
    """Every variable of the gateway."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        shown = "" if default in (None, (), "") else f"`{default}`"
        rows.append(f"| `AFFECTGAN_{name.upper()}` | {shown} | {_cell(field.description or '')} |")
    head = (
        "# Settings\n\nThe gateway reads variables of its environment, and files of the same name "
        "in "
        "`AFFECTGAN_SECRETS_DIR`.\n\n| variable | default | |\n|---|---|---|\n"
    )
    return head + "\n".join(rows) + "\n"


def model_card(card: Json) -> str:
    """The card that lies beside the shipped weights, for people (after Mitchell et al. 2019)."""
    data = card["data"]
    lines = [
        f"# Model card: {card['name']} {card['version']}\n",
        "Made from `weights/card.json`, which every archive and every answer's version carries.\n",
        "## What it is for\n",
        *(f"- {use}" for use in card["intended_use"]),
        "\n## What it is not for\n",
        *(f"- {limit}" for limit in card["limits"]),
        "\n## What it knows\n",
        f"- Labels: `{card['labels']}`; pictures: aligned crops of {card['image_px']} px.",
        f"- Action Units: {', '.join(card['vocabulary'])}.",
        f"- Nuisances that may be asked about: {'; '.join(card['nuisances'])}.",
        "\n## What it learnt from\n",
        f"- Database `{data['name']}`: {data['images']:,} pictures of "
        f"{', '.join(data['sources'])}.",
        f"- Licence: {data['licence']}.",
        f"- Preset `{card['preset']}`, {card['seen_images']:,} pictures seen, seed {card['seed']}.",
        f"- Weights: {card['licence']}, SHA-256 `{card['digest']}`.",
        "\n## What was measured\n",
        "95 % intervals over people. [How to read a report](report.md) says what the names mean.\n",
        "| figure | value | interval | split |\n|---|---|---|---|",
    ]
    for name, figure in card["quality"].items():
        interval = f"{figure['low']} to {figure['high']}" if figure.get("low") is not None else ""
        lines.append(f"| `{name}` | {figure['value']} | {interval} | {figure['split']} |")
    lines += [
        "\n## From when on an Action Unit counts as present\n",
        "| | probability |\n|---|---|",
    ]
    lines += [f"| {code} | {one['threshold']:.3f} |" for code, one in card["calibration"].items()]
    return "\n".join(lines) + "\n"


def notebook(content: Json) -> str:
    """A notebook as a page: its words, and its code without what it printed."""
    parts = []
    for cell in content["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(text)
        elif text.startswith("%%sh\n"):
            commands = text.removeprefix("%%sh\n").removeprefix("set -e\n")
            parts.append(f"```sh\n{commands}\n```")
        else:
            parts.append(f"```python\n{text}\n```")
    return "\n\n".join(parts) + "\n"


def decisions() -> str:
    """Titles of the decisions, in order."""
    rows = []
    for path in sorted((DOCS / "decisions").glob("[0-9]*.md")):
        title = re.search(r"^# (.+)$", path.read_text(), re.M)
        rows.append(f"- {path.stem[:4]} [{title.group(1) if title else path.stem}]({path.name})")
    return (
        "# Decisions\n\nWhy things are as they are: context, decision, consequences, what was "
        "rejected. One page each.\n\n" + "\n".join(rows) + "\n"
    )


def _cell(text: str) -> str:
    """Text that fits a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")
