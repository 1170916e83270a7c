"""Signs pictures with C2PA manifests, and reads such manifests.

A signature holds random parts: the same picture signed twice has the same pixels, not the same
bytes.
"""

import io
import json
from dataclasses import dataclass
from typing import Any

import c2pa

from affect import image_headers
from affect.image_headers import JUMBF
from affect.marking.claims import MODEL_LABEL, PARENT, Claim
from affect.marking.credentials import Credentials, CredentialsError, MarkingSettings

# Nothing is fetched for a picture that somebody sends, and no thumbnail of a face is stored.
QUIET = {
    "builder": {"thumbnail": {"enabled": False}},
    "verify": {
        "verify_after_sign": False,
        "remote_manifest_fetch": False,
        "ocsp_fetch": False,
    },
}


@dataclass(frozen=True)
class Manifest:
    """A picture's manifest, and whether it is valid."""

    valid: bool  # the signature is whole and belongs to these pixels
    trusted: bool  # its certificate leads to one that we trust
    issuer: str  # organisation of the certificate
    serial: str
    generator: str  # name and version of the program that signed
    actions: tuple[dict[str, Any], ...]  # those of the last manifest, each with its `action`
    model: dict[str, str]  # our assertion about the model; empty: not by us
    ingredients: int  # pictures that it was made from and that are named
    failures: tuple[str, ...]  # C2PA's codes of what does not hold


class Signer:
    """Signs with one certificate. Thread-safe."""

    def __init__(self, credentials: Credentials, timestamp_url: str | None = None) -> None:
        """Raises CredentialsError for a certificate that C2PA does not take."""
        self.credentials = credentials
        info = c2pa.C2paSignerInfo(
            alg=credentials.algorithm.encode(),
            sign_cert=credentials.chain,
            private_key=credentials.key,
            ta_url=timestamp_url.encode() if timestamp_url else None,
        )
        try:
            self._signer = c2pa.Signer.from_info(info)
        except c2pa.C2paError as error:
            raise CredentialsError(f"the signing certificate is refused: {error}") from error
        self._context = c2pa.Context.from_dict(QUIET)

    def sign(
        self, content: bytes, media_type: str, claim: Claim, source: bytes | None = None
    ) -> bytes:
        """The file (PNG, JPEG or WebP) with a signed manifest of the claim.

        `source` is the file that the picture was made from: when it has a manifest, that becomes
        an ingredient, checked or not. Raises CredentialsError when nothing can be signed, such as
        when the time-stamp authority does not answer.
        """
        parent = source if claim.kind != "drawn" and source and JUMBF in source else None
        try:
            return self._signed(content, media_type, claim, parent)
        except c2pa.C2paError as error:
            if parent is None:
                raise CredentialsError(f"the picture cannot be signed: {error}") from error
        # A broken manifest in the source does not prevent our own.
        return self.sign(content, media_type, claim)

    def _signed(self, content: bytes, media_type: str, claim: Claim, parent: bytes | None) -> bytes:
        out = io.BytesIO()
        manifest = claim.manifest(parent_given=parent is not None)
        with c2pa.Builder(manifest, context=self._context) as builder:
            if parent is not None:
                ingredient = {"title": PARENT, "relationship": "parentOf", "label": PARENT}
                builder.add_ingredient(
                    ingredient, image_headers.media_type(parent), io.BytesIO(parent)
                )
            builder.sign(self._signer, media_type, io.BytesIO(content), out)
        return out.getvalue()


class ManifestReader:
    """Reads manifests, and trusts our own certificate and those of a file. Thread-safe."""

    def __init__(self, own: Credentials, settings: MarkingSettings) -> None:
        """Raises CredentialsError when the trusted certificates cannot be read."""
        anchors = own.issuers
        if settings.trusted_certificates is not None:
            try:
                anchors += settings.trusted_certificates.read_bytes()
            except OSError as error:
                raise CredentialsError(
                    f"trusted_certificates {settings.trusted_certificates} cannot be read: "
                    f"{error.strerror}"
                ) from error
        self._context = c2pa.Context.from_dict(
            QUIET | {"trust": {"user_anchors": anchors.decode()}}
        )

    def read(self, content: bytes, media_type: str) -> Manifest | None:
        """The last manifest of a file; None when it has none. A broken one is not valid."""
        if JUMBF not in content:
            return None
        try:
            with c2pa.Reader(media_type, io.BytesIO(content), context=self._context) as reader:
                state, store = reader.get_validation_state(), json.loads(reader.json())
        except c2pa.C2paError as error:
            if "ManifestNotFound" in str(error):
                return None
            return Manifest(False, False, "", "", "", (), {}, 0, (str(error).split(":")[0],))
        return _manifest(store, str(state))


def _manifest(store: dict[str, Any], state: str) -> Manifest:
    """Anybody with a certificate may sign any content: no field is sure to be well formed."""
    last = _object(_object(store.get("manifests")).get(str(store.get("active_manifest"))))
    signed = _object(last.get("signature_info"))
    made_with = _objects(last.get("claim_generator_info"))[:1]
    assertions = {
        str(one.get("label")): _object(one.get("data")) for one in _objects(last.get("assertions"))
    }
    actions = next(
        (data for label, data in assertions.items() if label.startswith("c2pa.actions")), {}
    )
    checked = _object(_object(store.get("validation_results")).get("activeManifest"))
    return Manifest(
        valid=state in ("Valid", "Trusted"),
        trusted=state == "Trusted",
        issuer=str(signed.get("issuer") or ""),
        serial=str(signed.get("cert_serial_number") or ""),
        generator=" ".join(
            str(one[name]) for one in made_with for name in ("name", "version") if name in one
        ),
        actions=tuple(_objects(actions.get("actions"))),
        model=_texts(assertions.get(MODEL_LABEL)),
        ingredients=len(_objects(last.get("ingredients"))),
        failures=tuple(str(one.get("code")) for one in _objects(checked.get("failure"))),
    )


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _texts(value: Any) -> dict[str, str]:
    return {name: text for name, text in _object(value).items() if isinstance(text, str)}
