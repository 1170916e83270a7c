"""Who a client is behind proxies: `X-Forwarded-For` counts from addresses that the operator lists,
and from nobody else.
"""

import io
import json
import logging

import pytest
from pydantic import ValidationError

from service.observability import logging_setup
from service.settings import Settings
from tests.support.gateway import Gateway, open_gateway
from tests.support.pictures import PREDICT_BODY

ANN, BEN = "203.0.113.5", "2001:db8::7"


def statuses(gateway: Gateway, *forwarded: str) -> list[int]:
    """The statuses of requests that say whom they are forwarded for."""
    return [
        gateway.post("/v1/predict", PREDICT_BODY, **{"X-Forwarded-For": who}).status
        for who in forwarded
    ]


def test_each_client_behind_a_listed_proxy_has_a_quota_of_its_own() -> None:
    with open_gateway(
        Settings(trusted_proxies="10.0.0.0/8, 127.0.0.1", quota_requests=1)
    ) as gateway:
        assert statuses(gateway, ANN, ANN, BEN, f"{ANN}, 10.1.2.3") == [
            200,
            429,
            200,
            429,
        ]  # the last: by a second listed proxy


def test_what_a_client_writes_before_its_own_address_counts_for_nothing() -> None:
    with open_gateway(Settings(trusted_proxies="127.0.0.1/32", quota_requests=1)) as gateway:
        assert statuses(gateway, ANN, f"{BEN}, {ANN}", f"10.1.2.3, {ANN}") == [200, 429, 429]


@pytest.mark.parametrize("listed", ["", "10.0.0.0/8"])
def test_forwarded_addresses_of_other_proxies_are_ignored_even_from_this_machine(
    listed: str,
) -> None:
    with open_gateway(Settings(trusted_proxies=listed, quota_requests=1)) as gateway:
        assert statuses(gateway, ANN, BEN) == [200, 429]


@pytest.mark.parametrize("text", ["*", "proxy.example", "10.0.0.1/8"])
def test_what_is_no_address_is_refused_at_the_start(text: str) -> None:
    with pytest.raises(ValidationError, match="trusted_proxies"):
        Settings(trusted_proxies=text)


def test_the_log_names_the_client_rather_than_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    written, handler, logger = (
        io.StringIO(),
        logging_setup.handler_from_settings(Settings(log_format="json")),
        logging.getLogger("service.api.middleware"),
    )
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(written)
    monkeypatch.setattr(logger, "handlers", [handler])
    monkeypatch.setattr(logger, "level", logging.INFO)
    logger.manager._clear_cache()  # type: ignore[attr-defined]
    with open_gateway(Settings(trusted_proxies="127.0.0.1")) as gateway:
        statuses(gateway, ANN)
    assert json.loads(written.getvalue().splitlines()[-1])["client"] == ANN
