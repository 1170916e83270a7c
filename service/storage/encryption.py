"""What waits outside this process is sealed: AES-256-GCM under a key from the environment, bound to what it is and whose it is."""

import base64
import binascii
import hashlib
import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES, NONCE_BYTES = 32, 12
REMEDY = "give 32 random bytes in base64, such as `openssl rand -base64 32` prints"


class DecryptionError(ValueError):
    """Sealed under another key, for something else, or altered."""


class Cipher:
    """Seals, opens and fingerprints under keys derived from one. Two gateways with the same key read each other's."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"AFFECTGAN_JOBS_KEY has {len(key)} bytes: {REMEDY}")
        self._cipher = AESGCM(_derived(key, b"seal"))
        self._digest_key = _derived(key, b"fingerprint")

    @classmethod
    def from_base64(cls, text: str) -> "Cipher":
        """The cipher of a key in base64. Raises ValueError that never shows it."""
        try:
            return cls(base64.b64decode(text, validate=True))
        except binascii.Error:
            raise ValueError(f"AFFECTGAN_JOBS_KEY is not base64: {REMEDY}") from None

    @classmethod
    def with_random_key(cls) -> "Cipher":
        """One whose key is forgotten with the process."""
        return cls(os.urandom(KEY_BYTES))

    def encrypt(self, content: bytes, about: str) -> bytes:
        """Nonce, ciphertext and tag. `about` is not kept; whoever opens must know it."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, content, about.encode())

    def decrypt(self, sealed: bytes, about: str) -> bytes:
        """What was sealed. Raises DecryptionError."""
        try:
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], about.encode())
        except (InvalidTag, ValueError) as error:
            raise DecryptionError(
                "sealed under another key, for another purpose, or altered"
            ) from error

    def keyed_hash(self, *parts: bytes) -> bytes:
        """HMAC-SHA-256 of the parts, each with its length, so that no two lists of parts run together; [32]."""
        digest = hmac.new(self._digest_key, digestmod=hashlib.sha256)
        for part in parts:
            digest.update(len(part).to_bytes(8, "big") + part)
        return digest.digest()


def _derived(key: bytes, purpose: bytes) -> bytes:
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=b"affectgan " + purpose).derive(key)
