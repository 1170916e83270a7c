"""The gateway over HTTP: what it answers, and how it refuses each kind of bad input."""

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from skimage import data

from affect.images import SYNTHETIC, decode
from service.settings import Settings
from tests.support.gateway import Gateway, open_gateway, serve
from tests.support.pictures import (
    BAD_PICTURES,
    CROPS,
    FACE,
    FILE,
    FORM,
    PREDICT_BODY,
    encoded,
    form,
    packed,
)
from tests.support.waiting import until


def test_a_photograph_is_read(gateway: Gateway) -> None:
    reply = gateway.post("/v1/predict", encoded(data.astronaut(), "JPEG"), kind="image/jpeg")
    (face,) = reply.json["results"][0]["faces"]
    assert reply.status == 200 and reply.json["model"] == {
        "name": "affectgan",
        "version": "1.0",
        "labels": "both",
    }
    assert len(face["box"]) == 4 and -1 <= face["valence"] <= 1 and 0 <= face["realism"] <= 1
    assert (
        set(face["aus"]["AU12"]) == {"probability", "intensity", "present"}
        and len(face["aus"]) == 8
    )


@pytest.mark.parametrize("code", list(BAD_PICTURES))
def test_a_bad_picture_fails_alone_and_says_why(gateway: Gateway, code: str) -> None:
    valid = encoded(data.astronaut(), "JPEG")
    results = gateway.post(
        "/v1/predict", {"images": packed(valid, BAD_PICTURES[code], valid)}
    ).json["results"]
    assert [result["status"] for result in results] == ["ok", "error", "ok"]
    assert results[1]["error"]["code"] == code and results[1]["error"]["detail"]


def test_the_three_forms_of_a_request_say_the_same(gateway: Gateway) -> None:
    picture = encoded(data.astronaut(), "JPEG")
    form = b"".join(
        b"--edge\r\nContent-Disposition: form-data; name=" + name + b"\r\n\r\n" + content + b"\r\n"
        for name, content in (
            (b'"images"; filename="a.jpg"', picture),
            (b'"options"', b'{"faces": "largest"}'),
        )
    )
    replies = [
        gateway.post("/v1/predict", picture, kind="image/jpeg"),
        gateway.post("/v1/predict", {"images": packed(picture), "options": {"faces": "largest"}}),
        gateway.post(
            "/v1/predict", form + b"--edge--\r\n", kind="multipart/form-data; boundary=edge"
        ),
    ]
    assert [reply.status for reply in replies] == [200] * 3
    assert replies[0].json["results"] == replies[1].json["results"] == replies[2].json["results"]


def test_pictures_of_a_form_never_touch_the_disk(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tempfile.SpooledTemporaryFile.rollover", lambda self: pytest.fail("written to disk")
    )
    noise = encoded(np.random.default_rng(1).integers(0, 256, (800, 800, 3), dtype=np.uint8))
    reply = gateway.post(
        "/v1/predict", form((FILE, noise), (b'name="options"', b'{"faces": "none"}')), kind=FORM
    )
    assert len(noise) > 2**20 and reply.json["results"][0]["status"] == "ok"


@pytest.mark.parametrize(
    ("body", "kind", "status", "words"),
    [
        (form(*[(FILE, b"x")] * 70), FORM, 413, "at most 64"),
        (form((b'name="images"', b"x")), FORM, 422, "needs a filename"),
        (form((FILE, b"x"), (b'name="extra"', b"1")), FORM, 422, "extra is present: unknown part"),
        (form((b'name="options"', b"{}")), FORM, 422, "send 1 to 64"),
        (b"nonsense", FORM, 400, "the form cannot be read"),
        (b"nonsense", "multipart/form-data", 400, "boundary"),
    ],
)
def test_a_wrong_form_is_refused(
    gateway: Gateway, body: bytes, kind: str, status: int, words: str
) -> None:
    reply = gateway.post("/v1/predict", body, kind=kind)
    assert reply.status == status and words in reply.json["detail"]


