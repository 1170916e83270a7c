"""The plain CSV."""

import json
from pathlib import Path

import pytest

from tests.support.set_layouts import bring_in, refusals, shoot, write
from training.database.card import DataError
from training.sources.csv import PlainCsv
from training.sources.record import Options, Record


def _set(root: Path, *lines: str, pictures: int = 3) -> PlainCsv:
    for number in range(pictures):
        shoot(root / f"{number}.jpg", number)
    return PlainCsv(write(root / "labels.csv", *lines))


def test_any_subset_of_columns_in_any_order(tmp_path: Path) -> None:
    source = _set(
        tmp_path / "set",
        "arousal,AU12,image,group_sex,AU1,identity",
        "0.5,1,0.jpg,female,0.25,ann",
        "nan,,1.jpg,,-1,ann",
    )
    assert source.vocabulary() == ("AU1", "AU12")
    report, rows = bring_in(source, tmp_path / "out")
    assert (
        rows["ann/0.jpg"]["labels"] == {"AU1": 0.25, "AU12": 1, "arousal": 0.5}
        and '"sex": "female"' in rows["ann/0.jpg"]["groups"]
    )
    assert refusals(report)["labels.csv:3"].startswith("no label is known")


@pytest.mark.parametrize(
    "lines",
    [
        ("\ufeffimage;AU01;valence", "0.jpg;1;-5"),
        ("Image\tau1\tValence", "0.jpg\t1.0\t-2"),
        ("image,AU 1", "0.jpg,1"),
        ("image|AU1", "0.jpg|1"),
    ],
)
def test_spellings_of_header_and_separator(tmp_path: Path, lines: tuple[str, ...]) -> None:
    _, rows = bring_in(_set(tmp_path / "set", *lines), tmp_path / "out")
    assert rows["0.jpg/0.jpg"]["labels"] == {"AU1": 1}


def test_intensities_of_another_scale_are_divided(tmp_path: Path) -> None:
    source = PlainCsv(_set(tmp_path / "set", "image,AU1", "0.jpg,4").root, Options(au_max=5))
    assert bring_in(source, tmp_path / "out")[1]["0.jpg/0.jpg"]["labels"] == pytest.approx(
        {"AU1": 0.8}
    )


def test_lines_that_cannot_be_are_refused(tmp_path: Path) -> None:
    lines = [
        "image,AU1,valence,split",
        "0.jpg,1,0.5,",
        "1.jpg,2,0,",
        "1.jpg,1,x,",
        "1.jpg,1,2,",
        "1.jpg,1",
        "1.jpg,1,0,third",
        ",1,0,",
    ]
    report, _ = bring_in(_set(tmp_path / "set", *lines), tmp_path / "out")
    assert (
        list(refusals(report)) == [f"labels.csv:{line}" for line in range(3, 9)]
        and report.kept == 1
    )


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        ("image,valance", "is 'valence' meant"),
        ("imag,AU1", "is 'image' meant"),
        ("AU1,valence", "lacks 'image'"),
        ("image,AU1,AU01", "twice"),
        ("image,input", "twice"),
    ],
)
def test_a_header_that_means_nothing_is_refused(tmp_path: Path, header: str, fault: str) -> None:
    with pytest.raises(DataError, match=fault):
        _set(tmp_path / "set", header).vocabulary()


@pytest.mark.parametrize("start", [b"PK\x03\x04", b"\x1f\x8b\x08\x00"])
def test_a_workbook_or_a_packed_table_is_named_as_such(tmp_path: Path, start: bytes) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(start + bytes(60))
    with pytest.raises(DataError, match="not a table in text; unpack or export it"):
        PlainCsv(path).vocabulary()


def test_a_video_with_two_people_draws_both_into_one_split(tmp_path: Path) -> None:
    people = [f"{number}.jpg,0.5,0.5,p{number},v{number // 2}" for number in range(12)]
    _, rows = bring_in(
        _set(tmp_path / "set", "image,valence,arousal,identity,video", *people, pictures=12),
        tmp_path / "out",
    )
    by_video: dict[str, set[str]] = {}
    for row in rows.values():
        by_video.setdefault(row["video"], set()).add(row["split"])
    assert len(by_video) == 6 and all(len(splits) == 1 for splits in by_video.values())


def test_given_splits_are_followed_on_request(tmp_path: Path) -> None:
    lines = ("image,AU1,split", "0.jpg,1,validation", "1.jpg,1,test", "2.jpg,0,validation")
    _, rows = bring_in(_set(tmp_path / "set", *lines), tmp_path / "out", splits="official")
    assert [rows[f"{n}.jpg/{n}.jpg"]["split"] for n in range(3)] == [
        "validation",
        "test",
        "validation",
    ]


@pytest.mark.parametrize(
    "lines",
    [
        (",image,AU1", "0,0.jpg,1"),
        ("image,AU1,", "0.jpg,1,"),
        ("image,AU1", "0.jpg,1,,"),
        ("sep=;", "image;AU1", "0.jpg;1,0"),
        ('"image","AU1"', '"0.jpg","1,0"'),
        ("image,AU1", ".\\0.jpg,1"),
    ],
)
def test_what_other_programs_add_to_a_table_is_no_part_of_it(
    tmp_path: Path, lines: tuple[str, ...]
) -> None:
    _, rows = bring_in(_set(tmp_path / "set", *lines), tmp_path / "out")
    assert [row["labels"] for row in rows.values()] == [{"AU1": 1}] and set(rows) == {"0.jpg/0.jpg"}


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1"]
)
def test_every_usual_encoding_is_read(tmp_path: Path, encoding: str) -> None:
    source = _set(tmp_path / "set", "x")
    text = "image,AU1,group_city\n0.jpg,1,Köln\n"
    source.root.write_bytes(text.encode(encoding))
    _, rows = bring_in(source, tmp_path / "out")
    assert json.loads(rows["0.jpg/0.jpg"]["groups"]) == {"city": "Köln"}


