"""EmotioNet's two spellings."""

from pathlib import Path

import pytest

from tests.support.set_layouts import bring_in, refusals, shoot, write
from training.database.card import DataError
from training.sources.emotionet import EmotioNet


def _aus(**known: int | str) -> list[str]:
    return [str(known.get(f"AU{number}", 999)) for number in range(1, 61)]


def _tsv(picture: str, **known: int | str) -> str:
    return "\t".join(
        [f"http://pictures.example/a/{picture}", "http://elsewhere.example/b.jpg", *_aus(**known)]
    )


def test_tab_separated_text_has_no_header(tmp_path: Path) -> None:
    shoot(tmp_path / "set/images/a b.jpg")
    write(tmp_path / "set/list.txt", _tsv("a%20b.jpg", AU12=1, AU25=0, AU43=1))
    source = EmotioNet(tmp_path / "set")
    assert source.vocabulary() == ("AU12", "AU25", "AU43")
    _, rows = bring_in(source, tmp_path / "out")
    assert rows["a b.jpg/a b.jpg"]["labels"] == {"AU12": 1, "AU25": 0, "AU43": 1}


def test_csv_has_quoted_names(tmp_path: Path) -> None:
    shoot(tmp_path / "set/images/a.jpg")
    write(
        tmp_path / "set/list.csv",
        "URL,'AU 1','AU 2'",
        "'http://pictures.example/a.jpg',1,999",
        "http://pictures.example/b.jpg,0,0",
    )
    report, rows = bring_in(EmotioNet(tmp_path / "set"), tmp_path / "out")
    assert rows["a.jpg/a.jpg"]["labels"] == {"AU1": 1}
    assert "picture is missing" in refusals(report)["list.csv:3"]


def test_whatever_is_neither_0_nor_1_is_unknown(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        shoot(tmp_path / "set/images" / name)
    write(
        tmp_path / "set/list.txt", _tsv("a.jpg", AU1=1, AU2=2, AU4="x"), _tsv("b.jpg", AU2=1, AU4=0)
    )
    report, rows = bring_in(EmotioNet(tmp_path / "set"), tmp_path / "out")
    assert rows["a.jpg/a.jpg"]["labels"] == {"AU1": 1}
    assert report.masked["AU2"] == 1 and report.masked["AU1"] == 1


def test_rows_of_another_length_and_addresses_without_a_picture_are_refused(tmp_path: Path) -> None:
    shoot(tmp_path / "set/images/a.jpg")
    write(
        tmp_path / "set/list.txt",
        _tsv("a.jpg", AU1=1),
        _tsv("a.jpg", AU1=1) + "\t1",
        _tsv("", AU1=1),
    )
    report, _ = bring_in(EmotioNet(tmp_path / "set"), tmp_path / "out")
    refused = refusals(report)
    assert (
        "63 fields, not 62" in refused["list.txt:2"] and "names no picture" in refused["list.txt:3"]
    )


def test_a_folder_without_a_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\.tsv"):
        EmotioNet(tmp_path).vocabulary()
