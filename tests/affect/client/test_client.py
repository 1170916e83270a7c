"""The client against a running gateway, and against what is none."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from pydantic import BaseModel

from affect import AsyncClient, Client, answers
from affect.answers import ExplainAnswer, GenerateAnswer, JobDocument, PredictAnswer
from affect.client import ApiError, Unreachable
from affect.images import decode
from service.settings import Settings
from tests.support.gateway import Gateway, serve
from tests.support.http_servers import Answer as HttpAnswer
from tests.support.http_servers import answering, refusing_early
from tests.support.pictures import FACE, encoded

ROOT = Path(__file__).parents[3]
MEGABYTE = 2**20


def _problem(status: int, code: str) -> bytes:
    body = {"type": "urn:x", "title": "No", "status": status, "detail": "because", "code": code}
    return json.dumps({**body, "instance": "/", "request_id": "1", "errors": []}).encode()


def _bare(schema: object) -> object:
    """Without defaults, which FastAPI leaves out where they are null, without examples, and with
    one space where a description breaks its lines.
    """
    if isinstance(schema, str):
        return " ".join(schema.split())
    if isinstance(schema, dict):
        described = {
            key: part for key, part in schema.items() if key not in ("default", "examples")
        }
        return {key: _bare(part) for key, part in described.items()}
    return [_bare(part) for part in schema] if isinstance(schema, list) else schema


@pytest.mark.parametrize(
    "model", [PredictAnswer, GenerateAnswer, ExplainAnswer, JobDocument, answers.ModelList]
)
def test_answers_have_the_types_that_the_interface_describes(model: type[BaseModel]) -> None:
    described = yaml.safe_load((ROOT / "openapi.yaml").read_text())["components"]["schemas"]
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    parts = schema.pop("$defs") | {model.__name__: schema}
    for name, part in parts.items():
        assert _bare(part) == _bare(described[name]), name


def test_pictures_are_read_in_order_whatever_they_are(gateway: Gateway, tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(encoded(FACE))
    with Client(gateway.url, batch_images=2) as client:
        answer = client.predict([FACE, b"broken", tmp_path, tmp_path / "gone.jpg"], faces="none")
    assert [one.index for one in answer.results] == [0, 1, 2, 3]
    assert [one.error and one.error.code for one in answer.results] == [
        None,
        "not_an_image",
        None,
        "unreadable",
    ]
    assert answer.model.name == "affectgan"


async def test_the_asynchronous_client_answers_alike(gateway: Gateway) -> None:
    async with AsyncClient(gateway.url) as client:
        each = [one async for one in client.predict_each([FACE, FACE], faces="none")]
        again = await client.predict([FACE, FACE], faces="none")
    assert [result for _, result in each] == again.results
    assert [name for name, _ in each] == ["array-0", "array-1"]


def test_faces_are_drawn_and_explained(gateway: Gateway) -> None:
    with Client(gateway.url) as client:
        drawn = client.generate({"seed": 7, "reference": FACE}, faces="none").results[0]
        explained = client.explain(FACE, {"valence": 0.9}, faces="none").results[0]
    assert drawn.image is not None and decode(drawn.image.to_bytes()).shape == (32, 32, 3)
    assert explained.question == {"valence": 0.9} and explained.counterfactual is not None


def test_a_job_is_waited_for(gateway: Gateway) -> None:
    with Client(gateway.url) as client:
        job = client.submit("predict", [FACE, FACE], faces="none")
        assert isinstance(job, JobDocument)
        answer = client.wait(job)
        assert isinstance(answer, PredictAnswer) and len(answer.results) == 2
        assert client.cancel(job).id == job.id


def test_progress_counts_pictures(gateway: Gateway) -> None:
    progress_calls: list[int] = []
    with Client(gateway.url, batch_images=2) as client:
        client.predict([FACE] * 5, faces="none", progress=progress_calls.append)
    assert progress_calls == [1, 2, 3, 4, 5]


def test_a_quota_is_waited_for(tmp_path: Path) -> None:
    waits: list[float] = []
    running = serve(Settings(cache_bytes=0, quota_images=4, quota_seconds=1))
    gateway = next(running)
    try:
        with Client(gateway.url, batch_images=2, on_wait=lambda s, _: waits.append(s)) as client:
            answer = client.predict([FACE] * 10, faces="none")
    finally:
        running.close()
    assert len(answer.results) == 10 and waits


def test_what_is_too_much_in_one_request_goes_in_two() -> None:
    running = serve(Settings(cache_bytes=0, max_images=3, max_body_bytes=20_000))
    gateway = next(running)
    large = np.random.default_rng(1).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    try:
        with Client(gateway.url, batch_images=8) as client:
            answer = client.predict([FACE] * 8 + [large], faces="none")
    finally:
        running.close()
    assert [one.status for one in answer.results] == ["ok"] * 8 + ["error"]
    assert answer.results[-1].error is not None
    assert answer.results[-1].error.code == "body_too_large"


def _only_one(status: int, body: bytes, kind: str) -> Callable[[str, bytes], HttpAnswer]:
    """A gateway that reads one picture in a request, and refuses two so."""
    pictures = [{"index": 0, "status": "ok", "faces": []}]
    model = {"name": "m", "version": "1", "labels": "both"}
    read = json.dumps({"model": model, "results": pictures}).encode()

    def answer(path: str, content: bytes) -> HttpAnswer:
        if content.count(b'name="images"') == 1:
            return 200, {}, read
        return status, {"Content-Type": kind}, body

    return answer


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (504, _problem(504, "deadline"), "application/problem+json"),
        (413, b"<html>413 Request Entity Too Large</html>", "text/html"),
    ],
    ids=["deadline", "proxy"],
)
def test_a_request_of_two_pictures_that_is_too_large_is_split(
    status: int, body: bytes, kind: str
) -> None:
    with answering(_only_one(status, body, kind)) as url, Client(url) as client:
        assert [one.status for one in client.predict([FACE] * 3).results] == ["ok"] * 3


def test_a_picture_that_a_proxy_does_not_let_through_fails_alone() -> None:
    with answering(lambda *_: (413, {}, b"<html>too large</html>")) as url, Client(url) as client:
        errors = [one.error for _, one in client.predict_each([FACE] * 2)]
    assert [error and (error.status, error.code) for error in errors] == [
        (413, "body_too_large")
    ] * 2


@pytest.mark.parametrize("status", [401, 413])
def test_an_answer_before_the_body_is_through_is_read(status: int) -> None:
    body = _problem(status, "unauthorized")
    head = (
        f"HTTP/1.1 {status} No\r\nContent-Type: "
        f"application/problem+json\r\nContent-Length: {len(body)}\r\nConnection: "
        "close\r\n\r\n"
    )
    pictures = [bytes(MEGABYTE)] * 24
    with (
        refusing_early(head.encode() + body) as url,
        Client(url, batch_images=24, batch_bytes=64 * MEGABYTE, concurrency=1) as client,
    ):
        if status == 401:
            with pytest.raises(ApiError, match="No: because"):
                client.predict(pictures)
        else:
            each = list(client.predict_each(pictures[:2]))
            assert [one.error and one.error.status for _, one in each] == [413, 413]


def test_a_busy_server_is_retried_after_its_retry_after() -> None:
    paths: list[str] = []

    def answer(path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        paths.append(path)
        if len(paths) < 3:
            return 503, {"Retry-After": "0"}, _problem(503, "overloaded")
        return 200, {}, b'{"models": []}'

    with answering(answer) as url, Client(url) as client:
        assert client.models().models == [] and len(paths) == 3


def test_patience_ends() -> None:
    def busy(path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        return 503, {"Retry-After": "0"}, _problem(503, "overloaded")

    with (
        answering(busy) as url,
        Client(url, patience_seconds=0.2) as client,
        pytest.raises(ApiError, match="because"),
    ):
        client.models()


@pytest.mark.parametrize(
    "after",
    ["3600", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT", "\u00c2\u00b2", "soon", "-1"],
    ids=["hour", "digits", "date", "superscript", "word", "negative"],
)
def test_no_wait_goes_beyond_patience(after: str) -> None:
    waits: list[float] = []
    with (
        answering(lambda *_: (429, {"Retry-After": after}, _problem(429, "quota_exceeded"))) as url,
        Client(url, patience_seconds=0.5, on_wait=lambda s, _: waits.append(s)) as client,
        pytest.raises(ApiError, match="because"),
    ):
        client.models()
    assert not waits


@pytest.mark.parametrize(
    "body",
    [b"<html>", b'{"models": 3}', b'{"models": [', b'"text"'],
    ids=["html", "else", "cut", "text"],
)
def test_an_answer_of_another_program_is_one_sentence(body: bytes) -> None:
    with (
        answering(lambda *_: (200, {"Content-Type": "text/html"}, body)) as url,
        Client(url) as client,
        pytest.raises(ApiError, match="is it the gateway") as excinfo,
    ):
        client.models()
    assert "\n" not in str(excinfo.value)


def test_the_error_of_an_unreachable_server_says_how_to_start_one() -> None:
    with (
        Client("http://127.0.0.1:9") as client,
        pytest.raises(Unreachable, match="affectgan serve"),
    ):
        client.models()
    with pytest.raises(ValueError, match="give one such as"):
        Client("127.0.0.1:8000")


def test_a_proxy_is_not_asked_for_this_machine(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with Client(gateway.url) as client:
        assert client.ready()


def test_an_iterator_that_is_closed_early_waits_for_nothing(gateway: Gateway) -> None:
    """A full disk ended the command in the middle, and then it waited for ever."""
    with Client(gateway.url) as client:
        rows = client.predict_each([encoded(FACE)] * 3, faces="none")
        next(rows)
    rows.close()


def test_a_program_that_forgets_to_close_its_client_ends(gateway: Gateway) -> None:
    client = Client(gateway.url)
    client.models()
    assert [t.daemon for t in threading.enumerate() if t.name == "client"] == [True]
    client.close()
    client.close()
