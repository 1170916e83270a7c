"""FaceMotion, the seed's own set."""

from pathlib import Path

import pytest

from tests.support.set_layouts import bring_in, refusals, shoot, write
from training.database.card import DataError
from training.sources.facemotion import FaceMotion


def _set(root: Path, *lines: str) -> FaceMotion:
    write(root / "final_annotations/a_b_my_clip.txt", *lines)
    return FaceMotion(root)


@pytest.mark.parametrize(
    "line",
    [
        "f10 : 0.5 -0.25 [1 0 0 1 1 0 0 1]",
        "f10.jpg : 0.5 -0.25 [1, 0, 0, 1, 1, 0, 0, 1]",
        "f10: 0.5,-0.25 [1 0 0 1 1 0 0 1]",
    ],
)
def test_a_line_is_found_by_the_name_of_its_picture(tmp_path: Path, line: str) -> None:
    source = _set(tmp_path / "set", line)
    for number, name in enumerate(("f1", "f10", "f2")):
        shoot(tmp_path / f"set/final_images/my_clip/{name}.jpg", number)
    _, rows = bring_in(source, tmp_path / "out")
    assert rows["my_clip/f10.jpg"]["labels"] == {
        "AU1": 1, "AU2": 0, "AU4": 0, "AU6": 1, "AU12": 1, "AU15": 0, "AU20": 0, "AU25": 1,
        "valence": 0.5, "arousal": -0.25
    }  # fmt: skip


def test_lines_that_are_no_labels_are_refused(tmp_path: Path) -> None:
    source = _set(
        tmp_path / "set",
        "f1 : 0 0 [0 0 0 0 0 0 0 0]",
        "f2 : 0 0 [0 0]",
        "f3 0 0",
        "f4 : 2 0 [0 0 0 0 0 0 0 0]",
    )
    shoot(tmp_path / "set/final_images/my_clip/f1.jpg")
    report, _ = bring_in(source, tmp_path / "out")
    assert list(refusals(report)) == [
        f"final_annotations/a_b_my_clip.txt:{line}" for line in (2, 3, 4)
    ]


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="final_annotations"):
        FaceMotion(tmp_path).vocabulary()
