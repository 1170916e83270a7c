"""POST /v1/verify: a picture in each of the three forms, good and bad."""

import base64
import json
import socket
from urllib.parse import urlsplit

import numpy as np
import pytest

from affect.images import encode
from service.settings import Settings
from tests.support.gateway import Gateway, open_gateway, serve
from tests.support.pictures import FACE, encoded, packed
from tests.support.signed import HOSTILE_MODELS, signed_png
from tests.support.waiting import until


def test_what_the_gateway_drew_is_made_here(gateway: Gateway) -> None:
    drawn = gateway.post("/v1/generate", {"items": [{"seed": 3}]}).json["results"][0]["image"]
    result = gateway.post("/v1/verify", {"images": [{"content": drawn["content"]}]})
    verification = result.json["results"][0]
    assert verification["verdict"] == "made here" and verification["signed"]["valid"]
    assert (
        verification["signed"]["claim"]["actions"][0] == "c2pa.created"
        and verification["edited"] is False
    )


def test_an_explained_face_is_signed_as_edited_and_its_first_frame_is_not(
    gateway: Gateway,
) -> None:
    options = {"faces": "none", "question": {"valence": 0.9}}
    body = {"images": packed(encoded(FACE)), "options": options}
    one = gateway.post("/v1/explain", body).json["results"][0]
    pictures = [one["counterfactual"]["image"], one["frames"][0]]
    images = [{"content": picture["content"]} for picture in pictures]
    changed, first = gateway.post("/v1/verify", {"images": images}).json["results"]
    assert changed["edited"] and changed["verdict"] == "made here"
    assert first["signed"]["valid"] and not first["edited"] and first["verdict"] == "unknown"


def test_a_bad_picture_fails_alone_and_a_plain_one_is_unknown(gateway: Gateway) -> None:
    images = [{"content": base64.b64encode(b"nothing").decode()}, *packed(encode(FACE))]
    bad, plain = gateway.post("/v1/verify", {"images": images}).json["results"]
    assert bad["status"] == "error" and bad["error"]["status"] == 415
    assert plain["verdict"] == "unknown" and not plain["watermark"]["found"]


@pytest.mark.parametrize("model", HOSTILE_MODELS, ids=str)
def test_a_picture_signed_by_an_unknown_issuer_costs_no_other_its_answer(
    gateway: Gateway, model: object
) -> None:
    reply = gateway.post("/v1/verify", {"images": packed(signed_png(model), encode(FACE))})
    signed, plain = reply.json["results"]
    assert signed["signed"]["valid"] and signed["verdict"] == "made by AI"
    assert plain["verdict"] == "unknown"


def test_the_search_for_marks_ends_when_its_client_has_gone() -> None:
    metric = 'affectgan_requests_refused_total{operation="predict",reason="client_gone"}'
    large = encode(np.full((1500, 1500, 3), 90, np.uint8))
    body = json.dumps({"images": packed(large) * 64}).encode()
    head = b"POST /v1/verify HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    with open_gateway(Settings()) as server:
        address = urlsplit(server.url)
        with socket.create_connection((address.hostname, address.port)) as client:
            client.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            until(lambda: server.metric('affectgan_requests_in_flight{operation="predict"}') == 1)
        until(lambda: server.metric(metric) == 1)


def test_no_picture_at_all_is_refused(gateway: Gateway) -> None:
    assert gateway.post("/v1/verify", {"images": []}).status == 422


def test_a_time_stamp_authority_that_does_not_answer_is_a_problem_of_its_own() -> None:
    for server in serve(Settings(timestamp_url="http://127.0.0.1:1/")):
        response = server.post("/v1/generate", {"items": [{"seed": 3}]})
        assert response.status == 503 and response.json["code"] == "signing_unavailable"
        assert (
            response.headers["Retry-After"] == "30" and "127.0.0.1" not in response.json["detail"]
        )