def test_an_unhandled_error_is_a_problem_without_details(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(gateway.backend, "predict", broken)
    reply = gateway.post("/v1/predict", {"images": packed(encoded(FACE)), "options": CROPS})
    assert reply.status == 500 and reply.json["code"] == "internal" and b"secret" not in reply.body


def test_the_faces_of_a_request_are_predicted_in_batches_of_4_to_16(
    gateway: Gateway,
) -> None:
    gateway.backend.predicted.clear()
    reply = gateway.post("/v1/predict", {"images": packed(*[encoded(FACE)] * 64), "options": CROPS})
    assert len(reply.json["results"]) == 64 == sum(gateway.backend.predicted)
    assert 4 <= max(gateway.backend.predicted) <= 16


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/v1/predict", {"images": []}, 422, "send 1 to 64"),
        ("/v1/predict", {"images": packed(*[b"x"] * 65)}, 413, "at most 64"),
        ("/v1/predict", {"images": packed(b"x"), "option": {}}, 422, "option is"),
        ("/v1/predict", {"images": packed(b"x"), "options": {"face": 1}}, 422, "options.face"),
        ("/v1/predict", {"images": [{"content": 5}]}, 422, "images[0].content"),
        ("/v1/predict", [], 422, "JSON object"),
        ("/v1/generate", {"items": []}, 422, "send 1 to 64"),
        ("/v1/generate", {"items": [{}] * 65}, 413, "at most 64"),
        (
            "/v1/generate",
            {"items": [{"aus": {"AU99": 0.5}}]},
            422,
            "items[0].aus.AU99 is 0.5: unknown Action Unit",
        ),
        ("/v1/generate", {"items": [{"aus": {"AU12": 2}}]}, 422, "items[0].aus.AU12"),
        (
            "/v1/generate",
            {"items": [{"valence": 1.5}]},
            422,
            "items[0].valence is 1.5: Input should be less than or equal to 1",
        ),
        ("/v1/generate", {"items": [{"seed": -1}]}, 422, "items[0].seed"),
        ("/v1/generate", {"items": [{}], "format": "gif"}, 422, "format is gif"),
        ("/v1/generate", b'{"items": [{"valence": NaN}]}', 400, "not JSON"),
        ("/v1/generate", b"{", 400, "not JSON"),
        (
            "/v1/explain",
            {"images": packed(b"x"), "options": {"question": {"au": "AU99"}}},
            422,
            "unknown Action Unit",
        ),
        (
            "/v1/explain",
            {"images": packed(b"x"), "options": {"question": {"valence": 3}}},
            422,
            "options.question.valence is 3",
        ),
        (
            "/v1/explain",
            {"images": packed(b"x"), "options": {"question": {"valence": 0.1, "arousal": 0.1}}},
            422,
            "one of them",
        ),
        (
            "/v1/explain",
            {"images": packed(b"x"), "options": {"question": {"present": True}}},
            422,
            "needs an `au`",
        ),
    ],
)
def test_a_wrong_request_names_field_value_and_remedy(
    gateway: Gateway, path: str, body: Any, status: int, words: str
) -> None:
    reply = gateway.post(path, body)
    assert reply.status == status and reply.headers["Content-Type"] == "application/problem+json"
    assert (
        words in reply.json["detail"]
        and reply.json["status"] == status
        and reply.json["request_id"] == reply.headers["X-Request-ID"]
    )


@pytest.mark.parametrize("kind", ["text/plain", "image/gif", "application/xml"])
def test_a_wrong_content_type_is_refused(gateway: Gateway, kind: str) -> None:
    assert gateway.post("/v1/predict", b"x", kind=kind).status == 415


def test_a_huge_body_is_refused() -> None:
    with open_gateway(Settings(max_body_bytes=2000)) as limited:
        reply = limited.post("/v1/predict", bytes(3000), kind="image/png")
    assert reply.status == 413 and "2,000" in reply.json["detail"]


def test_unknown_paths_and_methods_are_problems_too(gateway: Gateway) -> None:
    assert gateway.get("/v2/nothing").status == 404 and gateway.get("/v1/predict").status == 405
    assert gateway.get("/v1/models/other").json["code"] == "not_found"


@pytest.mark.parametrize(
    ("path", "methods"),
    [("/v1/jobs/5", "DELETE, GET"), ("/v1/models", "GET"), ("/v2/models/affectgan-predict", "GET")],
)
def test_a_wrong_method_gets_a_list_of_the_allowed_ones(
    gateway: Gateway, path: str, methods: str
) -> None:
    reply = gateway.post(path, {})
    assert reply.status == 405 and reply.headers["Allow"] == methods


def test_a_wrong_method_builds_no_openapi_document() -> None:
    with open_gateway(Settings()) as fresh:
        assert fresh.delete("/v1/models").status == 405
        app = fresh.server.config.app
        assert isinstance(app, FastAPI) and app.openapi_schema is None


def test_the_same_request_and_seed_give_the_same_pixels(gateway: Gateway) -> None:
    item = {"aus": {"AU12": 0.9}, "valence": 0.7, "seed": 7}
    first, second = (
        gateway.post("/v1/generate", {"items": [item]}, Accept="image/png") for _ in range(2)
    )
    other = gateway.post("/v1/generate", {"items": [{**item, "seed": 8}]}, Accept="image/png")
    assert first.headers["Content-Type"] == "image/png"
    assert np.array_equal(decode(first.body), decode(second.body))
    assert not np.array_equal(decode(first.body), decode(other.body))
    assert SYNTHETIC.encode() in first.body


