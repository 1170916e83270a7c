"""The plain CSV."""

from pathlib import Path

import pytest

from tests.support.set_layouts import bring_in, refusals, shoot, write
from training.database.card import DataError
from training.sources.csv import PlainCsv
from training.sources.record import Options


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
    [("image,valance", "valance"), ("AU1,valence", "lacks 'image'"), ("image,AU1,AU01", "twice")],
)
def test_a_header_that_means_nothing_is_refused(tmp_path: Path, header: str, fault: str) -> None:
    with pytest.raises(DataError, match=fault):
        _set(tmp_path / "set", header).vocabulary()


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


def test_given_splits_are_followed_when_asked(tmp_path: Path) -> None:
    lines = ("image,AU1,split", "0.jpg,1,validation", "1.jpg,1,test", "2.jpg,0,validation")
    _, rows = bring_in(_set(tmp_path / "set", *lines), tmp_path / "out", splits="official")
    assert [rows[f"{n}.jpg/{n}.jpg"]["split"] for n in range(3)] == [
        "validation",
        "test",
        "validation",
    ]
