"""Nearly pictures and nearly requests: an answer that is meant, in time; memory stays flat.

Here for seconds; `make fuzz` takes FUZZ_MINUTES (10) and prints what it did. A case is found again
by its seed, which the failure names; what it was goes into tests/fuzz/corpus.
"""

import json
import math
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from urllib.error import URLError

import psutil
import pytest
from hypothesis import HealthCheck, Phase, given, seed
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from affect.images import ImageError, checked_header, decode_header
from service.settings import Settings
from tests.fuzz.mutation import VALUES, corpus, mutated_body, mutated_picture
from tests.support.gateway import Gateway, open_gateway

MINUTES = float(os.environ.get("FUZZ_MINUTES", "0"))
PARTS = 4  # tests that share the time
SECONDS = MINUTES * 60 / PARTS or 3.0
FIRST_SEED = int(os.environ.get("FUZZ_SEED", time.time_ns() if MINUTES else 0))
DEADLINE_HEADER = "X-Deadline-Seconds"
DEADLINE_SECONDS = 10.0
ROUND_TRIP_SECONDS = 2.0  # to the gateway and back, on a busy machine: an answer may be so late
DECODE_SECONDS = 5.0  # of the processor, for a picture of a few kilobytes
MEANT = {400, 401, 404, 405, 406, 409, 411, 413, 415, 422, 429, 503, 504}
GROWTH_BYTES = 300 * 2**20  # that allocators and caches may take beyond the first tenth
WARM_CASES = 50
ROUTES = {
    "predict": "/v1/predict",
    "explain": "/v1/explain",
    "generate": "/v1/generate",
    "verify": "/v1/verify",
    "predict-tensors": "/v2/models/affectgan-predict/infer",
    "predict-crops": "/v2/models/affectgan-predict/infer",
    "generate-tensors": "/v2/models/affectgan-generate/infer",
    "explain-tensors": "/v2/models/affectgan-explain/infer",
}
PICTURE_PATHS = ("/v1/predict?faces={faces}", "/v1/explain?faces={faces}", "/v1/verify")
HEADERS = {
    "Content-Type": [
        *("application/json", "application/json; charset=punycode", "image/png", "text/plain", ""),
        *("multipart/form-data; boundary=x", "multipart/form-data", "application/octet-stream"),
    ],
    "Accept": ["*/*", "image/png", "image/*;q=0", "text/html", ";;;", "a/b;q=9", ","],
    "Prefer": ["respond-async", "wait=0", "respond-async, wait=10", "x" * 3000],
    "Content-Encoding": ["gzip", "br", "identity", "gzip, gzip", "x"],
    "Inference-Header-Content-Length": ["0", "10", "-1", "9" * 5000, "x", "²"],
    "Idempotency-Key": ["a", "", '"', "x" * 300, "é"],
    DEADLINE_HEADER: ["0", "-1", "nan", "1e400", "1e-9", "5", "9" * 400],
    "X-Webhook-URL": ["http://127.0.0.1", "x", "http://[", "https://\x7f"],
    "Cache-Control": ["no-store", ",,,"],
    "If-None-Match": ["*", 'W/"x"', "x" * 4000],
    "traceparent": ["00-0-0-0", "x"],
    "Origin": ["null", "x"],
}


