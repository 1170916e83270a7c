"""Who may, over HTTP: keys, tokens, scopes, and what a refusal says."""

import asyncio
import base64
import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from pydantic import ValidationError

from service.access import api_keys
from service.access.api_keys import KeysError, api_keys_from_settings, new_key, parse
from service.access.authentication import InvalidCredential
from service.settings import Settings
from tests.support.gateway import Gateway, open_gateway, serve
from tests.support.http_servers import running
from tests.support.keys import add_key, post_with_key
from tests.support.waiting import Clock

ISSUER, AUDIENCE = "https://issuer.example", "affectgan"
RSA, EC, STRANGER = (
    rsa.generate_private_key(65537, 2048),
    ec.generate_private_key(ec.SECP256R1()),
    ec.generate_private_key(ec.SECP256R1()),
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "keys.yaml"


@pytest.fixture(scope="module")
def reader(file: Path) -> str:
    return add_key(file, "reader", "--scope", "predict")


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    """An identity provider that publishes two public keys, and one nobody may use."""
    published: list[dict[str, Any]] = [
        json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(RSA.public_key()))
        | {"kid": "rsa", "alg": "RS256"},
        json.loads(jwt.algorithms.ECAlgorithm.to_jwk(EC.public_key()))
        | {"kid": "ec", "alg": "ES256"},
        {
            "kty": "oct",
            "kid": "secret",
            "alg": "HS256",
            "k": base64.urlsafe_b64encode(b"s" * 32).decode(),
        },
    ]

    class Provider(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"keys": published}).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Provider)
    with running(server):
        yield f"http://127.0.0.1:{server.server_port}/jwks"


@pytest.fixture(scope="module")
def gateway(file: Path, reader: str, issuer: str) -> Iterator[Gateway]:
    tokens: dict[str, Any] = {
        "token_jwks_url": issuer,
        "token_issuer": ISSUER,
        "token_audience": AUDIENCE,
        "token_scope_prefix": "face:",
    }
    yield from serve(Settings(keys_file=file, **tokens))


def token(key: Any = EC, kid: str = "ec", algorithm: str = "ES256", **claims: Any) -> str:
    now = int(time.time())
    whole = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "ann",
        "exp": now + 86_400,  # these are made before any test runs
        "scope": "openid face:predict",
    } | claims
    return jwt.encode(
        {name: value for name, value in whole.items() if value is not None},
        key,
        algorithm,
        {"kid": kid},
    )


def test_a_key_opens_what_its_scope_names(gateway: Gateway, reader: str) -> None:
    assert post_with_key(gateway, reader).status == 200
    assert post_with_key(gateway, "", Authorization=f"Bearer {reader}").status == 200
    response = post_with_key(gateway, reader, "/v1/explain")
    assert (
        response.status == 403
        and "'explain'" in response.json["detail"]
        and response.json["code"] == "forbidden"
    )
    assert (
        response.headers["WWW-Authenticate"] == 'Bearer error="insufficient_scope", scope="explain"'
    )


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({}, "send an API key"),
        ({"X-API-Key": new_key("nobody")[0]}, "unknown API key"),
        ({"X-API-Key": "ag_"}, "unknown API key"),
        ({"X-API-Key": "hunter2"}, "not a key"),
        ({"Authorization": "Basic YTpi"}, "not Bearer"),
        ({"Authorization": "Bearer one-secret", "X-API-Key": "another"}, "differ"),
        ({"Authorization": "Bearer a.b.c"}, "not valid"),
    ],
)
def test_without_a_good_credential_nothing_is_read(
    gateway: Gateway, headers: dict[str, str], words: str
) -> None:
    before = list(gateway.backend.predicted)
    reply = gateway.post("/v1/predict", b"{not even JSON", **headers)
    assert (
        reply.status == 401
        and words in reply.json["detail"]
        and reply.headers["WWW-Authenticate"].startswith("Bearer")
    )
    assert gateway.backend.predicted == before and not any(
        value in reply.body.decode() for value in headers.values()
    )


