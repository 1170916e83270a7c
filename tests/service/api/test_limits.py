"""What there is too much of is counted before it is built, and said in a few words."""

import base64
import json
from typing import Any

import pytest

from service.problems import MOST_ERRORS
from tests.support.gateway import Gateway
from tests.support.pictures import CROPS, FACE, encoded, packed

LENGTH = "Inference-Header-Content-Length"
PREDICT, GENERATE = "/v2/models/affectgan-predict/infer", "/v2/models/affectgan-generate/infer"
DEEP: Any = []
for _ in range(900):
    DEEP = [DEEP]


def tensor(name: str, datatype: str, shape: list[Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, **more}


def inputs(*tensors: dict[str, Any]) -> bytes:
    return json.dumps({"inputs": list(tensors)}).encode()


def nested(depth: int) -> bytes:
    return b'{"images": ' + b"[" * depth + b"]" * depth + b"}"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/predict", {"images": [0] * 500_000}, 413),
        ("/v1/predict", {"images": [[]] * 65}, 413),
        ("/v1/predict", {"images": [0] * 64}, 422),
        ("/v1/predict", {str(number): 0 for number in range(5000)}, 422),
        ("/v1/predict", {"x" * 1_000_000: 0}, 422),
        ("/v1/predict", {"images": [{"content": "x", "y" * 100_000: 0}] * 60}, 422),
        ("/v1/predict", {"images": packed(b"x"), "options": {"model": "m" * 1_000_000}}, 422),
        ("/v1/predict", nested(1000), 422),
        ("/v1/predict", nested(100_000), 413),
        ("/v1/explain", {"images": packed(b"x"), "options": DEEP}, 422),
        ("/v1/generate", {"items": [{"aus": {str(n): 9 for n in range(6000)}}]}, 422),
        ("/v1/generate", {"items": [{"seed": 10**400}]}, 400),
        ("/v1/generate", {"items": [{"seed": 10**30}]}, 422),
        (PREDICT, {"inputs": [0] * 100_000}, 422),
        (PREDICT, {"inputs": [tensor("image", "UINT8", [10**6, 1, 1, 3], data=[])]}, 413),
        (PREDICT, b'{"inputs": [{"name": "image", "shape": [' + b"9" * 5000 + b"]}]}", 400),
        (PREDICT, {"inputs": [tensor("image", "UINT8", [10**30, 1, 1, 3], data=[])]}, 422),
        (PREDICT, {"inputs": [tensor("image", "UINT8", [1, 2**31, 2**31, 3], data=[0])]}, 422),
        (PREDICT, {"inputs": [tensor("image", "UINT8", [1] * 10_000, data=[0])]}, 422),
        (PREDICT, {"inputs": [tensor("image", "UINT8", [1, 1, 1, 3], data=DEEP)]}, 422),
        (PREDICT, {"inputs": [tensor("image", "UINT8", [1, 1, 1, 3], data=[1, [2, 3]])]}, 422),
        (PREDICT, {"inputs": [tensor("image", "UINT8", [1, 1, 1, 3], data=[10**18] * 3)]}, 422),
        (PREDICT, {"inputs": [], "parameters": {str(n): [] for n in range(1000)}}, 422),
        (GENERATE, {"inputs": [tensor("seed", "INT64", [100_000], data=[1] * 100_000)]}, 413),
        (GENERATE, {"inputs": [tensor("seed", "INT64", [1], data=[1] * 2_100_000)]}, 413),
    ],
)
def test_too_much_of_anything_is_a_short_refusal(
    gateway: Gateway, path: str, body: Any, status: int
) -> None:
    reply = gateway.post(path, body)
    assert reply.status == status and len(reply.body) < 16_000


def test_at_most_ten_errors_are_listed_and_the_others_counted(gateway: Gateway) -> None:
    reply = gateway.post("/v1/predict", {"images": [{"content": 1}] * 64})
    assert len(reply.json["errors"]) == MOST_ERRORS
    assert f"{64 - MOST_ERRORS} faults more" in reply.json["detail"]


@pytest.mark.parametrize("length", ["9" * 5000, "-1", "1e3", "0x10", "1" * 20, "\u0661", ""])
def test_a_length_that_is_none_is_refused(gateway: Gateway, length: str) -> None:
    headers = {LENGTH: length.encode("utf-8").decode("latin-1")}
    assert gateway.post(PREDICT, b"{}", **headers).status == 400


def test_many_empty_strings_of_bytes_are_not_built(gateway: Gateway) -> None:
    content = bytes(4) * 1_000_000
    size = {"parameters": {"binary_data_size": len(content)}}
    header = inputs(tensor("image", "BYTES", [2], **size))
    reply = gateway.post(PREDICT, header + content, **{LENGTH: str(len(header))})
    assert reply.status == 422 and "2 elements" in reply.json["error"]