def test_generated_faces_come_with_requested_and_measured_labels(gateway: Gateway) -> None:
    reply = gateway.post(
        "/v1/generate", {"items": [{"aus": {"AU12": 0.9}}, {"valence": -0.5}], "format": "webp"}
    )
    first, second = reply.json["results"]
    assert first["requested"]["aus"]["AU12"] == pytest.approx(0.9) and second["requested"][
        "valence"
    ] == pytest.approx(-0.5)
    assert first["seed"] != second["seed"] and "valence" in first["measured"]
    assert decode(base64.b64decode(first["image"]["content"])).shape == (32, 32, 3)


def test_a_reference_without_a_face_fails_alone(gateway: Gateway) -> None:
    items = [
        {"reference": packed(encoded(data.astronaut(), "JPEG"))[0], "seed": 1},
        {"reference": packed(BAD_PICTURES["no_face"])[0]},
        {"seed": 1},
    ]
    results = gateway.post("/v1/generate", {"items": items}).json["results"]
    assert [result["status"] for result in results] == ["ok", "error", "ok"]
    assert results[0]["image"] != results[2]["image"]


def test_an_explanation_is_whole(gateway: Gateway) -> None:
    images = packed(encoded(FACE), b"broken")
    valid, bad = gateway.post(
        "/v1/explain", {"images": images, "options": {**CROPS, "question": {"valence": 0.9}}}
    ).json["results"]
    assert bad["status"] == "error" and valid["question"] == {"valence": 0.9}
    assert {
        "factual",
        "reconstruction",
        "counterfactual",
        "changes",
        "map",
        "scores",
        "trust",
        "sentence",
        "regions",
        "frames",
    } <= set(valid)
    picture = decode(base64.b64decode(valid["counterfactual"]["image"]["content"]))
    assert picture.shape == (32, 32, 3) and valid["trust"]["level"] in ("high", "medium", "low")


def test_gradients_come_on_request_and_every_au_has_its_attribution(gateway: Gateway) -> None:
    options: dict[str, Any] = {**CROPS, "question": {"valence": 0.9}}
    asks = (
        {
            "images": packed(encoded(FACE)),
            "options": options | {"integrated_gradients": with_gradients},
        }
        for with_gradients in (False, True)
    )
    plain, full = (gateway.post("/v1/explain", ask).json["results"][0] for ask in asks)
    assert plain["integrated_gradients"] is None
    assert set(plain["attribution"]) == set(gateway.backend.model.card.vocabulary)
    assert decode(base64.b64decode(full["integrated_gradients"]["image"]["content"])).shape == (
        32,
        32,
        3,
    )
    assert set(full["integrated_gradients"]["regions"]) == set(full["regions"])
    assert (
        plain["trust"]["judge"] is None
        and plain["trust"]["reasons"][-1] == "nobody independent was asked"
    )


def test_alternatives_and_nuisances_come_on_request(gateway: Gateway) -> None:
    options: dict[str, Any] = {**CROPS, "question": {"valence": 0.9}}
    plain, several, other = (
        gateway.post(
            "/v1/explain", {"images": packed(encoded(FACE)), "options": {**options, **more}}
        ).json["results"][0]
        for more in ({}, {"answers": 3}, {"family": "nuisance"})
    )
    assert plain["alternatives"] == [] and 1 <= len(several["alternatives"]) <= 2
    first, second = [
        decode(base64.b64decode(one["counterfactual"]["image"]["content"]))
        for one in (several, plain)
    ]
    assert np.array_equal(first, second) and several["scores"]["diversity"] > 0
    assert all(
        other["counterfactual"]["image"] != plain["counterfactual"]["image"]
        for other in several["alternatives"]
    )
    assert {cause["label"] for cause in other["causes"]} <= set(
        gateway.backend.model.card.nuisances
    )
    assert "in the same expression" in other["sentence"]