@dataclass
class Run:
    """A budget of time, how cases ended, and what memory they took."""

    seconds: float = SECONDS
    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    least_left: float = math.inf  # seconds until the limit, of the case that came nearest to it
    first_bytes: int = 0

    def seeds(self) -> Iterator[int]:
        """While there is time."""
        end, number = time.monotonic() + self.seconds, FIRST_SEED
        self.first_bytes = memory_bytes()
        while time.monotonic() < end:
            yield number
            number += 1
            if number - FIRST_SEED == WARM_CASES or end - time.monotonic() > 0.9 * self.seconds:
                self.first_bytes = memory_bytes()

    def case(
        self,
        number: int,
        limit_seconds: float,
        work: Callable[[], str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Its outcome; a failure names its seed at once, since the run may go on for an hour."""
        start = clock()
        try:
            outcome = work()
            elapsed = clock() - start
            assert elapsed < limit_seconds, f"{elapsed:.1f} s"
        except BaseException as error:
            print(f"FUZZ_SEED={number}: {error!r}"[:2000], flush=True)
            error.add_note(f"FUZZ_SEED={number}")
            raise
        self.slowest = max(self.slowest, elapsed)
        self.least_left = min(self.least_left, limit_seconds - elapsed)
        self.outcomes[outcome] += 1

    def end(self, name: str) -> None:
        """Say what was done; memory is flat."""
        last = memory_bytes()
        print(
            f"{name}: {self.outcomes.total()} cases in {self.seconds:.0f} s, seeds from "
            f"{FIRST_SEED}, slowest {self.slowest:.2f} s, least left {self.least_left:.2f} s, "
            f"memory {self.first_bytes / 2**20:.0f} -> "
            f"{last / 2**20:.0f} MiB, {dict(self.outcomes.most_common())}"
        )
        assert self.outcomes.total() and last - self.first_bytes < GROWTH_BYTES


def memory_bytes() -> int:
    """Of this process, the gateway in it, and what decodes for it."""
    own = psutil.Process()
    total = 0
    for process in [own, *own.children(recursive=True)]:
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with open_gateway(Settings(deadline_seconds=DEADLINE_SECONDS, cache_bytes=2**20)) as running:
        yield running


def limit_seconds(headers: Mapping[str, str]) -> float:
    """In which the answer has to come: the deadline that holds, and the way there and back."""
    deadline = float(headers.get(DEADLINE_HEADER, DEADLINE_SECONDS))
    holds = deadline if 0 < deadline < DEADLINE_SECONDS else DEADLINE_SECONDS
    return holds + ROUND_TRIP_SECONDS


def posted(gateway: Gateway, path: str, body: bytes, **headers: str) -> str:
    """The status; fails on one that is a fault of ours."""
    kind = headers.pop("Content-Type", "application/json")
    try:
        reply = gateway.post(path, body, kind=kind, **headers)
    except URLError as error:
        # a head that is none is answered at once, and the connection closed before its body is sent
        broken = isinstance(error.reason, BrokenPipeError | ConnectionResetError)
        if not broken or all(value.isprintable() for value in headers.values()):
            raise
        return "closed"
    assert reply.status in MEANT or reply.status < 400, reply.body[:2000]
    assert reply.status < 300 or len(reply.body) < 64_000
    return str(reply.status)


def test_a_picture_that_nearly_is_one_is_decoded_or_refused() -> None:
    run, pictures = Run(), list(corpus("pictures").values())

    def decoded(content: bytes) -> str:
        try:
            picture = decode_header(checked_header(content, max_pixels=10_000_000))
        except ImageError as error:
            return error.code
        assert picture.pixels.ndim == 3 and picture.pixels.shape[2] == 3
        return "decoded"

    for number in run.seeds():
        content = mutated_picture(random.Random(number), pictures)
        # a niced run on busy cores may wait for seconds: what counts is what decoding takes
        run.case(number, DECODE_SECONDS, partial(decoded, content), time.thread_time)
    run.end("pictures, decoded")


def test_a_picture_that_nearly_is_one_fails_alone_over_http(gateway: Gateway) -> None:
    run, pictures = Run(), list(corpus("pictures").values())
    for number in run.seeds():
        rng = random.Random(number)
        content, faces = mutated_picture(rng, pictures), rng.choice(("none", "largest", "all"))
        path = rng.choice(PICTURE_PATHS).format(faces=faces)
        kind = rng.choice(("image/png", "image/jpeg", "application/octet-stream"))
        headers = {"Content-Type": kind}
        run.case(
            number,
            limit_seconds(headers),
            partial(posted, gateway, path, content, **headers),
        )
    run.end("pictures, over HTTP")


def test_a_request_that_nearly_is_one_is_answered_or_refused(gateway: Gateway) -> None:
    run = Run()
    bodies = {name.removesuffix(".json"): json.loads(b) for name, b in corpus("bodies").items()}
    for number in run.seeds():
        rng = random.Random(number)
        name = rng.choice(list(bodies))
        body, headers = mutated_body(rng, bodies[name]), {}
        while rng.random() < 0.3:
            header = rng.choice(list(HEADERS))
            headers[header] = rng.choice(HEADERS[header])
        path = ROUTES[name] + rng.choice(("", "", "", "/", "?x=1", "?faces=all", "?" + "a=b&" * 99))
        run.case(
            number,
            limit_seconds(headers),
            partial(posted, gateway, path, body, **headers),
        )
    run.end("requests")


JSON = st.recursive(
    # OpenVINO and torch may have set the processor to flush what is subnormal to zero
    st.sampled_from(VALUES)
    | st.floats(allow_subnormal=False)
    | st.integers()
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "images",
                    "content",
                    "options",
                    "items",
                    "inputs",
                    "shape",
                    "data",
                    "datatype",
                    "name",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


def test_any_json_is_answered_or_refused(gateway: Gateway) -> None:
    """Hypothesis makes it, and the smallest that fails."""
    run = Run()

    def post(path: str, value: object) -> None:
        body = json.dumps(value).encode("utf-8", "surrogatepass")
        run.case(number, limit_seconds({}), lambda: posted(gateway, path, body))

    some = hypothesis_settings(
        max_examples=50,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    anything = given(path=st.sampled_from(sorted(set(ROUTES.values()))), value=JSON)
    for number in run.seeds():
        some(seed(number)(anything(post)))()
    run.end("any JSON")
