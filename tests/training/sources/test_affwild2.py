"""Aff-Wild2 in both layouts."""

from pathlib import Path

import pytest

from tests.support.set_layouts import as_packed_on_a_mac, bring_in, refusals, shoot, write
from training.database.card import DataError
from training.sources.affwild2 import AffWild2
from training.sources.record import Record

HEADER_2020 = "AU1,AU2,AU4,AU6,AU12,AU15,AU20,AU25"
HEADER_2022 = "AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26"


def _crops(root: Path, video: str, *frames: int) -> None:
    for frame in frames:
        shoot(root / "cropped_aligned" / video / f"{frame:05d}.jpg", frame)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    root = tmp_path / "set"
    aus = ["1,0,0,1,1,0,0,1", "-1,-1,-1,-1,-1,-1,-1,-1", "0,0,-1,0,1,0,0,0", "0,0,0,0,0,0,0,0"]
    write(root / "annotations/AU_Set/Training_Set/clip.txt", HEADER_2020, *aus)
    write(
        root / "annotations/VA_Set/Training_Set/clip.txt",
        "valence,arousal",
        "0.5,-0.25",
        "-5,-5",
        "-5,-5",
        "0.1,0.1",
    )
    write(root / "annotations/EXPR_Set/Training_Set/clip.txt", "Neutral,Anger", "4", "-1", "0", "0")
    _crops(root, "clip", 1, 2, 3)
    return root


def test_the_tasks_of_a_frame_meet_in_one_row(old: Path, tmp_path: Path) -> None:
    as_packed_on_a_mac(old)
    _, rows = bring_in(AffWild2(old), tmp_path / "out")
    assert rows["clip/00001.jpg"]["labels"] == {
        "AU1": 1, "AU2": 0, "AU4": 0, "AU6": 1, "AU12": 1, "AU15": 0, "AU20": 0, "AU25": 1,
        "valence": 0.5, "arousal": -0.25
    }  # fmt: skip
    assert rows["clip/00001.jpg"]["truth"]["emotion"] == "happiness"


def test_unknown_labels_are_masked_one_by_one(old: Path, tmp_path: Path) -> None:
    report, rows = bring_in(AffWild2(old), tmp_path / "out")
    assert set(rows["clip/00003.jpg"]["labels"]) == {
        "AU1",
        "AU2",
        "AU6",
        "AU12",
        "AU15",
        "AU20",
        "AU25",
    }
    assert report.masked == {"AU4": 1, "valence": 1, "arousal": 1}


def test_lines_without_crops_and_without_labels_are_named(old: Path, tmp_path: Path) -> None:
    report, _ = bring_in(AffWild2(old), tmp_path / "out")
    refused = refusals(report)
    assert (report.read, report.kept) == (4, 2)
    assert refused["annotations/AU_Set/Training_Set/clip.txt:3"].startswith("no label is known")
    assert refused["annotations/AU_Set/Training_Set/clip.txt:5"].startswith(
        "the picture is missing: 00004.jpg: expected at "
    )


def test_the_layout_of_2022_has_twelve_action_units(tmp_path: Path) -> None:
    root = tmp_path / "set"
    write(
        root / "AU_Detection_Challenge/Train_Set/clip.txt", HEADER_2022, "0,0,0,0,1,0,0,0,0,0,0,1"
    )
    _crops(root, "clip", 1)
    source = AffWild2(root)
    assert ",".join(source.vocabulary()) == HEADER_2022
    _, rows = bring_in(source, tmp_path / "out")
    assert (
        rows["clip/00001.jpg"]["labels"]["AU26"] == 1
        and "valence" not in rows["clip/00001.jpg"]["labels"]
    )