@pytest.mark.parametrize(
    ("question", "word"),
    [
        ({"au": "AU99"}, "AU99"),
        ({"valence": 3}, "valence"),
        ({"au": "AU12", "valence": 0.5}, "one of them"),
        ({"present": True}, "au"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused_with_its_field(
    gateway: Gateway, question: dict[str, Any], word: str
) -> None:
    reply = gateway.post(
        "/v1/explain", {"images": packed(encoded(FACE)), "options": {**CROPS, "question": question}}
    )
    assert reply.status == 422
    assert word in reply.body.decode()


def test_a_picture_without_a_face_and_a_crop_of_eight_pixels_say_why(gateway: Gateway) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    (faceless,) = gateway.post("/v1/explain", {"images": packed(encoded(noise))}).json["results"]
    assert faceless["error"]["status"] == 422 and faceless["error"]["title"] == "No face found"
    (small,) = gateway.post(
        "/v1/explain", {"images": packed(encoded(FACE[:8, :8])), "options": CROPS}
    ).json["results"]
    assert small["error"]["status"] == 422 and "8" in small["error"]["detail"]


def test_a_target_that_already_holds_is_reported(gateway: Gateway) -> None:
    (face,) = gateway.post("/v1/predict", {"images": packed(encoded(FACE)), "options": CROPS}).json[
        "results"
    ][0]["faces"]
    question = {"au": "AU12", "present": face["aus"]["AU12"]["present"]}
    (result,) = gateway.post(
        "/v1/explain", {"images": packed(encoded(FACE)), "options": {**CROPS, "question": question}}
    ).json["results"]
    assert result["error"]["code"] == "already_so"


def test_health_models_and_metrics(gateway: Gateway) -> None:
    assert gateway.get("/healthz").status == 200 and gateway.get("/readyz").json["ready"]
    assert gateway.get("/v1/models").json["models"][0]["name"] == "affectgan"
    assert "AU12" in gateway.get("/v1/models/affectgan").json["vocabulary"]
    text = gateway.get("/metrics").body.decode()
    assert (
        'affectgan_request_seconds_bucket{le="0.1",method="GET",route="/healthz",status="200"}'
        in text
    )
    assert gateway.get("/").headers["Content-Type"].startswith("text/html") and gateway.get(
        "/openapi.json"
    ).json["openapi"].startswith("3.1")


def test_a_request_id_is_echoed(gateway: Gateway) -> None:
    reply = gateway.post("/v1/predict", {"images": []}, **{"X-Request-ID": "mine-1"})
    assert reply.headers["X-Request-ID"] == "mine-1" == reply.json["request_id"]


@pytest.fixture
def busy() -> Iterator[Gateway]:
    yield from serve(Settings(predict_capacity=1))


def test_readiness_follows_the_workers(busy: Gateway) -> None:
    busy.backend.down = True
    assert busy.get("/readyz").status == 503 and busy.get("/healthz").status == 200


def test_a_gateway_without_explain_workers_is_ready_for_what_works(busy: Gateway) -> None:
    busy.backend.broken = frozenset({"explain"})
    reply = busy.get("/readyz")
    assert reply.status == 200
    assert reply.json["operations"] == {"predict": True, "generate": True, "explain": False}
    assert busy.metric('affectgan_operation_ready{model="affectgan",operation="explain"') == 0
    busy.backend.broken = frozenset()
    busy.get("/readyz")
    assert busy.metric('affectgan_operation_ready{model="affectgan",operation="explain"') == 1


def test_more_requests_than_the_capacity_are_refused_at_once(busy: Gateway) -> None:
    busy.backend.delay_seconds = 1.0
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(busy.post, "/v1/predict", PREDICT_BODY)
        until(lambda: busy.metric('affectgan_requests_in_flight{operation="predict"}') == 1)
        response = busy.post("/v1/predict", PREDICT_BODY)
    assert response.status == 503 and response.headers["Retry-After"] == "1"
    assert first.result().status == 200


def test_what_is_not_done_by_its_deadline_is_given_up(busy: Gateway) -> None:
    busy.backend.delay_seconds = 30.0
    late = busy.post("/v1/predict", PREDICT_BODY, **{"X-Deadline-Seconds": "0.2"})
    assert late.status == 504 and "0.2 s" in late.json["detail"]
    assert busy.post("/v1/predict", PREDICT_BODY, **{"X-Deadline-Seconds": "soon"}).status == 422


def test_while_draining_the_gateway_is_not_ready(busy: Gateway) -> None:
    busy.state.admission.draining = True
    assert busy.get("/readyz").json["draining"] and busy.get("/readyz").status == 503


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/generate", {"items": [{}], "face": False}),
        ("/v1/generate", {"items": [{"seed": True}]}),
        ("/v1/generate", {"items": [{"valence": False}]}),
        ("/v1/generate", {"items": [{"aus": {"AU12": True}}]}),
        ("/v1/explain", {**PREDICT_BODY, "options": {"faces": "none", "answers": True}}),
        ("/v1/explain", {**PREDICT_BODY, "options": {"question": {"arousal": True}}}),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value)[-40:],
)
def test_true_and_false_are_no_numbers(gateway: Gateway, path: str, body: Any) -> None:
    reply = gateway.post(path, body)
    assert reply.status == 422 and "no numbers" in reply.body.decode()
