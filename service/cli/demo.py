"""`affectgan demo`: the three operations on the shipped weights, over HTTP, with pictures."""

import json
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel

from affect.answers import ExplainResult, GenerateResult, Picture, PredictResult
from affect.cli import command
from affect.client import ApiError, Client
from affect.images import decode
from affect.picture_grid import picture_grid
from service.cli.server import listen

EXAMPLES = Path(__file__).with_name("examples")
WEIGHTS = Path(__file__).parents[2] / "weights"
START_SECONDS, STOP_SECONDS = 150.0, 30.0
POLL_SECONDS = 0.1
AXIS = (-0.8, -0.4, 0.0, 0.4, 0.8)  # valence to the right, arousal upwards
SEED = 16
SHOWN_PX = 128
GAP_PX = 4


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo"),
    show_default=True,
    help="answers and pictures",
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path, file_okay=False),
    default=WEIGHTS,
    show_default="the shipped ones",
)
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True)
@click.option("--once", is_flag=True, help="stop after the answers instead of serving on")
def demo(out: Path, weights: Path, port: int, once: bool) -> None:
    """Serve the shipped weights and request one of everything."""
    start = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    with running_server(weights, port) as (url, server), Client(url) as client:
        click.echo(f"serving on {url} after {time.monotonic() - start:.1f} s\n")
        for line in show(client, out):
            click.echo(line)
        click.echo(f"\nanswers and pictures: {out.resolve()}")
        if not once:
            click.echo(f"serving on; open {url} in a browser, stop with Ctrl-C")
            _wait(server)