def test_two_people_of_one_recording_are_two_identities_and_one_split(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for video in ("talk", "talk_left", "talk_right"):
        write(root / f"VA_Estimation_Challenge/Train_Set/{video}.txt", "valence,arousal", "0.5,0.5")
        _crops(root, video, 1)
    _, rows = bring_in(AffWild2(root), tmp_path / "out")
    assert {row["identity"] for row in rows.values()} == {"talk", "talk_left", "talk_right"}
    assert {row["video"] for row in rows.values()} == {"talk"} and len(
        {row["split"] for row in rows.values()}
    ) == 1


def test_official_validation_becomes_the_test_split(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for number in range(30):
        part = "Validation_Set" if number < 5 else "Train_Set"
        write(root / f"VA_Estimation_Challenge/{part}/v{number}.txt", "valence,arousal", "0.5,0.5")
        _crops(root, f"v{number}", 1)
    _, rows = bring_in(AffWild2(root), tmp_path / "out", splits="official")
    assert {row["identity"] for row in rows.values() if row["split"] == "test"} == {
        f"v{number}" for number in range(5)
    }


def test_lines_that_are_no_labels_are_refused_and_the_other_task_stays(
    old: Path, tmp_path: Path
) -> None:
    broken = ["1,0,0,1,1,0,0,1", "2,0,0,0,0,0,0,0", "1,0"]
    write(old / "annotations/AU_Set/Training_Set/clip.txt", HEADER_2020, *broken)
    write(
        old / "annotations/VA_Set/Training_Set/clip.txt",
        "valence,arousal",
        "1.5,0",
        "0.5,0.5",
        "0.5,0.5",
    )
    report, rows = bring_in(AffWild2(old), tmp_path / "out")
    refused = refusals(report)
    assert "AU1 is 2.0" in refused["annotations/AU_Set/Training_Set/clip.txt:3"]
    assert "8 numbers" in refused["annotations/AU_Set/Training_Set/clip.txt:4"]
    assert "valence is 1.5" in refused["annotations/VA_Set/Training_Set/clip.txt:2"]
    assert rows["clip/00002.jpg"]["labels"] == {"valence": 0.5, "arousal": 0.5}


def test_a_file_whose_header_names_no_action_units_is_refused(old: Path, tmp_path: Path) -> None:
    write(old / "annotations/AU_Set/Training_Set/clip.txt", "0,0,0,0,0,0,0,0", "1,0,0,1,1,0,0,1")
    report, _ = bring_in(AffWild2(old), tmp_path / "out")
    assert "names no Action Units" in refusals(report)["annotations/AU_Set/Training_Set/clip.txt:1"]


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="AU_Detection_Challenge"):
        AffWild2(tmp_path).vocabulary()
    with pytest.raises(DataError, match="does not exist"):
        AffWild2(tmp_path / "nowhere")


def test_missing_pictures_ask_for_their_folder(old: Path, tmp_path: Path) -> None:
    (old / "cropped_aligned").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="--pictures"):
        bring_in(AffWild2(old), tmp_path / "out")


def test_a_release_of_annotations_and_a_second_folder_of_crops_are_found(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for video in ("clip", "late"):
        task = root / "6th ABAW Annotations/VA_Estimation_Challenge/Train_Set"
        write(task / f"{video}.txt", "valence,arousal", "0.5,0.5")
    _crops(root, "clip", 1)
    shoot(root / "cropped_aligned_new_50_vids/late/00001.jpg")
    report, rows = bring_in(AffWild2(root), tmp_path / "out")
    assert set(rows) == {"clip/00001.jpg", "late/00001.jpg"} and not report.refused


def test_two_releases_of_annotations_are_not_mixed(old: Path) -> None:
    task = old / "6th ABAW Annotations/VA_Estimation_Challenge/Train_Set"
    write(task / "clip.txt", "valence,arousal", "0.5,0.5")
    with pytest.raises(DataError, match="'6th ABAW Annotations' and 'annotations'"):
        AffWild2(old).vocabulary()
    source = AffWild2(old / "6th ABAW Annotations")
    assert all(isinstance(item, Record) and item.picture.is_file() for item in source.items())


def test_crops_numbered_from_0_are_noticed(tmp_path: Path) -> None:
    task = tmp_path / "set/VA_Estimation_Challenge/Train_Set"
    write(task / "clip.txt", "valence,arousal", "0.5,0.5", "0.1,0.1")
    _crops(tmp_path / "set", "clip", 0, 1)
    _, rows = bring_in(AffWild2(tmp_path / "set"), tmp_path / "out")
    assert rows["clip/00000.jpg"]["labels"] == {"valence": 0.5, "arousal": 0.5}
