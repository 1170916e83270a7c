"""The only cryptography of the gateway: AES-256-GCM, keyed hashes, and the keys derived for them.

Content that leaves this process is encrypted under a key from the environment, and bound to its
purpose and owner: the `context`, which is authenticated but not stored.
"""

import base64
import binascii
import hashlib
import hmac
import os
from itertools import chain
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES, NONCE_BYTES = 32, 12
REMEDY = "give 32 random bytes in base64, such as `openssl rand -base64 32` prints"


class DecryptionError(ValueError):
    """Encrypted under another key, for another context, or altered."""


class Cipher:
    """Encrypts, decrypts and hashes under keys derived from one secret.

    Two gateways with the same secret read each other's content and compute the same hashes.
    """

    def __init__(self, secret: bytes) -> None:
        self._cipher = AESGCM(_derive(secret, b"seal"))
        self._hash = hmac.new(_derive(secret, b"fingerprint"), digestmod=hashlib.sha256)

    @classmethod
    def from_base64(cls, text: str) -> Self:
        """The cipher of a key as AFFECTGAN_JOBS_KEY has it. Raises ValueError, without the key."""
        try:
            key = base64.b64decode(text, validate=True)
        except binascii.Error:
            raise ValueError(f"AFFECTGAN_JOBS_KEY is not base64: {REMEDY}") from None
        if len(key) != KEY_BYTES:
            raise ValueError(f"AFFECTGAN_JOBS_KEY has {len(key)} bytes: {REMEDY}")
        return cls(key)

    @classmethod
    def from_secret(cls, text: str) -> Self:
        """The cipher of a secret that people chose, of any length."""
        return cls(text.encode())

    @classmethod
    def with_random_key(cls) -> Self:
        """A cipher with a random key that ends with the process."""
        return cls(os.urandom(KEY_BYTES))

    def encrypt(self, content: bytes, context: str) -> bytes:
        """Nonce, ciphertext and tag."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, content, context.encode())

    def decrypt(self, encrypted: bytes, context: str) -> bytes:
        """The content. Raises DecryptionError."""
        nonce, ciphertext = encrypted[:NONCE_BYTES], encrypted[NONCE_BYTES:]
        try:
            return self._cipher.decrypt(nonce, ciphertext, context.encode())
        except (InvalidTag, ValueError) as error:
            raise DecryptionError("encrypted under another key or context, or altered") from error

    def keyed_hash(self, *parts: bytes) -> bytes:
        """HMAC-SHA-256 of the parts, 32 bytes.

        Each part is preceded by its length, so that no two lists of parts give the same hash.
        """
        digest = self._hash.copy()
        lengths = [len(part).to_bytes(8, "big") for part in parts]
        digest.update(b"".join(chain.from_iterable(zip(lengths, parts, strict=True))))
        return digest.digest()


def _derive(secret: bytes, purpose: bytes) -> bytes:
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=b"affectgan " + purpose).derive(secret)
