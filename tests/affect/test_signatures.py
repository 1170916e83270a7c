"""A model is used only when the trusted key signed it as it is."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from affect import Reader, signatures
from affect.artefacts import fetch, push
from affect.signatures import KEY_VARIABLE, SignatureError
from tests.support.archives import tiny_archives
from tests.support.tiny import tiny_run
from training.archive import write_archives
from training.signing import sign as sign_command


@pytest.fixture
def key(tmp_path: Path) -> Path:
    signatures.new_key(tmp_path / "key.pem")
    return tmp_path / "key.pem"


@pytest.fixture
def trusted(key: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(KEY_VARIABLE, str(key.with_suffix(".pub")))
    return key


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_archives(tmp_path_factory.mktemp("archives"))


def test_a_signed_model_is_archived_read_pushed_and_fetched(trusted: Path, tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run")
    signatures.sign(run / "model", trusted)
    assert Reader(run).card.version == "1.0"
    write_archives(run, tmp_path / "archives")
    signatures.sign(tmp_path / "archives", trusted)
    reference = push(tmp_path / "archives", f"file://{tmp_path / 'store'}")
    assert (fetch(str(reference), tmp_path / "cache") / signatures.SIGNATURE_FILE).is_file()


def test_one_flipped_byte_is_refused(trusted: Path, archives: Path, tmp_path: Path) -> None:
    models = Path(shutil.copytree(archives, tmp_path / "models"))
    signatures.sign(models, trusted)
    path = models / "affectgan-explain.mar"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(SignatureError, match=r"affectgan-explain\.mar is not what was signed"):
        fetch(str(models))


def test_another_key_is_refused(trusted: Path, tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run")
    signatures.new_key(tmp_path / "other.pem")
    signatures.sign(run / "model", tmp_path / "other.pem")
    with pytest.raises(SignatureError, match="is not by the key in"):
        Reader(run)


def test_what_is_not_signed_is_refused_with_the_remedy(trusted: Path, archives: Path) -> None:
    with pytest.raises(SignatureError, match=f"is not signed: .affectgan sign.*{KEY_VARIABLE}"):
        push(archives, "s3://models/affectgan")


def test_a_judge_that_was_added_later_is_refused(trusted: Path, tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run")
    signatures.sign(run / "model", trusted)
    (run / "model" / "judge").mkdir()
    (run / "model" / "judge" / "judge.json").write_text("{}")
    with pytest.raises(SignatureError, match=r"judge\.json is not what was signed"):
        write_archives(run, tmp_path / "archives")


def test_where_no_key_is_trusted_nothing_is_checked(archives: Path) -> None:
    assert fetch(str(archives)) == archives


def test_a_key_is_never_written_over(key: Path) -> None:
    before = key.read_bytes()
    with pytest.raises(SignatureError, match="is there already"):
        signatures.new_key(key)
    assert key.read_bytes() == before
    assert key.stat().st_mode & 0o077 == 0


def test_the_command_makes_a_key_and_signs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, key = tiny_run(tmp_path / "run"), tmp_path / "key.pem"
    result = CliRunner().invoke(sign_command, [str(run), "--key", str(key), "--new-key"])
    assert result.exit_code == 0, result.output
    monkeypatch.setenv(KEY_VARIABLE, str(key.with_suffix(".pub")))
    signatures.check(run / "model")
