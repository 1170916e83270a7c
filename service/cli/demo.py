"""`affectgan demo`: the three operations on the shipped weights, over HTTP, with pictures to look at."""

import base64
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from affect.cli import command
from affect.images import decode
from service.cli.client import ask
from service.cli.serve import listen

EXAMPLES = Path(__file__).with_name("examples")
WEIGHTS = Path(__file__).parents[2] / "weights"
START_SECONDS = 150.0
AXIS = (-0.8, -0.4, 0.0, 0.4, 0.8)  # valence to the right, arousal upwards
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
    """Serve the shipped weights and ask them one of everything."""
    start = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    with served(weights, port) as (url, server):
        click.echo(f"serving on {url} after {time.monotonic() - start:.1f} s\n")
        for line in show(url, out):
            click.echo(line)
        click.echo(f"\nanswers and pictures: {out.resolve()}")
        if not once:
            click.echo(f"serving on; open {url} in a browser, stop with Ctrl-C")
            _wait(server)


@contextmanager
def served(weights: Path, port: int) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A server on the weights as a program of its own; its address once every operation is ready."""
    taken = listen("127.0.0.1", port)  # said now, not after TorchServe has started
    port = taken.getsockname()[1]
    taken.close()
    server = subprocess.Popen(command(["serve", "--weights", str(weights), "--port", str(port)]))
    url = f"http://127.0.0.1:{port}"
    try:
        _until_ready(url, server)
        yield url, server
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()


def show(url: str, out: Path) -> Iterator[str]:
    """One predict, one generate, one explain; yields what a person would want to read."""
    yield from _predicted(url, out)
    yield from _generated(url, out)
    yield from _explained(url, out)


def _predicted(url: str, out: Path) -> Iterator[str]:
    pictures = {"portrait": _portrait(out)} | {
        file.stem: file.read_bytes() for file in sorted(EXAMPLES.glob("*.png"))
    }
    start = time.perf_counter()
    found = ask(
        url,
        "/v1/predict",
        {"images": [_packed(content) for name, content in pictures.items() if name == "portrait"]},
    )["results"]
    crops = [_packed(content) for name, content in pictures.items() if name != "portrait"]
    if crops:
        found += ask(url, "/v1/predict", {"images": crops, "options": {"faces": "none"}})["results"]
    seconds = time.perf_counter() - start
    (out / "predict.json").write_text(json.dumps(dict(zip(pictures, found, strict=True)), indent=2))
    yield f"predict: {len(found)} pictures in {1000 * seconds:.0f} ms"
    for name, result in zip(pictures, found, strict=True):
        yield f"  {name:<12} {_told(result['faces'][0]) if result['status'] == 'ok' else result['error']['detail']}"


def _generated(url: str, out: Path) -> Iterator[str]:
    items = [
        {"valence": valence, "arousal": arousal, "seed": 16}
        for arousal in AXIS[::-1]
        for valence in AXIS
    ]
    start = time.perf_counter()
    results = ask(url, "/v1/generate", {"items": items})["results"]
    seconds = time.perf_counter() - start
    faces = [_unpacked(result["image"]) for result in results]
    _grid([faces[row * len(AXIS) : (row + 1) * len(AXIS)] for row in range(len(AXIS))]).save(
        out / "generate.png"
    )
    (out / "generate.json").write_text(
        json.dumps(
            [{k: v for k, v in result.items() if k != "image"} for result in results], indent=2
        )
    )
    asked, read = (
        np.array([[r[kind]["valence"], r[kind]["arousal"]] for r in results])
        for kind in ("requested", "measured")
    )
    agree = [float(np.corrcoef(asked[:, axis], read[:, axis])[0, 1]) for axis in range(2)]
    yield f"generate: {len(items)} faces in {1000 * seconds:.0f} ms -> generate.png (valence to the right, arousal upwards, one person)"
    yield f"  asked and read back: valence correlates {agree[0]:.2f}, arousal {agree[1]:.2f}"


def _explained(url: str, out: Path) -> Iterator[str]:
    start = time.perf_counter()
    result = ask(url, "/v1/explain", {"images": [_packed(_portrait(out))]})["results"][0]
    seconds = time.perf_counter() - start
    if result["status"] != "ok":
        yield f"explain: {result['error']['detail']}"
        return
    panels = [
        result["frames"][0],
        result["reconstruction"]["image"],
        result["counterfactual"]["image"],
        result["map"]["image"],
        result["map"]["signed"],
    ]
    _grid(
        [[_unpacked(panel) for panel in panels], [_unpacked(frame) for frame in result["frames"]]]
    ).save(out / "explain.png")
    slim = {k: v for k, v in result.items() if k not in ("frames", "map")}
    for name in ("reconstruction", "counterfactual"):
        slim[name] = {k: v for k, v in slim[name].items() if k != "image"}
    (out / "explain.json").write_text(json.dumps(slim, indent=2))
    yield f"explain: the portrait's strongest decision in {1000 * seconds:.0f} ms -> explain.png"
    yield "  upper row: face, redrawn, changed, map, signed map; lower row: the way there"
    yield f"  {result['sentence']}"
    yield f"  valid: {result['counterfactual']['valid']}; trust: {result['trust']['level']} ({'; '.join(result['trust']['reasons'])})"


def _portrait(out: Path) -> bytes:
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
    return path.read_bytes()


def _told(face: dict[str, Any]) -> str:
    seen = sorted(
        (code for code, au in face.get("aus", {}).items() if au["present"]),
        key=lambda code: int(code[2:]),
    )
    affect = "  ".join(
        f"{name} {face[name]:+.2f}" for name in ("valence", "arousal") if name in face
    )
    return f"{affect}  {' '.join(seen) or 'no Action Unit'}"


def _until_ready(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise click.ClickException(
                f"the server stopped with status {server.returncode}; its words are above"
            )
        if _ready(url):
            return
        time.sleep(0.1)
    raise click.ClickException(f"not ready within {START_SECONDS:.0f} s")


def _ready(url: str) -> bool:
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _wait(server: subprocess.Popen[bytes]) -> None:
    try:
        server.wait()
    except KeyboardInterrupt:
        click.echo("stopping")


def _packed(content: bytes) -> dict[str, str]:
    return {"content": base64.b64encode(content).decode()}


def _unpacked(picture: dict[str, str]) -> NDArray[np.uint8]:
    return decode(base64.b64decode(picture["content"]))


def _grid(rows: list[list[NDArray[np.uint8]]]) -> Image.Image:
    """Pictures in rows, each shown SHOWN_PX wide."""
    step = SHOWN_PX + GAP_PX
    sheet = Image.new(
        "RGB", (step * max(map(len, rows)) - GAP_PX, step * len(rows) - GAP_PX), "white"
    )
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            sheet.paste(
                Image.fromarray(picture).resize((SHOWN_PX, SHOWN_PX), Image.Resampling.BICUBIC),
                (x * step, y * step),
            )
    return sheet
