"""Webhooks: a real receiver is called when a job ends, signed; nobody else is called."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from pydantic import SecretStr
from redis import Redis
from standardwebhooks import Webhook, WebhookVerificationError

from service.jobs.webhook_targets import Target, is_public
from service.jobs.webhooks import Webhooks
from service.observability.metrics import Metrics
from service.settings import Settings
from tests.support.gateway import Gateway, open_gateway, serve
from tests.support.http_servers import running
from tests.support.jobs import ASYNC, FIVE_PICTURES, finished_job, redis_settings, start_job
from tests.support.redis_server import RedisServer
from tests.support.waiting import until

pytestmark = pytest.mark.processes

SECRET, OTHER_SECRET = (
    "whsec_" + base64.b64encode(bytes([number] * 32)).decode() for number in (1, 2)
)


@dataclass
class Receiver:
    """Answers with the statuses in `statuses`, one after the other, then 204."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    there = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            there.received.append(
                (dict(self.headers), self.rfile.read(int(self.headers["Content-Length"])))
            )
            self.send_response(there.statuses.pop(0) if there.statuses else 204)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    there.url = f"http://127.0.0.1:{server.server_port}/jobs?of=me"
    with running(server):
        yield there


def calling(receiver: Receiver, **more: Any) -> Settings:
    return Settings(
        webhook_private_targets=(receiver.url.rpartition("/")[0],),
        webhook_secret=SecretStr(SECRET),
        **more,
    )


def calling_over_redis(server: RedisServer, receiver: Receiver, **more: Any) -> Settings:
    names = ("webhook_private_targets", "webhook_secret")
    chosen = {name: getattr(calling(receiver), name) for name in names}
    return redis_settings(server, **chosen, **more)


def retries(hooks: Webhooks) -> float:
    labels = {"outcome": "retried"}
    registry = hooks.metrics.registry
    return registry.get_sample_value("affectgan_webhook_calls_total", labels) or 0


@pytest.fixture(params=["memory", "redis"])
def gateway(request: pytest.FixtureRequest, receiver: Receiver) -> Iterator[Gateway]:
    if request.param == "memory":
        yield from serve(calling(receiver, job_slice_images=1))
    else:
        server = request.getfixturevalue("redis_server")
        yield from serve(calling_over_redis(server, receiver))


def webhook_status(gateway: Gateway, path: str) -> str:
    until(lambda: gateway.get(path).json["webhook"]["status"] != "waiting")
    return str(gateway.get(path).json["webhook"]["status"])


def test_the_end_of_a_job_is_sent_and_signed(gateway: Gateway, receiver: Receiver) -> None:
    path = start_job(gateway, **{"X-Webhook-URL": receiver.url})
    assert webhook_status(gateway, path) == "delivered" and len(receiver.received) == 1
    headers, body = receiver.received[0]
    document = Webhook(SECRET).verify(body, headers)
    assert document["status"] == "done" and document["href"] == path
    assert headers["webhook-id"] == document["id"]
    assert b"valence" not in body  # what was read is fetched with the key


def test_a_cancelled_job_owes_no_webhook(gateway: Gateway, receiver: Receiver) -> None:
    gateway.backend.delay_seconds = 0.2
    path = start_job(gateway, **{"X-Webhook-URL": receiver.url})
    assert gateway.delete(path).json["webhook"]["status"] == "none"
    assert gateway.get(path).json["status"] == "cancelled" and not receiver.received


def test_an_altered_call_and_one_of_another_sender_do_not_verify(
    gateway: Gateway, receiver: Receiver
) -> None:
    path = start_job(gateway, **{"X-Webhook-URL": receiver.url})
    assert webhook_status(gateway, path) == "delivered"
    headers, body = receiver.received[0]
    for secret, content, moment in (
        (OTHER_SECRET, body, headers["webhook-timestamp"]),
        (SECRET, body + b" ", headers["webhook-timestamp"]),
        (SECRET, body, str(int(headers["webhook-timestamp"]) - 1)),
    ):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(content, {**headers, "webhook-timestamp": moment})


def test_a_receiver_that_fails_is_called_again(gateway: Gateway, receiver: Receiver) -> None:
    receiver.statuses = [503, 429]
    path = start_job(gateway, **{"X-Webhook-URL": receiver.url})
    assert webhook_status(gateway, path) == "delivered"
    assert len(receiver.received) == 3
    assert len({headers["webhook-id"] for headers, _ in receiver.received}) == 1


@pytest.mark.parametrize("status", [302, 404, 410])
def test_redirects_are_not_followed_and_client_errors_are_not_retried(
    receiver: Receiver, status: int
) -> None:
    running = serve(calling(receiver))
    gateway, receiver.statuses = next(running), [status]
    path = start_job(gateway, **{"X-Webhook-URL": receiver.url})
    assert (
        webhook_status(gateway, path) == "failed"
        and len(receiver.received) == 1
        and finished_job(gateway, path)["status"] == "done"
    )
    running.close()