@contextmanager
def running_server(weights: Path, port: int) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A server on the weights as a program of its own; its address, once it is ready.

    Raises ClickException.
    """
    # A port in use is reported now, not after TorchServe has started.
    free = listen("127.0.0.1", port)
    port = free.getsockname()[1]
    free.close()
    arguments = ["serve", "--weights", str(weights), "--port", str(port)]
    server = subprocess.Popen(command(arguments))
    url = f"http://127.0.0.1:{port}"
    try:
        _until_ready(url, server)
        yield url, server
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()


def show(client: Client, out: Path) -> Iterator[str]:
    """One predict, one generate, one explain; yields lines for people.

    Raises ClickException when a whole request is refused.
    """
    try:
        portrait = _portrait(out)
        yield from _predict(client, portrait, out)
        yield from _generate(client, out)
        yield from _explain(client, portrait, out)
    except ApiError as error:
        raise click.ClickException(str(error)) from error


def _predict(client: Client, portrait: Path, out: Path) -> Iterator[str]:
    examples = sorted(EXAMPLES.glob("*.png"))
    start = time.perf_counter()
    results = [*client.predict(portrait).results, *client.predict(examples, faces="none").results]
    seconds = time.perf_counter() - start
    results_by_name = dict(zip([path.stem for path in (portrait, *examples)], results, strict=True))
    _write_json(
        out / "predict.json", {name: _as_json(result) for name, result in results_by_name.items()}
    )
    yield f"predict: {len(results_by_name)} pictures in {1000 * seconds:.0f} ms"
    for name, result in results_by_name.items():
        yield f"  {name:<12} {_summary(result)}"


def _generate(client: Client, out: Path) -> Iterator[str]:
    targets = [(valence, arousal) for arousal in AXIS[::-1] for valence in AXIS]
    items = [{"valence": v, "arousal": a, "seed": SEED} for v, a in targets]
    start = time.perf_counter()
    results = client.generate(items).results
    seconds = time.perf_counter() - start
    _save_sheet(out / "generate.png", [result.image for result in results], len(AXIS))
    _write_json(out / "generate.json", [_as_json(result, "image") for result in results])
    yield (
        f"generate: {len(items)} faces in {1000 * seconds:.0f} ms -> generate.png "
        "(valence to the right, arousal upwards, one person)"
    )
    valence, arousal = _agreement(targets, results)
    yield f"  wanted and read back: valence correlates {valence:.2f}, arousal {arousal:.2f}"


def _explain(client: Client, portrait: Path, out: Path) -> Iterator[str]:
    start = time.perf_counter()
    result = client.explain(portrait).results[0]
    seconds = time.perf_counter() - start
    if result.error is not None:
        yield f"explain: {result.error.detail}"
        return
    assert result.trust is not None and result.counterfactual is not None
    _save_explanation(out, result)
    yield (
        f"explain: the portrait's strongest decision in {1000 * seconds:.0f} ms -> explain.png\n"
        "  upper row: face, redrawn, changed, map, signed map; lower row: the way there"
    )
    yield f"  {result.sentence}"
    reasons = "; ".join(result.trust.reasons)
    yield f"  valid: {result.counterfactual.valid}; trust: {result.trust.level} ({reasons})"


def _save_explanation(out: Path, result: ExplainResult) -> None:
    assert result.frames and result.reconstruction and result.counterfactual and result.map
    images = result.reconstruction.image, result.counterfactual.image
    upper = [result.frames[0], *images, result.map.image, result.map.signed]
    _save_sheet(out / "explain.png", [*upper, *result.frames], len(upper))
    slim = _as_json(result, "frames", "map")
    for name in ("reconstruction", "counterfactual"):
        del slim[name]["image"]
    _write_json(out / "explain.json", slim)


def _portrait(out: Path) -> Path:
    """Eileen Collins, NASA, public domain: the photograph that scikit-image ships."""
    try:
        from skimage import data
    except ImportError as error:
        raise click.ClickException(
            "the demo's portrait needs scikit-image: pip install 'affectgan[demo]'"
        ) from error
    path = out / "portrait.jpg"
    if not path.exists():
        picture: NDArray[np.uint8] = data.astronaut()
        Image.fromarray(picture).save(path, quality=92)
    return path


def _summary(result: PredictResult) -> str:
    """The first face of a picture in a line, or why there is none."""
    if result.error is not None:
        return result.error.detail
    if not result.faces:
        return "no face"
    face = result.faces[0]
    values = {"valence": face.valence, "arousal": face.arousal}
    va = "  ".join(f"{name} {value:+.2f}" for name, value in values.items() if value is not None)
    present = [code for code, au in face.aus.items() if au.present]
    return f"{va}  {' '.join(sorted(present, key=_au_number)) or 'no Action Unit'}"


def _au_number(code: str) -> int:
    return int(code.removeprefix("AU"))


def _agreement(
    targets: Sequence[tuple[float, float]], results: Sequence[GenerateResult]
) -> list[float]:
    """Pearson's correlation of requested and measured values: valence, arousal."""
    measured = [result.measured for result in results]
    read = [(face.valence, face.arousal) for face in measured if face is not None]
    target_columns, read_columns = np.array(targets).T, np.array(read, float).T
    pairs = zip(target_columns, read_columns, strict=True)
    return [float(np.corrcoef(target, measured_values)[0, 1]) for target, measured_values in pairs]


def _until_ready(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    with Client(url) as client:
        while not _ready(client):
            if server.poll() is not None:
                raise click.ClickException(
                    f"the server stopped with status {server.returncode}; it says why above"
                )
            if time.monotonic() > deadline:
                raise click.ClickException(f"not ready within {START_SECONDS:.0f} s")
            time.sleep(POLL_SECONDS)


def _ready(client: Client) -> bool:
    try:
        return client.ready()
    except ApiError:  # the server does not listen yet
        return False


def _wait(server: subprocess.Popen[bytes]) -> None:
    try:
        server.wait()
    except KeyboardInterrupt:
        click.echo("stopping")


def _save_sheet(path: Path, pictures: Sequence[Picture | None], columns: int) -> None:
    """Pictures in rows, each shown SHOWN_PX wide."""
    side = (SHOWN_PX, SHOWN_PX)
    images = [Image.fromarray(decode(one.to_bytes())) for one in pictures if one is not None]
    enlarged = [np.asarray(image.resize(side, Image.Resampling.BICUBIC)) for image in images]
    Image.fromarray(picture_grid(enlarged, columns, gap_px=GAP_PX)).save(path)


def _as_json(result: BaseModel, *without: str) -> dict[str, Any]:
    return result.model_dump(mode="json", by_alias=True, exclude=set(without), exclude_unset=True)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2))