def test_a_long_path_is_repeated_in_part(gateway: Gateway) -> None:
    assert len(gateway.get("/v1/models/" + "m" * 30_000).body) < 4000


def variants(content: bytes) -> list[str]:
    text = base64.b64encode(content).decode()
    lines = "\r\n".join(text[start : start + 76] for start in range(0, len(text), 76))
    return [
        text,
        text.rstrip("="),
        lines,
        f" {text}\n",
        f"data:image/png;base64,{text}",
        f"DATA:image/png;charset=utf-8;base64,{lines}",
        base64.urlsafe_b64encode(content).decode().rstrip("="),
    ]


@pytest.mark.parametrize("place", range(7))
def test_base64_is_taken_as_programs_write_it(gateway: Gateway, place: int) -> None:
    content = encoded(FACE)
    content += bytes(1 - len(content) % 3 if len(content) % 3 < 2 else 2)  # so that it has padding
    text = base64.b64encode(content).decode()
    assert {"+", "/"} <= set(text) and text.endswith("==")
    body = {"images": [{"content": variants(content)[place]}], "options": CROPS}
    assert gateway.post("/v1/predict", body).json["results"][0]["status"] == "ok"


@pytest.mark.parametrize(
    "text", ["*", "a", "\u00e4\u00f6\u00fc", "http://x/a.png", "data:image/png,%89PNG"]
)
def test_a_picture_that_is_no_base64_fails_alone(gateway: Gateway, text: str) -> None:
    images = [*packed(encoded(FACE)), {"content": text}]
    valid, bad = gateway.post("/v1/predict", {"images": images, "options": CROPS}).json["results"]
    assert valid["status"] == "ok" and bad["error"]["code"] == "not_base64"
    items = [{"reference": {"content": text}}, {}]
    rows = gateway.post("/v1/generate", {"items": items}).json["results"]
    assert [row["status"] for row in rows] == ["error", "ok"]


def test_a_row_that_is_no_base64_fails_alone(gateway: Gateway) -> None:
    data = [*[image["content"] for image in packed(encoded(FACE))], "*"]
    body = {**json.loads(inputs(tensor("image", "BYTES", [2], data=data))), "parameters": CROPS}
    (error,) = [o for o in gateway.post(PREDICT, body).json["outputs"] if o["name"] == "error"]
    assert error["data"][0] == "" and "base64" in error["data"][1]


@pytest.mark.parametrize(
    "kind",
    [
        *("image/jpg", "image/pjpeg", "image/x-png", "image/*", "image/heic", "IMAGE/JPEG; q=1"),
        *("application/octet-stream", "binary/octet-stream", ""),
    ],
)
def test_bytes_decide_what_a_picture_is(gateway: Gateway, kind: str) -> None:
    reply = gateway.post("/v1/predict?faces=none", encoded(FACE, "WEBP"), kind=kind)
    assert reply.status == 200 and reply.json["results"][0]["status"] == "ok"


@pytest.mark.parametrize("kind", ["image/gif", "text/plain", "binary/octet-stream", ""])
def test_bytes_that_are_no_picture_of_ours_keep_the_answer_of_their_type(
    gateway: Gateway, kind: str
) -> None:
    assert gateway.post("/v1/predict", encoded(FACE, "GIF"), kind=kind).status == 415


def test_json_may_begin_with_a_byte_order_mark(gateway: Gateway) -> None:
    body = json.dumps({"images": packed(encoded(FACE)), "options": CROPS}).encode("utf-8-sig")
    assert gateway.post("/v1/predict", body).json["results"][0]["status"] == "ok"


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("faces=none", 200, ""),
        ("faces=none&model=affectgan&version=1.0", 200, ""),
        ("faces=none&question.au=AU12&question.present=false", 200, ""),
        ("faces=none&question=%7B%22valence%22%3A0.5%7D&answers=2", 200, ""),
        ("faces=some", 422, "options.faces is some"),
        ("face=none", 422, "options.face"),
        ("size=5", 422, "options.size"),
        ("faces=none&faces=none", 422, "given twice"),
        ("question=%7B", 400, "not JSON"),
        ("question.au.x=1", 422, "options.question"),
    ],
)
def test_options_beside_one_picture_stand_in_the_address(
    gateway: Gateway, query: str, status: int, words: str
) -> None:
    reply = gateway.post(f"/v1/explain?{query}", encoded(FACE), kind="image/png")
    assert reply.status == status and words in reply.body.decode()


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/generate"])
def test_options_in_the_address_of_any_other_body_are_refused(gateway: Gateway, path: str) -> None:
    reply = gateway.post(f"{path}?faces=none", {"images": packed(encoded(FACE))})
    assert reply.status == 422 and "?faces" in reply.json["detail"]
