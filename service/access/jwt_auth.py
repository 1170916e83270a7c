"""Tokens of an identity provider: JWTs signed by one of the public keys it publishes (JWKS)."""

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
import jwt
from cachetools import TTLCache
from jwt.types import Options

from service.access.authentication import InvalidCredential, Principal
from service.problems import Problem
from service.settings import Settings

# Asymmetric only: a symmetric key would let everybody who can verify a token create one. PyJWT
# itself refuses `none` and a key of another kind.
ALGORITHMS = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
)
FRESH_SECONDS = 300.0  # after which the published keys are fetched again
PAUSE_SECONDS = 10.0  # between two fetches, however many unknown keys are named
FETCH_SECONDS = 5.0
LEEWAY_SECONDS = 30.0  # by which clocks may differ
FOR_EVER_SECONDS = 2**40  # since 1970: a token that ends later never ends
VERIFIED_SECONDS, VERIFIED_TOKENS = (
    30.0,
    4096,
)  # how long a verified token need not be verified again, and how many
log = logging.getLogger(__name__)


class JwksCache:
    """The keys at a JWKS address, cached. While it does not answer, the keys it published last stay
    valid.
    """

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.url, self._clock = url, clock
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = self._tried = float("-inf")
        self._lock = asyncio.Lock()

    async def key(self, kid: str) -> jwt.PyJWK | None:
        """The key of this id; None when it is not published. Raises Problem while nothing was ever
        fetched.
        """
        if kid not in self._keys or self._clock() - self._fetched_at > FRESH_SECONDS:
            async with self._lock:
                if self._clock() - self._tried > PAUSE_SECONDS and (
                    kid not in self._keys or self._clock() - self._fetched_at > FRESH_SECONDS
                ):
                    await self._fetch()
        if not self._keys:
            raise Problem(
                "issuer_unavailable",
                "the keys that sign tokens cannot be fetched; try again",
                retry_seconds=PAUSE_SECONDS,
            )
        return self._keys.get(kid)

    async def _fetch(self) -> None:
        self._tried = self._clock()
        try:
            timeout = aiohttp.ClientTimeout(total=FETCH_SECONDS)
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(self.url) as answer,
            ):
                answer.raise_for_status()
                key_set = jwt.PyJWKSet.from_dict(await answer.json(content_type=None))
        except (
            aiohttp.ClientError,
            TimeoutError,
            ValueError,
            AttributeError,
            jwt.PyJWTError,
        ) as error:
            log.warning(
                "the keys that sign tokens were not fetched (%s); those known stay good",
                type(error).__name__,
            )
            return
        self._keys = {
            key.key_id: key
            for key in key_set.keys
            if key.key_id and key.algorithm_name in ALGORITHMS
        }
        self._fetched_at = self._clock()


class JwtCredentials:
    """JWTs of one issuer for one audience. Scopes are words of the claim `scope` (or `scp`) after
    `prefix`; `sub` is the principal.
    """

    def __init__(self, keys: JwksCache, *, issuer: str, audience: str, prefix: str = "") -> None:
        self.keys, self.issuer, self.audience, self.prefix = (
            keys,
            issuer,
            audience,
            prefix,
        )
        self._verified_tokens: TTLCache[bytes, tuple[Principal, float]] = TTLCache(
            VERIFIED_TOKENS, VERIFIED_SECONDS
        )

    def recognises(self, credential: str) -> bool:
        """Whether it looks like a JWT."""
        return credential.count(".") == 2

    async def verify(self, credential: str) -> Principal:
        """The principal of a token."""
        digest = hashlib.sha256(credential.encode()).digest()
        cached = self._verified_tokens.get(digest)
        if cached is None:
            claims = await self._claims(credential)
            expires = min(int(claims["exp"]), FOR_EVER_SECONDS) + LEEWAY_SECONDS
            cached = self._principal(claims), float(expires)
            self._verified_tokens[digest] = cached
        principal, expires = cached
        if expires < time.time():
            raise InvalidCredential("this token has expired")
        return principal

    async def _claims(self, credential: str) -> Mapping[str, Any]:
        try:
            kid = jwt.get_unverified_header(credential).get("kid")
            key = await self.keys.key(kid) if isinstance(kid, str) else None
            if key is None:
                raise InvalidCredential(
                    "this token is signed by a key that its issuer does not publish"
                )
            required: Options = {"require": ["exp", "iss", "aud", "sub"]}
            return jwt.decode(
                credential,
                key,
                list(ALGORITHMS),
                required,
                audience=self.audience,
                issuer=self.issuer,
                leeway=LEEWAY_SECONDS,
            )
        except jwt.ExpiredSignatureError:
            raise InvalidCredential("this token has expired") from None
        except (jwt.PyJWTError, ArithmeticError, ValueError) as error:  # of a number too large
            raise InvalidCredential(f"this token is not valid here: {error}") from None

    def _principal(self, claims: Mapping[str, Any]) -> Principal:
        words = claims.get("scope", claims.get("scp", ""))
        words = (
            words.split() if isinstance(words, str) else words if isinstance(words, list) else []
        )
        scopes = frozenset(
            str(word).removeprefix(self.prefix)
            for word in words
            if str(word).startswith(self.prefix)
        )
        subject_hash = hashlib.sha256(f"{claims['iss']}\n{claims['sub']}".encode()).hexdigest()[:16]
        return Principal(f"token:{subject_hash}", scopes)


def jwt_from_settings(settings: Settings) -> JwtCredentials | None:
    """The tokens that the settings name, if they name any."""
    if (
        settings.token_jwks_url is None
        or settings.token_issuer is None
        or settings.token_audience is None
    ):
        return None
    return JwtCredentials(
        JwksCache(settings.token_jwks_url),
        issuer=settings.token_issuer,
        audience=settings.token_audience,
        prefix=settings.token_scope_prefix,
    )