def test_decimal_commas_are_numbers(tmp_path: Path) -> None:
    source = _set(tmp_path / "set", "image;valence;arousal", "0.jpg;0,5;-0,25")
    _, rows = bring_in(source, tmp_path / "out")
    assert rows["0.jpg/0.jpg"]["labels"] == {"valence": 0.5, "arousal": -0.25}


def test_a_line_that_cannot_be_read_fails_alone(tmp_path: Path) -> None:
    lines = [
        "image,AU1,group_x",
        f"0.jpg,1,{'y' * 200_000}",
        "1.jpg,1,z",
        '"2.jpg,1,z',
        "2.jpg,1,z",
    ]
    report, rows = bring_in(_set(tmp_path / "set", *lines), tmp_path / "out")
    refused = refusals(report)
    assert set(rows) == {"1.jpg/1.jpg"} and "field larger" in refused["labels.csv:2"]
    assert "quotation mark" in refused["labels.csv:4-5"]


def test_lines_that_contradict_each_other_are_all_refused_and_repetitions_but_one(
    tmp_path: Path,
) -> None:
    lines = ["image,AU1,valence", "0.jpg,1,", "0.jpg,,0.5", "0.jpg,0,", "1.jpg,1,", ".\\1.jpg,1,"]
    report, _ = bring_in(_set(tmp_path / "set", *lines), tmp_path / "out")
    refused = refusals(report)
    assert set(refused) == {"labels.csv:2", "labels.csv:4", "labels.csv:6"}
    assert "contradicts labels.csv:4" in refused["labels.csv:2"]
    assert "repeats labels.csv:5" in refused["labels.csv:6"] and report.kept == 2


def test_two_faces_of_one_picture_are_no_contradiction(tmp_path: Path) -> None:
    lines = ("image,AU1,FaceRectX,FaceRectY,FaceRectWidth,FaceRectHeight",)
    source = _set(tmp_path / "set", *lines, "0.jpg,1,0,0,20,20", "0.jpg,0,20,0,20,20")
    boxes = [item.box for item in source.items() if isinstance(item, Record)]
    assert boxes == [(0, 0, 20, 20), (20, 0, 20, 20)]


def test_columns_that_are_not_used_are_named(tmp_path: Path) -> None:
    header = "image,AU1,frame,confidence," + ",".join(f"x_{n}" for n in range(68))
    source = _set(tmp_path / "set", header, "0.jpg,1,0,.9" + ",1" * 68)
    report, _ = bring_in(source, tmp_path / "out")
    assert "labels.csv not used: confidence, x_*, frame (but of videos)" in report.table()


def test_what_py_feat_writes_is_imported(tmp_path: Path) -> None:
    _, rows = bring_in(
        _set(tmp_path / "set", "input,AU01,AU12,anger", "0.jpg,0.25,0.5,0.1"), tmp_path / "out"
    )
    assert rows["0.jpg/0.jpg"]["labels"] == {"AU1": 0.25, "AU12": 0.5}


OPENFACE = "frame, face_id, timestamp, confidence, success, AU01_r, AU12_r, AU12_c, AU28_c"


def test_what_openface_writes_of_numbered_frames_is_imported(tmp_path: Path) -> None:
    for frame in (1, 2, 3):
        shoot(tmp_path / f"set/clip/frame_{frame:04d}.png", frame)
    lines = [f"{n}, 0, 0.0, 0.98, {int(n != 2)}, 0.5, 2.5, 1, 1" for n in (1, 2, 3)]
    report, rows = bring_in(
        PlainCsv(write(tmp_path / "set/clip.csv", OPENFACE, *lines)), tmp_path / "out"
    )
    assert rows["clip/frame_0003.png"]["labels"] == {"AU1": 0.1, "AU12": 0.5, "AU28": 1}
    assert rows["clip/frame_0003.png"]["video"] == "clip" and len(rows) == 2
    assert "success is 0" in refusals(report)["clip.csv:3"]


def test_what_openface_writes_of_a_video_or_a_picture_finds_it(tmp_path: Path) -> None:
    write(tmp_path / "clip.csv", OPENFACE, "4, 0, 0.0, 0.98, 1, 0.5, 2.5, 1, 1")
    write(tmp_path / "photo.csv", "face, AU12_r, x_0, x_1, y_0, y_1", "0, 5, 10, 30, 5, 35")
    write(tmp_path / "film.avi", "")
    (video,) = PlainCsv(tmp_path / "clip.csv", Options(pictures=tmp_path / "film.avi")).items()
    (photo,) = PlainCsv(tmp_path / "photo.csv").items()
    assert isinstance(video, Record) and (video.picture.name, video.frame) == ("film.avi", 3)
    assert isinstance(photo, Record) and (photo.picture.name, photo.frame) == ("photo.jpg", None)
    assert photo.box == (10, 5, 20, 30) and photo.labels == {"AU12": 1.0}
