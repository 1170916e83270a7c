"""The Open Inference Protocol, spoken by NVIDIA's own client."""

import base64
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tritonclient import http as triton
from tritonclient.utils import InferenceServerException

from affect.batches import predict
from service.settings import Settings
from tests.support.gateway import Gateway, open_gateway

SIDE = 32


@pytest.fixture
def client(gateway: Gateway) -> Iterator[triton.InferenceServerClient]:
    opened = triton.InferenceServerClient(gateway.url.removeprefix("http://"))
    yield opened
    opened.close()


def _face(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def _png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def _tensor(name: str, values: Any, datatype: str, *, binary: bool = True) -> triton.InferInput:
    array = np.array(values, dtype=object) if datatype == "BYTES" else np.asarray(values)
    tensor = triton.InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def test_the_server_and_its_models_have_metadata(client: triton.InferenceServerClient) -> None:
    assert (
        client.is_server_live()
        and client.is_server_ready()
        and client.is_model_ready("affectgan-predict", "1.0")
    )
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    response = client.get_model_metadata("affectgan-generate")
    columns = len(response["parameters"]["aus"].split(","))
    assert (
        response["versions"] == ["1.0"]
        and {"name": "aus", "datatype": "FP32", "shape": [-1, columns]} in response["inputs"]
    )


@pytest.mark.parametrize("binary", [True, False])
def test_pixels_are_read_as_v1_reads_their_picture(
    client: triton.InferenceServerClient, gateway: Gateway, binary: bool
) -> None:
    faces = np.stack([_face(0), _face(1)])
    outputs = [
        triton.InferRequestedOutput(name, binary_data=binary)
        for name in ("aus", "va", "present", "error")
    ]
    response = client.infer(
        "affectgan-predict",
        [_tensor("image", faces, "UINT8", binary=binary)],
        outputs=outputs,
        request_id="7",
    )
    assert response.get_response()["id"] == "7" and list(response.as_numpy("error")) in (
        [b"", b""],
        ["", ""],
    )
    images = [{"content": base64.b64encode(_png(face)).decode()} for face in faces]
    results = gateway.post("/v1/predict", {"images": images, "options": {"faces": "none"}}).json[
        "results"
    ]
    aus = [
        [reading["probability"] for reading in row["faces"][0]["aus"].values()] for row in results
    ]
    assert response.as_numpy("aus") == pytest.approx(np.array(aus), abs=1e-4)
    assert response.as_numpy("va")[:, 0] == pytest.approx(
        [row["faces"][0]["valence"] for row in results], abs=1e-4
    )
    assert response.as_numpy("present").dtype == np.bool_


def test_numbers_have_every_digit_that_the_model_gave(
    client: triton.InferenceServerClient, gateway: Gateway
) -> None:
    faces = np.stack([_face(0), _face(1)])
    response = client.infer("affectgan-predict", [_tensor("image", faces, "UINT8")])
    read = predict(gateway.backend.model, faces, (1, 8, 64))
    assert np.array_equal(response.as_numpy("aus"), read.probability)
    assert np.array_equal(response.as_numpy("va"), read.va)
    assert np.array_equal(response.as_numpy("realism"), read.realism)


def test_a_broken_picture_fails_alone(client: triton.InferenceServerClient) -> None:
    pictures = [_png(_face()), b"no picture", _png(_face(1))]
    response = client.infer(
        "affectgan-predict", [_tensor("image", pictures, "BYTES")], parameters={"faces": "none"}
    )
    errors = response.as_numpy("error")
    assert errors[0] == errors[2] == b"" and errors[1].startswith(b"Not an image")
    va = response.as_numpy("va")
    assert np.isfinite(va[[0, 2]]).all() and np.isnan(va[1]).all()


def test_values_of_a_failed_row_are_null_in_json(client: triton.InferenceServerClient) -> None:
    outputs = [triton.InferRequestedOutput("va", binary_data=False)]
    response = client.infer(
        "affectgan-predict", [_tensor("image", [b"no picture"], "BYTES")], outputs=outputs
    )
    assert response.get_response()["outputs"][0]["data"] == [None, None]


def test_faces_are_drawn_for_tensors_of_requested_labels(
    client: triton.InferenceServerClient,
) -> None:
    columns = len(client.get_model_metadata("affectgan-generate")["parameters"]["aus"].split(","))
    aus = np.full((3, columns), np.nan, np.float32)
    aus[:, 0] = 0.9
    inputs = [
        _tensor("aus", aus, "FP32"),
        _tensor("va", np.array([[0.5, 0.1], [np.nan, 0.2], [np.nan, np.nan]], np.float32), "FP32"),
        _tensor("seed", np.array([1, 1, 2], np.int64), "INT64"),
        _tensor("reference", [_png(_face()), b"", b"broken"], "BYTES"),
    ]
    response = client.infer("affectgan-generate", inputs, parameters={"faces": "none"})
    first, second = (
        np.asarray(Image.open(io.BytesIO(response.as_numpy("image")[row]))) for row in (0, 1)
    )
    assert first.shape == second.shape == (SIDE, SIDE, 3) and list(
        response.as_numpy("seed")[:2]
    ) == [
        1,
        1,
    ]
    assert (
        response.as_numpy("error")[0] == b""
        and response.as_numpy("error")[2] != b""
        and response.as_numpy("image")[2] == b""
    )


def test_a_question_is_answered_in_pictures_words_and_figures(
    client: triton.InferenceServerClient,
) -> None:
    response = client.infer(
        "affectgan-explain",
        [_tensor("image", np.stack([_face(), _face(1)]), "UINT8")],
        parameters={"valence": 0.9},
    )
    assert list(response.as_numpy("label")) == [b"valence"] * 2 and response.as_numpy(
        "valid"
    ).shape == (2,)
    assert Image.open(io.BytesIO(response.as_numpy("counterfactual")[0])).size == (SIDE, SIDE)
    assert response.as_numpy("sentence")[0] and response.as_numpy("trust")[0] in (
        b"high",
        b"medium",
        b"low",
    )
    assert np.isfinite(response.as_numpy("counterfactual_va")).all()


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (
            [_tensor("image", np.zeros((1, SIDE, SIDE), np.uint8), "UINT8")],
            r"inputs\[0\].shape .*\[-1, -1, -1, 3\]",
        ),
        (
            [_tensor("image", np.zeros((1, 2), np.float32), "FP32")],
            r"inputs\[0\].datatype .*BYTES or UINT8",
        ),
        ([_tensor("picture", [b""], "BYTES")], r"inputs\[0\].name .*there is image"),
    ],
)
def test_a_wrong_tensor_is_named(
    client: triton.InferenceServerClient, inputs: list[triton.InferInput], words: str
) -> None:
    with pytest.raises(InferenceServerException, match=words):
        client.infer("affectgan-predict", inputs)


