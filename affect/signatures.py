"""Who made the files of a model: an Ed25519 signature (RFC 8032) over their SHA-256, kept beside
them in signature.json.

    affectgan sign DIR --key key.pem      writes it, for a folder of weights or of archives
    AFFECTGAN_TRUSTED_KEY=key.pub         from then on nothing unsigned, changed or signed by
                                          another key is loaded, served, fetched or pushed

Without that variable nothing is checked. The writer and the reader are here; no torch.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, ValidationError

from affect.archive import OPERATIONS, archive_of, sha256_of
from affect.card import CARD_FILE, WEIGHTS_FILE
from affect.model_folders import JUDGE_FILE, JUDGE_FOLDER, JUDGE_WEIGHTS_FILE

SIGNATURE_FILE = "signature.json"
KEY_VARIABLE = "AFFECTGAN_TRUSTED_KEY"


class SignatureError(ValueError):
    """Files that are not what the trusted key signed: says which, and what to do."""


class Signature(BaseModel):
    """What signature.json holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    files: dict[str, str]
    """SHA-256 of every file of the model, by its path in the folder."""
    signature: str
    """Of `files` as JSON with sorted names and no spaces, hexadecimal."""


def new_key(path: Path) -> Path:
    """Write a private key (PEM, for its owner alone) and beside it, as .pub, the public key.

    Raises SignatureError rather than write over a key.
    """
    public = path.with_suffix(".pub")
    for existing in (path, public):
        if existing.exists():
            raise SignatureError(f"{existing} is there already; name a new file")
    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.touch(mode=0o600)
    path.write_bytes(secret)
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return public


def sign(folder: Path, key: Path) -> Path:
    """Write signature.json of a folder of weights or archives. Raises SignatureError."""
    files = {name: sha256_of(folder / name) for name in _files(folder)}
    if CARD_FILE not in files:
        raise SignatureError(f"{folder} holds no {CARD_FILE}: give a folder of weights or archives")
    signed = Signature(files=files, signature=_private(key).sign(_statement(files)).hex())
    (folder / SIGNATURE_FILE).write_text(signed.model_dump_json(indent=1) + "\n")
    return folder / SIGNATURE_FILE


def check(folder: Path, environment: Mapping[str, str] = os.environ) -> None:
    """Raises SignatureError unless the trusted key signed every file of this model as it is; does
    nothing where no key is named.
    """
    if not (key_path := environment.get(KEY_VARIABLE)):
        return
    trusted, path = _public(Path(key_path)), folder / SIGNATURE_FILE
    try:
        signed = Signature.model_validate_json(path.read_bytes())
        trusted.verify(bytes.fromhex(signed.signature), _statement(signed.files))
    except FileNotFoundError as error:
        raise SignatureError(
            f"{folder} is not signed: `affectgan sign {folder} --key KEY`, or unset {KEY_VARIABLE}"
        ) from error
    except (ValidationError, ValueError) as error:
        raise SignatureError(f"{path} cannot be read: {error}; sign {folder} again") from error
    except InvalidSignature as error:
        raise SignatureError(
            f"{path} is not by the key in {key_path}; nothing of it is used"
        ) from error
    present = set(_files(folder))
    for name in sorted(present | signed.files.keys()):
        if name not in present or signed.files.get(name) != sha256_of(folder / name):
            raise SignatureError(
                f"{folder / name} is not what was signed; nothing of {folder} is used"
            )


def _files(folder: Path) -> list[str]:
    """Every file that is loaded from a folder of weights or archives and is there, by its path."""
    judge = (f"{JUDGE_FOLDER}/{name}" for name in (JUDGE_FILE, JUDGE_WEIGHTS_FILE))
    archives = (archive_of(folder, operation).name for operation in OPERATIONS)
    return [
        name for name in (CARD_FILE, WEIGHTS_FILE, *judge, *archives) if (folder / name).is_file()
    ]


def _statement(files: Mapping[str, str]) -> bytes:
    return json.dumps(dict(files), sort_keys=True, separators=(",", ":")).encode()


def _private(path: Path) -> Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (ValueError, TypeError) as error:
        raise SignatureError(f"{path} is no PEM key without a password: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SignatureError(f"{path} is no Ed25519 key: make one with --new-key")
    return key


def _public(path: Path) -> Ed25519PublicKey:
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SignatureError(
            f"{KEY_VARIABLE} names {path}, which is no PEM key: {error}"
        ) from error
    if not isinstance(key, Ed25519PublicKey):
        raise SignatureError(f"{KEY_VARIABLE} names {path}, which is no Ed25519 key")
    return key
