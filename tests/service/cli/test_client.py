"""`affectgan explain` against a running gateway: what it prints, and which files it leaves."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from affect.images import decode
from service.cli.client import explain
from tests.support.gateway import Gateway
from tests.support.pictures import FACE, encoded


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(FACE))
    return path


def test_every_answer_is_told_and_has_its_pictures(
    gateway: Gateway, photo: Path, tmp_path: Path
) -> None:
    options = [
        "--url",
        gateway.url,
        "--faces",
        "none",
        "--valence",
        "0.9",
        "--answers",
        "3",
        "--out",
        str(tmp_path / "why"),
    ]
    done = CliRunner().invoke(explain, [str(photo), *options])
    assert done.exit_code == 0, done.output
    (told,) = map(json.loads, (tmp_path / "why" / "explanations.jsonl").read_text().splitlines())
    answers = [told, *told["alternatives"]]
    assert len(answers) > 1 and done.output.count("(trust: ") == len(answers)
    pictures = [Path(answer["counterfactual"]["image"]) for answer in answers]
    assert len(set(pictures)) == len(answers) and all(
        decode(path.read_bytes()).shape == (32, 32, 3) for path in pictures
    )


def test_what_should_not_matter_may_be_asked_about(
    gateway: Gateway, photo: Path, tmp_path: Path
) -> None:
    options = [
        "--url",
        gateway.url,
        "--faces",
        "none",
        "--valence",
        "0.9",
        "--family",
        "nuisance",
        "--out",
        str(tmp_path / "why"),
    ]
    done = CliRunner().invoke(explain, [str(photo), *options])
    assert done.exit_code == 0 and "in the same expression" in done.output


def test_a_picture_that_cannot_be_explained_says_why_and_fails(
    gateway: Gateway, tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    done = CliRunner().invoke(
        explain,
        [str(tmp_path / "broken.png"), "--url", gateway.url, "--out", str(tmp_path / "why")],
    )
    assert done.exit_code == 1 and "1 of 1 failed" in done.output
