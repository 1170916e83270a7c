"""`affectgan predict|generate|explain`: the client, on files and folders."""

import base64
import json
import mimetypes
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
import orjson

URL = click.option(
    "--url",
    default="http://127.0.0.1:8000",
    show_default=True,
    envvar="AFFECTGAN_URL",
    help="the gateway",
)
KEY = click.option(
    "--key",
    envvar="AFFECTGAN_KEY",
    help="API key; better in the variable AFFECTGAN_KEY, where nobody sees it",
)
OUT = click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="folder for answers and pictures",
)
BATCH_IMAGES = 16
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
TIMEOUT_SECONDS = 180.0


class GatewayError(click.ClickException):
    """The gateway refused a whole request, or is not there."""


def ask(url: str, path: str, body: dict[str, Any], key: str | None = None) -> Any:
    """POST JSON; returns the answer. Raises GatewayError with the gateway's own words."""
    headers = {"Content-Type": "application/json"} | (
        {"Authorization": f"Bearer {key}"} if key else {}
    )
    request = urllib.request.Request(
        url.rstrip("/") + path, data=orjson.dumps(body), headers=headers
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            return orjson.loads(answer.read())
    except urllib.error.HTTPError as error:
        raise GatewayError(_words(error.read(), error.code)) from error
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise GatewayError(
            f"no answer from {url}: {getattr(error, 'reason', error)}; start it with `affectgan serve`"
        ) from error


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--faces", type=click.Choice(["largest", "all", "none"]), default="largest", show_default=True
)
@URL
@KEY
@OUT
def predict(
    paths: tuple[Path, ...], faces: str, url: str, key: str | None, out: Path | None
) -> None:
    """Read the faces of pictures; one JSON line each."""
    lines, failed = [], 0
    for files, results in _asked(url, "/v1/predict", paths, {"faces": faces}, key):
        for file, result in zip(files, results, strict=True):
            failed += result["status"] != "ok"
            lines.append(json.dumps({"file": str(file), **result}))
            click.echo(lines[-1])
    _finish(out, "predictions.jsonl", lines, failed)


@click.command()
@click.option(
    "--au",
    "aus",
    multiple=True,
    metavar="CODE=INTENSITY",
    help="wanted Action Unit, e.g. AU12=0.9; repeat for more",
)
@click.option("--valence", type=float)
@click.option("--arousal", type=float)
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="of the first face; the next ones count up",
)
@click.option("--count", type=click.IntRange(1, 64), default=1, show_default=True)
@click.option(
    "--reference",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="photograph of the person to keep",
)
@URL
@KEY
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True)
def generate(
    aus: tuple[str, ...],
    valence: float | None,
    arousal: float | None,
    seed: int,
    count: int,
    reference: Path | None,
    url: str,
    key: str | None,
    out: Path,
) -> None:
    """Draw faces in a wanted state."""
    item: dict[str, Any] = {"aus": dict(_intensity(text) for text in aus)}
    item |= {
        name: value
        for name, value in (("valence", valence), ("arousal", arousal))
        if value is not None
    }
    if reference is not None:
        item["reference"] = _content(reference)
    answer = ask(
        url,
        "/v1/generate",
        {"items": [{**item, "seed": seed + number} for number in range(count)]},
        key,
    )
    out.mkdir(parents=True, exist_ok=True)
    lines, failed = [], 0
    for result in answer["results"]:
        if result["status"] == "ok":
            picture = result.pop("image")
            result["file"] = str(_save(out / f"face-{result['seed']}", picture))
        failed += result["status"] != "ok"
        lines.append(json.dumps(result))
        click.echo(lines[-1])
    _finish(out, "faces.jsonl", lines, failed)


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--au", help="Action Unit to question, e.g. AU12")
@click.option(
    "--present/--absent", default=None, help="how it should be instead (default: otherwise)"
)
@click.option("--valence", type=float, help="wanted valence")
@click.option("--arousal", type=float, help="wanted arousal")
@click.option(
    "--family",
    type=click.Choice(["expression", "nuisance"]),
    default="expression",
    show_default=True,
    help="what may be changed",
)
@click.option(
    "--answers",
    type=click.IntRange(1, 4),
    default=1,
    show_default=True,
    help="different changes, the least one first",
)
@click.option(
    "--gradients", is_flag=True, help="Integrated Gradients too: which pixels made the decision"
)
@click.option(
    "--faces", type=click.Choice(["largest", "none"]), default="largest", show_default=True
)
@URL
@KEY
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True)
def explain(
    paths: tuple[Path, ...],
    au: str | None,
    present: bool | None,
    valence: float | None,
    arousal: float | None,
    family: str,
    answers: int,
    gradients: bool,
    faces: str,
    url: str,
    key: str | None,
    out: Path,
) -> None:
    """Show the least change to each face that changes a decision (default: the strongest one)."""
    question = {
        name: value
        for name, value in (
            ("au", au),
            ("present", present),
            ("valence", valence),
            ("arousal", arousal),
        )
        if value is not None
    }
    out.mkdir(parents=True, exist_ok=True)
    lines, failed = [], 0
    options = {
        "faces": faces,
        "question": question,
        "family": family,
        "answers": answers,
        "integrated_gradients": gradients,
    }
    for files, results in _asked(url, "/v1/explain", paths, options, key):
        for file, result in zip(files, results, strict=True):
            failed += result["status"] != "ok"
            if result["status"] == "ok":
                save_explanation(out / file.stem, result)
                for told in (result, *result["alternatives"]):
                    click.echo(f"{file}: {told['sentence']} (trust: {told['trust']['level']})")
            else:
                click.echo(
                    f"{file}: {result['error']['title']}: {result['error']['detail']}", err=True
                )
            lines.append(json.dumps({"file": str(file), **result}))
    _finish(out, "explanations.jsonl", lines, failed)