def test_a_key_with_another_secret_is_unknown(gateway: Gateway, reader: str) -> None:
    assert post_with_key(gateway, reader[:-1] + ("A" if reader[-1] != "A" else "B")).status == 401


def test_health_and_cards_need_no_key(gateway: Gateway) -> None:
    assert [
        gateway.get(path).status
        for path in ("/healthz", "/readyz", "/v1/models", "/openapi.json", "/")
    ] == [200] * 5


@pytest.mark.parametrize(("key", "kid", "algorithm"), [(RSA, "rsa", "RS256"), (EC, "ec", "ES256")])
def test_a_token_of_the_issuer_is_taken(
    gateway: Gateway, key: Any, kid: str, algorithm: str
) -> None:
    bearer = {"Authorization": f"Bearer {token(key, kid, algorithm)}"}
    assert (
        post_with_key(gateway, "", **bearer).status == 200
        and post_with_key(gateway, "", **bearer).status == 200
    )
    assert post_with_key(gateway, "", "/v1/explain", **bearer).status == 403


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (token(exp=int(time.time()) - 3600), "expired"),
        (token(exp=None), "exp"),
        (token(nbf=int(time.time()) + 3600), "not yet valid"),
        (token(iss="https://elsewhere.example"), "issuer"),
        (token(aud="another"), "udience"),
        (token(sub=None), "sub"),
        (token(STRANGER), "ignature"),
        (token(STRANGER, "stranger"), "does not publish"),
        (token("s" * 32, "secret", "HS256"), "does not publish"),
        (
            jwt.encode(
                {"iss": ISSUER, "aud": AUDIENCE, "sub": "a", "exp": 2**33},
                "s" * 32,
                "HS256",
                {"kid": "rsa"},
            ),
            "not valid",
        ),
        (
            jwt.encode(
                {"iss": ISSUER, "aud": AUDIENCE, "sub": "a", "exp": 2**33},
                "",
                "none",
                {"kid": "ec"},
            ),
            "not valid",
        ),
    ],
)
def test_other_tokens_are_not(gateway: Gateway, bad: str, words: str) -> None:
    reply = post_with_key(gateway, "", Authorization=f"Bearer {bad}")
    assert reply.status == 401 and words in reply.json["detail"], reply.json


@pytest.mark.parametrize(
    ("claim", "number", "status"),
    [
        ("exp", 10**400, 200),  # no year has so many digits, and none is later
        ("exp", 10**4000, 200),
        ("exp", 1e308, 200),
        ("exp", -(10**400), 401),
        ("exp", float("inf"), 401),
        ("exp", float("nan"), 401),
        ("nbf", 10**400, 401),
        ("iat", 10**400, 401),
        ("nbf", float("inf"), 401),
        ("exp", [10**400], 401),
        ("exp", "9" * 5000, 401),
    ],
)
def test_no_number_in_a_token_is_too_large_to_be_read(
    gateway: Gateway, claim: str, number: Any, status: int
) -> None:
    bearer = {"Authorization": f"Bearer {token(**{claim: number})}"}
    for _ in range(2):  # the second time from the cache
        assert post_with_key(gateway, "", **bearer).status == status


def test_while_the_issuer_was_never_reached_tokens_get_503_and_not_401(file: Path) -> None:
    settings = Settings(
        token_jwks_url="http://127.0.0.1:9/jwks", token_issuer=ISSUER, token_audience=AUDIENCE
    )
    with open_gateway(settings) as gateway:
        reply = post_with_key(gateway, "", Authorization=f"Bearer {token()}")
        assert (
            reply.status == 503
            and reply.json["code"] == "issuer_unavailable"
            and reply.headers["Retry-After"]
        )