def test_a_receiver_that_stays_away_is_given_up(receiver: Receiver) -> None:
    running = serve(calling(receiver, webhook_seconds=1.0))
    gateway, receiver.statuses = next(running), [500] * 100
    assert (
        webhook_status(gateway, start_job(gateway, **{"X-Webhook-URL": receiver.url})) == "failed"
    )
    running.close()


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1:1/x",
        "http://169.254.169.254/latest",
        "http://localhost/x",
        "ftp://127.0.0.1/x",
        "https://user@hooks.example.org/",
        "https://hooks.example.org.evil.test/",
        "https://hooks.example.org:8443/",
        "http://hooks.example.org/",
        "https://10.0.0.1/",
        "https://[::1]/",
        "https://hooks.example.org:x/",
        "nonsense",
    ],
)
def test_a_target_that_is_not_listed_is_refused(url: str) -> None:
    running = serve(
        Settings(
            webhook_targets=("hooks.example.org", "10.0.0.1", "[::1]"),
            webhook_secret=SecretStr(SECRET),
        )
    )
    reply = next(running).post("/v1/predict", FIVE_PICTURES, **ASYNC, **{"X-Webhook-URL": url})
    assert reply.status == 422 and "X-Webhook-URL" in reply.json["detail"]
    running.close()


async def test_a_listed_name_that_leads_inside_is_not_called(receiver: Receiver) -> None:
    url = receiver.url.replace("127.0.0.1", "localhost")
    async with Webhooks((url.rpartition("/")[0],), (), SECRET, Metrics(), seconds=5) as hooks:
        assert hooks.check(url) and not await hooks.deliver(url, b"{}", "delivery")
        assert not receiver.received and not retries(hooks)
    async with Webhooks((), (url.rpartition("/")[0],), SECRET, Metrics(), seconds=5) as hooks:
        assert await hooks.deliver(url, b"{}", "delivery")


@pytest.mark.parametrize(
    ("address", "open_to_all"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        *[
            (address, False)
            for address in (
                "127.0.0.1",
                "10.1.2.3",
                "169.254.169.254",
                "100.64.0.1",
                "0.0.0.0",
                "224.0.0.1",
                "::1",
            )
        ],
        *[
            (address, False)
            for address in (
                "::ffff:10.0.0.1",
                "64:ff9b::a00:1",
                "2002:a00:1::",
                "fe80::1%eth0",
                "fd00::1",
            )
        ],
    ],
)
def test_which_addresses_are_public(address: str, open_to_all: bool) -> None:
    assert is_public(address) == open_to_all


def test_wrong_targets_are_refused_with_a_remedy() -> None:
    for text in ("https://a/path", "ftp://a", "https://u@a", ""):
        with pytest.raises(ValueError, match="give host, host:port"):
            Target.parse(text)
    with pytest.raises(ValueError, match="AFFECTGAN_WEBHOOK_SECRET is missing"):
        Webhooks(("a",), (), None, Metrics(), seconds=1)


@pytest.mark.parametrize("secret", ["a secret of both sides", "whsec_c2hvcnQ=", "whsec_"])
def test_a_secret_that_cannot_be_used_is_refused_without_showing_it(secret: str) -> None:
    with pytest.raises(ValueError, match="openssl rand") as raised:
        Webhooks(("a",), (), secret, Metrics(), seconds=1)
    assert secret.removeprefix("whsec_") == "" or secret not in str(raised.value)


def test_a_webhook_needs_a_job(receiver: Receiver) -> None:
    running = serve(calling(receiver))
    reply = next(running).post("/v1/predict", FIVE_PICTURES, **{"X-Webhook-URL": receiver.url})
    assert reply.status == 422 and "respond-async" in reply.json["detail"]
    running.close()


def test_a_webhook_that_a_dead_gateway_owes_is_called_by_another(
    redis_server: RedisServer, receiver: Receiver
) -> None:
    """The first gateway finishes the job and dies while the receiver does not answer."""
    receiver.statuses = [503] * 3
    first = serve(
        calling_over_redis(redis_server, receiver, job_lease_seconds=0.5, webhook_seconds=60)
    )
    gateway = next(first)
    path = start_job(gateway, **{"X-Webhook-URL": receiver.url})
    until(lambda: len(receiver.received) >= 1)
    first.close()
    second = serve(calling_over_redis(redis_server, receiver, job_lease_seconds=0.5))
    assert webhook_status(next(second), path) == "delivered"
    second.close()


def test_a_job_that_an_earlier_gateway_stored_is_done_and_its_webhook_called(
    redis_server: RedisServer, receiver: Receiver
) -> None:
    with open_gateway(calling_over_redis(redis_server, receiver, job_workers=0)) as accepting:
        path = start_job(accepting, **{"X-Webhook-URL": receiver.url})
        with Redis.from_url(redis_server.url) as client:
            _store_as_earlier_gateways_did(client)
        assert accepting.get(path).json["webhook"]["status"] == "waiting"
        with open_gateway(calling_over_redis(redis_server, receiver)) as working:
            document = finished_job(working, path)
            assert document["status"] == "done" and document["progress"]["of"] == 5
            assert webhook_status(working, path) == "delivered"


def _store_as_earlier_gateways_did(client: Any) -> None:
    (job,) = client.keys("affectgan:{jobs}:job:*")
    fixed = json.loads(client.hget(job, "fixed"))
    fixed["of"], fixed["wanted"] = fixed.pop("images"), fixed.pop("response_media_type")
    client.hset(job, "fixed", json.dumps(fixed))
    client.hset(job, "told", client.hget(job, "webhook_status"))
    client.hdel(job, "webhook_status")
