"""`affectgan predict|generate|explain` against a running gateway: what they print, which files they
leave, what they bear.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from skimage.data import astronaut

from affect.images import decode
from service.cli.client import explain, generate, predict
from service.settings import Settings
from tests.support.gateway import Gateway, serve
from tests.support.http_servers import answering
from tests.support.pictures import FACE, encoded

CROP = ("--faces", "none")
RNG = np.random.default_rng(2)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(FACE))
    return path


def _run(command: Any, gateway: Gateway, *arguments: object) -> Result:
    return CliRunner().invoke(command, [*map(str, arguments), "--url", gateway.url])


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_answer_is_shown_and_has_its_pictures(
    gateway: Gateway, photo: Path, tmp_path: Path
) -> None:
    out = tmp_path / "why"
    done = _run(explain, gateway, photo, *CROP, "--valence", 0.9, "--answers", 3, "--out", out)
    assert done.exit_code == 0, done.output
    (line,) = _lines(out / "explanations.jsonl")
    answers = [line, *line["alternatives"]]
    assert len(answers) > 1 and done.output.count("(trust: ") == len(answers)
    pictures = [Path(answer["counterfactual"]["image"]) for answer in answers]
    assert len(set(pictures)) == len(answers)
    assert all(decode(path.read_bytes()).shape == (32, 32, 3) for path in pictures)


def test_a_question_may_be_about_nuisances(gateway: Gateway, photo: Path, tmp_path: Path) -> None:
    arguments = (*CROP, "--valence", 0.9, "--family", "nuisance", "--out", tmp_path / "why")
    done = _run(explain, gateway, photo, *arguments)
    assert done.exit_code == 0 and "in the same expression" in done.output


def test_a_picture_that_cannot_be_explained_says_why_and_fails(
    gateway: Gateway, tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    done = _run(explain, gateway, tmp_path / "broken.png", "--out", tmp_path / "why")
    assert done.exit_code == 1 and "1 of 1 failed" in done.output


def test_what_cannot_be_opened_fails_alone(gateway: Gateway, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "album.jpg").mkdir(parents=True)
    (folder / "album.jpg" / "inside.png").write_bytes(encoded(FACE))
    (folder / "gone.jpg").symlink_to(tmp_path / "nowhere")
    (folder / "shut.jpg").write_bytes(encoded(FACE))
    (folder / "shut.jpg").chmod(0)
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "zeros.jpg").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe.jpg")
    (folder / os.fsdecode(b"caf\xe9.png")).write_bytes(encoded(FACE))
    (folder / "z.jfif").write_bytes(encoded(FACE, "JPEG"))
    (folder / "z.bmp").write_bytes(encoded(FACE, "BMP"))
    done = _run(predict, gateway, folder, *CROP, "--out", tmp_path / "out")
    status = {
        Path(line["file"]).name: line["status"]
        for line in _lines(tmp_path / "out" / "predictions.jsonl")
    }
    unreadable = "ok" if os.geteuid() == 0 else "error"
    assert done.exit_code == 1 and "failed; each says why" in done.output
    assert status == {
        "inside.png": "ok",
        "gone.jpg": "error",
        "shut.jpg": unreadable,
        "loop.jpg": "error",
        "zeros.jpg": "error",
        "pipe.jpg": "error",
        "caf\\xe9.png": "ok",
        "z.bmp": "error",
        "z.jfif": "ok",
    }


def test_a_folder_of_large_pictures_goes_in_several_requests(tmp_path: Path) -> None:
    for number in range(6):
        noise = RNG.integers(0, 256, (600, 600, 3), dtype=np.uint8)
        (tmp_path / f"{number}.png").write_bytes(encoded(noise))
    running = serve(Settings(cache_bytes=0, max_body_bytes=3 * 2**20))
    try:
        done = _run(predict, next(running), tmp_path, *CROP)
    finally:
        running.close()
    assert done.exit_code == 0, done.output
    assert [json.loads(line)["status"] for line in done.stdout.splitlines()] == ["ok"] * 6


def test_a_quota_is_waited_for_and_reported(tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / f"{number}.png").write_bytes(encoded(FACE))
    running = serve(Settings(cache_bytes=0, quota_images=8, quota_seconds=1))
    try:
        done = _run(predict, next(running), tmp_path, *CROP)
    finally:
        running.close()
    assert done.exit_code == 0, done.output
    assert len(done.stdout.splitlines()) == 12 and "waiting" in done.stderr


def test_a_stopped_run_goes_on(gateway: Gateway, tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(encoded(FACE))
    out = tmp_path / "out"
    assert _run(predict, gateway, tmp_path, *CROP, "--out", out).exit_code == 0
    path = out / "predictions.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])  # as a killed run leaves it
    done = _run(predict, gateway, tmp_path, *CROP, "--out", out, "--resume")
    assert done.exit_code == 0 and 0 < len(done.stdout.splitlines()) < 4
    assert [line["file"] for line in _lines(path)] == [
        str(tmp_path / f"{number}.png") for number in range(4)
    ]


def test_nothing_is_overwritten_unasked(gateway: Gateway, photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    commands = ((predict, (photo, *CROP)), (generate, ()))
    for command, arguments in commands:
        assert _run(command, gateway, *arguments, "--out", out).exit_code == 0
        again = _run(command, gateway, *arguments, "--out", out)
        assert again.exit_code == 1 and "exists" in again.output
        assert _run(command, gateway, *arguments, "--out", out, "--overwrite").exit_code == 0


def test_names_keep_the_path(gateway: Gateway, tmp_path: Path) -> None:
    names = ("anna/1.png", "ben/1.png", "ben/1-2.png", "ben/1.webp")
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encoded(FACE, path.suffix[1:].upper()))
    arguments = (*CROP, "--valence", 0.9, "--answers", 2, "--out", tmp_path / "why")
    done = _run(explain, gateway, tmp_path / "anna", tmp_path / "ben", *arguments)
    assert done.exit_code == 0, done.output
    for name in names:
        assert (tmp_path / "why" / name / "counterfactual.png").is_file()
    written = list((tmp_path / "why").rglob("*counterfactual.png"))
    lines = _lines(tmp_path / "why" / "explanations.jsonl")
    assert len(written) == sum(1 + len(line["alternatives"]) for line in lines)


def test_a_file_that_is_named_twice_is_explained_once(
    gateway: Gateway, photo: Path, tmp_path: Path
) -> None:
    out = tmp_path / "why"
    arguments = (*CROP, "--valence", 0.9, "--out", out)
    done = _run(explain, gateway, photo, f"{tmp_path}/./photo.png", tmp_path, *arguments)
    assert done.exit_code == 0, done.output
    assert len(_lines(out / "explanations.jsonl")) == 1


def test_what_lies_around_the_working_folder_is_written_below_out_too(
    gateway: Gateway, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    done = _run(explain, gateway, "..", *CROP, "--valence", 0.9, "--out", "why")
    assert done.exit_code == 0, done.output
    written = {path.parent for path in tmp_path.rglob("counterfactual.png")}
    assert written == {tmp_path / "inner" / "why" / tmp_path.name / "photo.png"}


def test_a_file_that_exists_is_reported_before_any_request(
    gateway: Gateway, photo: Path, tmp_path: Path
) -> None:
    arguments = (photo, *CROP, "--valence", 0.9, "--out")
    beside = _run(explain, gateway, *arguments, tmp_path, "--overwrite")
    assert beside.exit_code == 1 and "photo.png is a file" in beside.output
    (tmp_path / "why" / "photo.png").mkdir(parents=True)
    taken = _run(explain, gateway, *arguments, tmp_path / "why")
    assert taken.exit_code == 1 and "photo.png exists" in taken.output
    (tmp_path / "face-1.png").write_bytes(b"somebody's")
    drawn = _run(generate, gateway, "--count", 2, "--out", tmp_path)
    assert drawn.exit_code == 1 and "face-1.png exists" in drawn.output
    assert not list(tmp_path.rglob("*.jsonl")) and not (tmp_path / "face-0.png").exists()


@pytest.mark.parametrize("line", ["no JSON", "[1]", "3", '{"name": "a"}'])
def test_a_run_goes_on_only_with_its_own_lines(gateway: Gateway, photo: Path, line: str) -> None:
    (photo.parent / "predictions.jsonl").write_text(f"{line}\n half")
    done = _run(predict, gateway, photo, *CROP, "--out", photo.parent, "--resume")
    assert done.exit_code == 1 and "no answers of this command" in done.output
    assert (photo.parent / "predictions.jsonl").read_text() == f"{line}\n half"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--out", "/dev/null/x"), "cannot be written"),
        (("--resume",), "needs the --out"),
        (("--resume", "--overwrite"), "one of them"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(
    gateway: Gateway, photo: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    done = _run(predict, gateway, photo, *arguments)
    assert done.exit_code != 0 and sentence in done.output and "Traceback" not in done.output


def test_another_program_at_the_address_is_one_sentence(photo: Path) -> None:
    with answering(lambda *_: (200, {"Content-Type": "text/html"}, b"<html>")) as url:
        done = CliRunner().invoke(predict, [str(photo), "--url", url])
    assert done.exit_code == 1 and "is it the gateway" in done.output
    assert "Traceback" not in done.output


def test_a_folder_without_pictures_says_so(gateway: Gateway, tmp_path: Path) -> None:
    assert "no picture found" in _run(predict, gateway, tmp_path).output


def test_each_picture_is_read_in_a_line(gateway: Gateway, photo: Path) -> None:
    done = _run(predict, gateway, photo, *CROP)
    line = json.loads(done.stdout)
    assert line["file"] == str(photo) and line["status"] == "ok"
    assert -1 <= line["faces"][0]["valence"] <= 1 and line["faces"][0]["aus"]


def test_faces_are_drawn_as_requested_with_rising_seeds(gateway: Gateway, tmp_path: Path) -> None:
    wish = ("--au", "AU12=0.9", "--valence", 0.5, "--seed", 7, "--count", 2)
    done = _run(generate, gateway, *wish, "--out", tmp_path / "faces")
    assert done.exit_code == 0, done.output
    lines = _lines(tmp_path / "faces" / "faces.jsonl")
    assert [line["seed"] for line in lines] == [7, 8]
    assert all(line["requested"]["aus"]["AU12"] == pytest.approx(0.9) for line in lines)
    assert all(decode(Path(line["file"]).read_bytes()).shape == (32, 32, 3) for line in lines)


def test_a_reference_is_a_photograph_of_the_person_to_keep(
    gateway: Gateway, tmp_path: Path
) -> None:
    photograph = tmp_path / "portrait.png"
    photograph.write_bytes(encoded(astronaut()))
    for name, more in (("anyone", ()), ("kept", ("--reference", photograph))):
        done = _run(generate, gateway, *more, "--seed", 3, "--out", tmp_path / name)
        assert done.exit_code == 0, done.output
    anyone, same_person = (tmp_path / name / "face-3.png" for name in ("anyone", "kept"))
    assert anyone.read_bytes() != same_person.read_bytes()


def test_an_intensity_that_is_no_number_is_refused_with_an_example(
    gateway: Gateway, tmp_path: Path
) -> None:
    done = _run(generate, gateway, "--au", "AU12=much", "--out", tmp_path / "faces")
    assert done.exit_code == 2 and "write it as AU12=0.9" in done.output
    assert not (tmp_path / "faces").exists()
