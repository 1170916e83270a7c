"""The certificate and key that sign what is drawn: the operator's, or one made for development that
says so in its own name.

Keys are read from files that the operator names and are never shown, logged or copied.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# (certificate, key) in a folder of development credentials
CHAIN_FILE, KEY_FILE = "development-certificate.pem", "development-key.pem"
NOBODY = "AffectGAN development certificate, identifies nobody"
DEVELOPMENT_DAYS = 397
# COSE algorithms that C2PA allows, by curve (C2PA 2.2, 13.2.1)
CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}


class CredentialsError(ValueError):
    """A certificate or key that cannot sign: says which file and what to do."""


@dataclass(frozen=True)
class MarkingSettings:
    """How pictures are marked. `from_environment` reads AFFECTGAN_<FIELD> in capitals."""

    signing_certificate: Path | None = None  # PEM, the signer's first, then who issued it
    signing_key: Path | None = None  # PEM, not encrypted
    # Where a certificate for development is made once; None: one that dies with the process.
    signing_folder: Path | None = None
    timestamp_url: str | None = None  # of an RFC 3161 authority; one request for each picture
    trusted_certificates: Path | None = None  # PEM: roots that `verify` trusts beside our own

    @classmethod
    def from_environment(cls, values: Mapping[str, str] = os.environ) -> "MarkingSettings":
        """Of this process."""

        def path(name: str) -> Path | None:
            return Path(text) if (text := values.get(f"AFFECTGAN_{name}")) else None

        return cls(
            path("SIGNING_CERTIFICATE"),
            path("SIGNING_KEY"),
            path("SIGNING_FOLDER"),
            values.get("AFFECTGAN_TIMESTAMP_URL") or None,
            path("TRUSTED_CERTIFICATES"),
        )


@dataclass(frozen=True)
class Credentials:
    """A certificate chain and its key, both PEM."""

    chain: bytes
    key: bytes = field(repr=False)
    algorithm: str  # of COSE, such as es256
    development: bool = False  # it identifies nobody

    @property
    def certificates(self) -> list[x509.Certificate]:
        """The signer's first."""
        return x509.load_pem_x509_certificates(self.chain)

    @property
    def serial(self) -> str:
        """Of the signer's certificate, decimal."""
        return str(self.certificates[0].serial_number)

    @property
    def issuers(self) -> bytes:
        """PEM of all but the signer's own; the signer's where there is no other."""
        chain = self.certificates
        return b"".join(_pem(one) for one in chain[1:] or chain)


def credentials(settings: MarkingSettings) -> Credentials:
    """The operator's, or those for development. Raises CredentialsError."""
    certificate, key = settings.signing_certificate, settings.signing_key
    if (certificate is None) != (key is None):
        raise CredentialsError(
            "signing_certificate and signing_key belong together: give both or none"
        )
    if certificate is not None and key is not None:
        return _read(certificate, key)
    folder = settings.signing_folder
    if folder is None:
        return development_credentials()
    return _development_credentials_in(folder)


def development_credentials() -> Credentials:
    """A new chain of two certificates whose names say that they identify nobody."""
    now = datetime.now(UTC)
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root_name = _name("root")
    root = (
        _certificate(root_name, root_name, root_key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key())
    signer = (
        _certificate(_name("signer"), root_name, key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False)
        .add_extension(issuer, critical=False)
        .sign(root_key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return Credentials(_pem(signer) + _pem(root), secret, "es256", development=True)


def _development_credentials_in(folder: Path) -> Credentials:
    """Those of the folder, made there when it has none or they have run out."""
    chain, key = folder / CHAIN_FILE, folder / KEY_FILE
    if chain.is_file() and key.is_file():
        stored = _read(chain, key)
        if stored.certificates[0].not_valid_after_utc > datetime.now(UTC):
            return stored
    created = development_credentials()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in ((key, created.key), (chain, created.chain)):
            part = path.with_suffix(f".{os.getpid()}")
            part.touch(mode=0o600)
            part.write_bytes(content)
            part.replace(path)
    except OSError as error:
        raise CredentialsError(
            f"signing_folder {folder} cannot be written: {error}; name a folder that can"
        ) from error
    return created


def _read(chain: Path, key: Path) -> Credentials:
    try:
        content, secret = chain.read_bytes(), key.read_bytes()
        certificates = x509.load_pem_x509_certificates(content)
        private = serialization.load_pem_private_key(secret, None)
    except OSError as error:
        raise CredentialsError(f"{error.filename} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise CredentialsError(
            f"{chain} and {key} must be PEM, the key not encrypted; one of them is not"
        ) from error
    if private.public_key() != certificates[0].public_key():
        raise CredentialsError(f"{key} is not the key of the first certificate in {chain}")
    development = _common_name(certificates[0]).startswith(NOBODY)
    return Credentials(content, secret, _algorithm(private, key), development)


def _algorithm(key: object, path: Path) -> str:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in CURVES:
        return CURVES[key.curve.name]
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= 2048:
        return "ps256"
    raise CredentialsError(
        f"{path} is no key that C2PA signs with; make one on P-256, P-384, P-521, Ed25519, or RSA "
        "of 2048 bits or more"
    )


def _name(role: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, f"{NOBODY} ({role})"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, NOBODY),
        ]
    )


def _common_name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def _certificate(
    name: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=DEVELOPMENT_DAYS))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