def test_a_file_of_keys_is_read_again_when_it_changes(tmp_path: Path) -> None:
    file, now = tmp_path / "keys.yaml", [0.0]
    first = add_key(file)
    keys = api_keys.ApiKeys(file=file, clock=lambda: now[0])
    second = add_key(file, "other")
    assert _refusal(keys, second) == "unknown API key"
    now[0] += api_keys.RELOAD_SECONDS + 1
    assert _refusal(keys, second) is None and _refusal(keys, first) is None
    file.write_text("keys: [broken")
    now[0] += api_keys.RELOAD_SECONDS + 1
    assert _refusal(keys, second) is None
    file.write_text("keys: []")
    now[0] += api_keys.RELOAD_SECONDS + 1
    assert _refusal(keys, second) == "unknown API key"


def test_a_key_taken_out_of_a_mounted_secret_is_refused(tmp_path: Path) -> None:
    """Kubernetes writes a new folder and moves a link to it."""
    text, key = new_key("revoked")
    for name, keys in (("v1", [key.model_dump(mode="json", exclude_none=True)]), ("v2", [])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "keys.yaml").write_text(yaml.safe_dump({"keys": keys}))
    (tmp_path / "..data").symlink_to("v1")
    (tmp_path / "keys.yaml").symlink_to("..data/keys.yaml")
    clock = Clock()
    known = api_keys.ApiKeys(file=tmp_path / "keys.yaml", clock=clock)
    assert _refusal(known, text) is None
    (tmp_path / "..new").symlink_to("v2")
    (tmp_path / "..new").replace(tmp_path / "..data")
    clock.now = api_keys.RELOAD_SECONDS
    assert _refusal(known, text) == "unknown API key"


def test_an_expired_key_says_so(tmp_path: Path) -> None:
    text, key = new_key("old", expires="2020-01-01")
    keys = api_keys.ApiKeys(yaml.safe_dump({"keys": [key.model_dump(mode="json")]}))
    assert _refusal(keys, text) == "this API key has expired"


def test_the_file_has_no_key_in_it(tmp_path: Path) -> None:
    text = add_key(tmp_path / "keys.yaml", "clinic", "--requests", "5", "--days", "3")
    written = (tmp_path / "keys.yaml").read_text()
    assert text not in written and text.split("_", 2)[2] not in written
    (key,) = parse(written, "it").values()
    assert (
        key.name == "clinic"
        and key.principal.quota is not None
        and key.principal.quota.requests == 5
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("keys: {", "not YAML"),
        ("keys: 3", "list"),
        ("keys:\n- {id: x, sha256: y, name: z}", "pattern"),
        ("key: []", "keys"),
    ],
)
def test_a_wrong_file_of_keys_says_where(text: str, words: str) -> None:
    with pytest.raises(KeysError, match=words):
        parse(text, "keys.yaml")


def test_settings_take_secrets_from_files_and_never_show_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, key = new_key("of a secret")
    (tmp_path / "affectgan_keys").write_text(
        yaml.safe_dump({"keys": [key.model_dump(mode="json", exclude_none=True)]})
    )
    (tmp_path / "affectgan_redis_url").write_text("redis://:hunter2@127.0.0.1/0")
    monkeypatch.setenv("AFFECTGAN_SECRETS_DIR", str(tmp_path))
    # A ConfigMap's default is beside it.
    monkeypatch.setenv("AFFECTGAN_REDIS_URL", "redis://affectgan-redis:6379/0")
    settings = Settings()
    assert settings.redis_url and "hunter2" in settings.redis_url.get_secret_value()
    keys = api_keys_from_settings(settings)
    assert keys is not None and _refusal(keys, text) is None
    assert "hunter2" not in repr(settings) and key.sha256 not in repr(settings)
    with pytest.raises(ValidationError, match="belong together"):
        Settings(token_issuer=ISSUER)


def _refusal(keys: api_keys.ApiKeys, text: str) -> str | None:
    try:
        asyncio.run(keys.verify(text))
    except InvalidCredential as refusal:
        return str(refusal)
    return None