def test_an_unknown_model_output_or_parameter_is_named(
    client: triton.InferenceServerClient,
) -> None:
    face = _tensor("image", [_png(_face())], "BYTES")
    with pytest.raises(InferenceServerException, match="there is affectgan-predict"):
        client.infer("resnet", [face])
    with pytest.raises(InferenceServerException, match="no version '9'"):
        client.infer("affectgan-predict", [face], model_version="9")
    with pytest.raises(InferenceServerException, match="unknown output; there is aus"):
        client.infer("affectgan-predict", [face], outputs=[triton.InferRequestedOutput("logits")])
    with pytest.raises(InferenceServerException, match="unknown parameter; there is faces"):
        client.infer("affectgan-predict", [face], parameters={"temperature": 1})


@pytest.mark.parametrize(
    ("head", "rest", "words"),
    [
        (
            '{"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "parameters": '
            '{"binary_data_size": 9}}]}',
            b"123",
            "3 bytes are left",
        ),
        (
            '{"inputs": [{"name": "image", "shape": [2], "datatype": "BYTES", "parameters": '
            '{"binary_data_size": 5}}]}',
            b"\1\0\0\0a",
            "wants 2",
        ),
        (
            '{"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "parameters": '
            '{"binary_data_size": 5}}]}',
            b"\2\0\0\0a",
            "a length of four",
        ),
        (
            '{"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [5]}]}',
            b"",
            "base64",
        ),
        ('{"inputs": []}', b"extra", "belong to no tensor"),
        ("{", b"", "not JSON"),
    ],
)
def test_a_message_that_does_not_add_up_is_refused(
    gateway: Gateway, head: str, rest: bytes, words: str
) -> None:
    length = {"Inference-Header-Content-Length": str(len(head))}
    reply = gateway.post(
        "/v2/models/affectgan-predict/infer",
        head.encode() + rest,
        kind="application/octet-stream",
        **length,
    )
    assert reply.status in (400, 422) and words in reply.json["error"]


def test_keys_and_quotas_hold_here_too(tmp_path: Any) -> None:
    with open_gateway(Settings(quota_requests=1, quota_seconds=60)) as gateway:
        client = triton.InferenceServerClient(gateway.url.removeprefix("http://"))
        face = _tensor("image", [_png(_face())], "BYTES")
        client.infer("affectgan-predict", [face], parameters={"faces": "none"})
        with pytest.raises(InferenceServerException, match="Quota exceeded"):
            client.infer("affectgan-predict", [face], parameters={"faces": "none"})
        client.close()


def test_the_same_tensors_are_answered_from_the_cache(tmp_path: Any) -> None:
    with open_gateway(Settings(cache_bytes=2**20)) as gateway:
        client = triton.InferenceServerClient(gateway.url.removeprefix("http://"))
        response = [
            client.infer(
                "affectgan-predict", [_tensor("image", np.stack([_face()]), "UINT8")]
            ).as_numpy("aus")
            for _ in range(2)
        ]
        assert np.array_equal(*response) and gateway.backend.predicted == [1]
        client.close()