def save_explanation(stem: Path, result: dict[str, Any]) -> None:
    """Write an explanation's pictures as <stem>-*.png and take them out of the answer."""
    result["reconstruction"]["image"] = str(
        _save(Path(f"{stem}-reconstruction"), result["reconstruction"]["image"])
    )
    for number, told in enumerate((result, *result["alternatives"])):
        place = f"{stem}-{number + 1}" if number else f"{stem}"
        told["counterfactual"]["image"] = str(
            _save(Path(f"{place}-counterfactual"), told["counterfactual"]["image"])
        )
        told["map"] = {
            kind: str(_save(Path(f"{place}-map-{kind}"), picture))
            for kind, picture in told["map"].items()
        }
    if result["integrated_gradients"]:
        result["integrated_gradients"]["image"] = str(
            _save(Path(f"{stem}-gradients"), result["integrated_gradients"]["image"])
        )
    result["frames"] = [
        str(_save(Path(f"{stem}-frame-{number}"), picture))
        for number, picture in enumerate(result["frames"])
    ]


def _asked(
    url: str, path: str, paths: Iterable[Path], options: dict[str, Any], key: str | None
) -> Iterator[tuple[list[Path], list[dict[str, Any]]]]:
    files = [file for given in paths for file in _files(given)]
    if not files:
        raise click.ClickException(
            f"no picture found; give {', '.join(sorted(SUFFIXES))} files or folders of them"
        )
    starts = range(0, len(files), BATCH_IMAGES)
    with click.progressbar(starts, label=path, file=sys.stderr) as bar:
        for start in bar:
            part = files[start : start + BATCH_IMAGES]
            yield (
                part,
                ask(
                    url,
                    path,
                    {"images": [_content(file) for file in part], "options": options},
                    key,
                )["results"],
            )


def _files(path: Path) -> list[Path]:
    return (
        sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
        if path.is_dir()
        else [path]
    )


def _content(path: Path) -> dict[str, str]:
    return {"content": base64.b64encode(path.read_bytes()).decode()}


def _save(stem: Path, picture: dict[str, str]) -> Path:
    path = stem.with_name(stem.name + (mimetypes.guess_extension(picture["media_type"]) or ".png"))
    path.write_bytes(base64.b64decode(picture["content"]))
    return path


def _intensity(text: str) -> tuple[str, float]:
    code, _, value = text.partition("=")
    try:
        return code, float(value)
    except ValueError as error:
        raise click.BadParameter(f"{text!r}; write it as AU12=0.9", param_hint="--au") from error


def _finish(out: Path | None, name: str, lines: list[str], failed: int) -> None:
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("".join(f"{line}\n" for line in lines))
        click.echo(f"wrote {out / name}", err=True)
    if failed:
        raise click.ClickException(f"{failed} of {len(lines)} failed; each says why")


def _words(content: bytes, status: int) -> str:
    try:
        said = orjson.loads(content)
        return f"{said['title']}: {said['detail']}"
    except (orjson.JSONDecodeError, KeyError):
        return f"HTTP {status}"
