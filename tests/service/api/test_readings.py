"""Expression, pose and sides over HTTP, from a model that reads them."""

from collections.abc import Iterator

import numpy as np
import pytest
import skimage.transform
from skimage import data
from tritonclient import http as triton

from service.settings import Settings
from tests.support.gateway import Gateway, serve
from tests.support.pictures import encoded


@pytest.fixture(scope="module")
def reading_gateway() -> Iterator[Gateway]:
    yield from serve(Settings(), reader=True)


def test_a_face_has_expression_pose_and_sides(reading_gateway: Gateway) -> None:
    reply = reading_gateway.post("/v1/predict", encoded(data.astronaut()), kind="image/png")
    (face,) = reply.json["results"][0]["faces"]
    assert face["expression"]["label"] in face["expression"]["probabilities"]
    assert set(face["pose"]) == {"yaw", "pitch", "roll"}
    assert {"left", "right"} <= set(face["aus"]["AU12"])
    assert "left" not in face["aus"]["AU25"]


def test_a_small_face_and_a_strange_one_are_warned_about(reading_gateway: Gateway) -> None:
    small = skimage.transform.resize(data.astronaut(), (128, 128), preserve_range=True)
    picture = encoded(small.astype(np.uint8))
    (face,) = reading_gateway.post("/v1/predict", picture, kind="image/png").json["results"][0][
        "faces"
    ]
    warnings = {warning["code"]: warning["detail"] for warning in face["warnings"]}
    assert face["box"][2] < 40 and f"{face['box'][2]:.0f} px" in warnings["small_face"]


def test_drawn_faces_are_measured_in_the_same_terms(reading_gateway: Gateway) -> None:
    reply = reading_gateway.post("/v1/generate", {"items": [{"seed": 3}]})
    measured = reply.json["results"][0]["measured"]
    assert {"expression", "pose", "aus", "realism"} <= set(measured)


def test_readings_of_expression_and_pose_are_counted(reading_gateway: Gateway) -> None:
    reading_gateway.post("/v1/predict", encoded(data.astronaut()), kind="image/png")
    metrics = reading_gateway.get("/metrics").body.decode()
    assert 'label="happiness"' in metrics and 'label="yaw"' in metrics


def test_tensors_hold_the_same_readings_and_name_their_columns(reading_gateway: Gateway) -> None:
    address = reading_gateway.url.removeprefix("http://")
    faces = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    tensor = triton.InferInput("image", list(faces.shape), "UINT8").set_data_from_numpy(faces)
    with triton.InferenceServerClient(address) as client:
        answer = client.infer("affectgan-predict", [tensor])
        document = client.get_model_metadata("affectgan-predict")
    columns = document["parameters"]["one_sided"].split(",")
    assert answer.as_numpy("expression").sum(1) == pytest.approx(np.ones(2), abs=1e-5)
    assert answer.as_numpy("pose").shape == (2, 3)
    assert answer.as_numpy("sides").shape == (2, 2, len(columns)) and "AU12" in columns


def test_a_model_without_them_has_no_such_tensors(gateway: Gateway) -> None:
    outputs = gateway.get("/v2/models/affectgan-predict").json["outputs"]
    assert {"aus", "va"} <= {output["name"] for output in outputs}
    assert not {"pose", "sides", "expression"} & {output["name"] for output in outputs}
