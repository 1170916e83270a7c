import io
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from affect.images import decode, encode
from affect.marking import Claim, CredentialsError, Marker, MarkingSettings
from affect.marking.claims import DRAWN, EDITED
from affect.marking.credentials import NOBODY, credentials, development_credentials
from affect.marking.signing import Manifest, ManifestReader, Signer
from tests.support.signed import HOSTILE_MODELS, signed_png

FACE = np.random.default_rng(0).integers(60, 200, (64, 64, 3)).astype(np.uint8)
CLAIM = Claim("affectgan", "1.0", "ab" * 32)
EDIT = replace(CLAIM, kind="edited")
KINDS = ["image/png", "image/jpeg", "image/webp"]


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer(development_credentials())


def _read(signer: Signer, content: bytes, kind: str = "image/png") -> Manifest:
    manifest = ManifestReader(signer.credentials, MarkingSettings()).read(content, kind)
    assert manifest is not None
    return manifest


@pytest.mark.parametrize("kind", KINDS)
def test_a_drawn_picture_carries_a_signed_claim_of_which_model_drew_it(
    signer: Signer, kind: str
) -> None:
    manifest = _read(signer, signer.sign(encode(FACE, kind), kind, CLAIM), kind)
    assert manifest.valid and manifest.trusted and manifest.issuer == NOBODY
    assert manifest.actions[0]["action"] == "c2pa.created"
    assert manifest.actions[0]["digitalSourceType"] == DRAWN
    assert manifest.model["digest"] == CLAIM.digest


def test_a_face_changed_by_a_model_says_that_it_was_opened_and_edited(signer: Signer) -> None:
    manifest = _read(signer, signer.sign(encode(FACE), "image/png", EDIT))
    assert manifest.valid and manifest.ingredients == 1
    assert manifest.actions[0]["action"] == "c2pa.opened"
    assert EDITED in [one.get("digitalSourceType") for one in manifest.actions]


def test_a_face_that_is_only_cropped_is_not_claimed_to_be_made_by_ai(signer: Signer) -> None:
    crop = replace(CLAIM, kind="cropped")
    manifest = _read(signer, signer.sign(encode(FACE), "image/png", crop))
    assert manifest.valid and not any("digitalSourceType" in one for one in manifest.actions)


def test_the_manifest_of_the_picture_that_was_sent_is_kept(signer: Signer) -> None:
    sent = signer.sign(encode(FACE, "image/jpeg"), "image/jpeg", CLAIM)
    unmarked = signer.sign(encode(FACE), "image/png", EDIT, encode(FACE))
    content = signer.sign(encode(FACE), "image/png", EDIT, sent)
    assert _read(signer, content).valid and len(content) > len(unmarked) + 1000


def test_a_broken_manifest_of_somebody_else_does_not_hinder_ours(signer: Signer) -> None:
    sent = bytearray(signer.sign(encode(FACE), "image/png", CLAIM))
    at = sent.index(b"c2pa") + 300
    sent[at : at + 100] = bytes(100)
    assert _read(signer, signer.sign(encode(FACE), "image/png", EDIT, bytes(sent))).valid


@pytest.mark.parametrize("model", HOSTILE_MODELS, ids=str)
def test_claims_about_our_model_by_an_unknown_issuer_are_read_as_text_only(
    signer: Signer, model: object
) -> None:
    manifest = _read(signer, signed_png(model))
    assert manifest.valid and manifest.actions[0]["action"] == "c2pa.created"
    assert all(isinstance(text, str) for text in manifest.model.values())


def test_changed_pixels_break_the_signature(signer: Signer) -> None:
    content = signer.sign(encode(FACE), "image/png", CLAIM)
    with Image.open(io.BytesIO(content)) as picture:
        assert np.array_equal(np.asarray(picture), FACE)
    changed = bytearray(content)
    changed[-40] ^= 1
    manifest = _read(signer, bytes(changed))
    assert not manifest.valid and manifest.failures


def test_the_certificate_of_somebody_else_is_valid_but_not_trusted(signer: Signer) -> None:
    manifest = _read(
        Signer(development_credentials()), signer.sign(encode(FACE), "image/png", CLAIM)
    )
    assert manifest.valid and not manifest.trusted


def test_trusted_certificates_of_a_file_are_trusted(signer: Signer, tmp_path: Path) -> None:
    roots = tmp_path / "roots.pem"
    roots.write_bytes(signer.credentials.issuers)
    reader = ManifestReader(development_credentials(), MarkingSettings(trusted_certificates=roots))
    manifest = reader.read(signer.sign(encode(FACE), "image/png", CLAIM), "image/png")
    assert manifest is not None and manifest.trusted


def test_a_certificate_for_development_is_made_once_in_its_folder(tmp_path: Path) -> None:
    settings = MarkingSettings(signing_folder=tmp_path / "keys")
    first, second = credentials(settings), credentials(settings)
    assert first.development and first.chain == second.chain and first.key == second.key
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "keys").iterdir()}
    assert modes["development-key.pem"] == 0o600 and len(modes) == 2


def test_the_operators_certificate_signs(tmp_path: Path) -> None:
    made = development_credentials()
    (tmp_path / "chain.pem").write_bytes(made.chain)
    (tmp_path / "key.pem").write_bytes(made.key)
    settings = MarkingSettings(tmp_path / "chain.pem", tmp_path / "key.pem")
    marker = Marker(settings)
    manifest = _read(marker.signer, marker.encode(FACE, CLAIM))
    assert manifest.trusted and manifest.serial == made.serial


def test_a_key_of_another_certificate_is_refused_without_being_shown(tmp_path: Path) -> None:
    one, other = development_credentials(), development_credentials()
    (tmp_path / "chain.pem").write_bytes(one.chain)
    (tmp_path / "key.pem").write_bytes(other.key)
    with pytest.raises(CredentialsError, match="not the key of") as excinfo:
        Marker(MarkingSettings(tmp_path / "chain.pem", tmp_path / "key.pem"))
    assert "PRIVATE" not in str(excinfo.value) and "PRIVATE" not in repr(other)


def test_a_certificate_without_a_key_is_refused() -> None:
    with pytest.raises(CredentialsError, match="give both or none"):
        credentials(MarkingSettings(signing_certificate=Path("chain.pem")))


def test_a_time_stamp_authority_that_does_not_answer_is_named_as_the_fault() -> None:
    signer = Signer(development_credentials(), "http://127.0.0.1:9/")
    with pytest.raises(CredentialsError, match="cannot be signed"):
        signer.sign(encode(FACE), "image/png", CLAIM)


def test_settings_come_from_the_environment() -> None:
    values = {"AFFECTGAN_SIGNING_KEY": "k.pem", "AFFECTGAN_TIMESTAMP_URL": "http://a"}
    settings = MarkingSettings.from_environment(values)
    assert settings.signing_key == Path("k.pem") and settings.timestamp_url == "http://a"
    assert settings.signing_certificate is None and os.environ is not values


def test_marked_pictures_show_the_same_pixels_in_lossless_files() -> None:
    crop = replace(CLAIM, kind="cropped")
    assert np.array_equal(decode(Marker(MarkingSettings()).encode(FACE, crop)), FACE)
