"""The whole way with a tiny model: render, train, archive, serve with TorchServe, and ask."""

import base64
import io
import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage.data import astronaut
from tritonclient import http as triton

from tests.support.gateway_process import serving
from tests.support.programs import output
from tests.support.waiting import LIMIT_SECONDS
from training.database.reader import Database

pytestmark = pytest.mark.processes


@dataclass
class Service:
    """A running `affectgan serve`, and the data that its model learnt from."""

    url: str
    data: Path

    def ask(self, path: str, body: Any = None) -> tuple[int, bytes]:
        content = None if body is None else json.dumps(body).encode()
        request = Request(self.url + path, content, {"Content-Type": "application/json"})
        try:
            with urlopen(request, timeout=LIMIT_SECONDS) as response:
                return response.status, response.read()
        except HTTPError as error:
            return error.code, error.read()

    def answer(self, path: str, body: Any) -> Any:
        status, content = self.ask(path, body)
        assert status == 200, content
        return json.loads(content)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("whole")
    data, run, models = folder / "data", folder / "run", folder / "models"
    small = ("--images", 128, "--size", 32, "--twins", 2, "--seed", 1, "--workers", 1)
    output("data", "render", "--out", data, *small)
    output("train", "--data", data, "--preset", "smoke", "--images", 1500, "--out", run)
    output("archive", run, "--out", models, "--uncalibrated")
    with serving("--models", models) as (program, url):
        yield Service(url, data)
        program.process.send_signal(signal.SIGINT)  # as Ctrl-C does
        assert program.ended() == 0, "".join(program.lines)


def png(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def sent(*contents: bytes) -> list[dict[str, str]]:
    return [{"content": base64.b64encode(content).decode()} for content in contents]


def rendered(service: Service, count: int) -> list[bytes]:
    database = Database.open(service.data)
    return [png(image) for image in database.images("train", np.arange(count), 32)]


def picture(drawn: dict[str, str]) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(drawn["content"]))).convert("RGB"))


def test_a_face_is_found_in_a_photograph_and_read(service: Service) -> None:
    result = service.answer("/v1/predict", {"images": sent(png(astronaut()))})["results"][0]
    assert result["status"] == "ok", result
    face = result["faces"][0]
    left, top, width, height = face["box"]
    assert left < 225 < left + width
    assert top < 110 < top + height
    assert -1 <= face["valence"] <= 1
    assert 0 <= face["aus"]["AU12"]["probability"] <= 1


def test_bad_pictures_among_good_ones_fail_alone(service: Service) -> None:
    valid = rendered(service, 62)
    pictures = [
        *valid[:20],
        valid[0][: len(valid[0]) // 2],
        *valid[20:40],
        b"no picture at all",
        *valid[40:],
    ]
    results = service.answer(
        "/v1/predict", {"images": sent(*pictures), "options": {"faces": "none"}}
    )["results"]
    assert [result["index"] for result in results] == list(range(64))
    assert [result["index"] for result in results if result["status"] == "error"] == [20, 41]
    assert all("detail" in results[index]["error"] for index in (20, 41))


def test_a_picture_reads_the_same_alone_and_in_company(service: Service) -> None:
    pictures = rendered(service, 5)
    together = service.answer(
        "/v1/predict", {"images": sent(*pictures), "options": {"faces": "none"}}
    )["results"][3]
    alone = service.answer(
        "/v1/predict", {"images": sent(pictures[3]), "options": {"faces": "none"}}
    )["results"][0]
    assert together["faces"][0]["valence"] == pytest.approx(alone["faces"][0]["valence"], abs=1e-4)


def test_a_client_of_the_open_inference_protocol_reads_the_same(service: Service) -> None:
    content = rendered(service, 1)[0]
    reference = service.answer(
        "/v1/predict", {"images": sent(content), "options": {"faces": "none"}}
    )["results"][0]["faces"][0]
    client = triton.InferenceServerClient(service.url.removeprefix("http://"))
    image = triton.InferInput("image", [1], "BYTES")
    image.set_data_from_numpy(np.array([content], dtype=object))
    va = client.infer("affectgan-predict", [image], parameters={"faces": "none"}).as_numpy("va")
    client.close()
    assert va[0] == pytest.approx([reference["valence"], reference["arousal"]], abs=1e-4)


def test_the_same_request_and_seed_give_the_same_picture(service: Service) -> None:
    body = {"items": [{"aus": {"AU12": 0.9}, "valence": 0.7, "seed": 7}, {"seed": 8}]}
    first, second = service.answer("/v1/generate", body), service.answer("/v1/generate", body)
    again = picture(second["results"][0]["image"])  # the same pixels: signatures differ
    assert np.array_equal(picture(first["results"][0]["image"]), again)
    assert first["results"][0]["requested"]["aus"]["AU12"] == pytest.approx(0.9)
    assert not np.array_equal(
        picture(first["results"][0]["image"]), picture(first["results"][1]["image"])
    )


def test_a_reference_keeps_the_person(service: Service) -> None:
    person = rendered(service, 1)[0]
    body = {"items": [{"aus": {"AU12": 1.0}, "reference": sent(person)[0]}], "faces": "none"}
    drawn = picture(service.answer("/v1/generate", body)["results"][0]["image"])
    original = np.asarray(Image.open(io.BytesIO(person)).convert("RGB"))
    assert np.abs(drawn.astype(int) - original).mean() < 40


def test_a_reading_is_explained_and_a_bad_picture_beside_it_is_not(service: Service) -> None:
    request = {
        "images": sent(rendered(service, 1)[0], b"no picture"),
        "options": {"faces": "none", "question": {"valence": 0.9}},
    }
    valid, bad = service.answer("/v1/explain", request)["results"]
    assert bad["status"] == "error"
    assert valid["status"] == "ok", valid
    assert (
        picture(valid["counterfactual"]["image"]).shape
        == picture(valid["reconstruction"]["image"]).shape
    )
    assert valid["trust"]["level"] in ("high", "medium", "low")
    assert valid["trust"]["reasons"]


def test_the_card_says_what_the_model_is(service: Service) -> None:
    card = json.loads(service.ask("/v1/models/affectgan")[1])
    assert card["preset"] == "smoke"
    assert card["image_px"] == 32
    assert card["data"]["images"] > 0


def test_an_unknown_field_is_refused_by_name(service: Service) -> None:
    status, content = service.ask("/v1/generate", {"items": [{"sed": 7}]})
    assert status == 422
    assert b"sed" in content
