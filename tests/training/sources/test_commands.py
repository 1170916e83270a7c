"""The commands, as a user types them."""

from pathlib import Path

import click
import numpy as np
import pytest
import skimage.data
from click.testing import CliRunner
from PIL import Image

from tests.support.set_layouts import shoot, write
from training.database.card import DataError
from training.database.reader import Database
from training.database.sample import SPLITS
from training.renderer.version import renderer_digest
from training.sources.commands import data
from training.sources.formats import FORMATS


def _run(*arguments: object) -> str:
    result = CliRunner().invoke(
        data, [str(argument) for argument in arguments], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return result.output


def test_render_import_merge_and_describe(tmp_path: Path) -> None:
    _run(
        "render",
        "--out",
        tmp_path / "drawn",
        "--images",
        4,
        "--size",
        32,
        "--twins",
        2,
        "--seed",
        1,
    )
    for number in range(3):
        shoot(tmp_path / f"set/{number}.png", number)
    write(
        tmp_path / "set/labels.csv",
        "image,AU1,valence,arousal",
        "0.png,1,0,0",
        "1.png,,0.5,0.5",
        "2.png,3,0,0",
    )
    output = _run(
        "import",
        "csv",
        tmp_path / "set/labels.csv",
        "--out",
        tmp_path / "own",
        "--aligned",
        "--size",
        32,
    )
    assert "kept            2" in output and "labels.csv:4" in output
    assert "read 6 pictures, kept 6" in _run(
        "merge",
        tmp_path / "drawn",
        tmp_path / "own",
        "--out",
        tmp_path / "all",
        "--name",
        "everything",
    )
    assert "everything: 6 pictures" in _run("describe", tmp_path / "all")
    assert (tmp_path / "all/describe.html").is_file() and (tmp_path / "drawn/contact.png").is_file()
    assert Database.open(tmp_path / "all").card.sources == ("rendered", "csv")


def test_a_render_goes_on_only_as_it_began(tmp_path: Path) -> None:
    _run("render", "--out", tmp_path, "--images", 4, "--size", 32, "--twins", 2, "--seed", 1)
    card = tmp_path / "data.json"
    assert renderer_digest() in card.read_text()
    with pytest.raises(DataError, match="twins 2, not 4: give another --out"):
        _run("render", "--out", tmp_path, "--images", 8, "--size", 32, "--twins", 4, "--seed", 1)
    card.write_text(card.read_text().replace(renderer_digest(), "0123456789ab"))
    with pytest.raises(DataError, match=f"renderer 0123456789ab, not {renderer_digest()}"):
        _run("render", "--out", tmp_path, "--images", 8, "--size", 32, "--twins", 2, "--seed", 1)
    assert (
        Database.open(tmp_path).count("train")
        + Database.open(tmp_path).count("test")
        + Database.open(tmp_path).count("validation")
        == 4
    )


def test_faces_of_photographs_stand_above_rendered_ones(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.fromarray(skimage.data.astronaut()).save(tmp_path / "photos" / "a.png")
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "photos" / "nobody.png")
    _run(
        "sheets",
        "--out",
        tmp_path / "new",
        "--people",
        2,
        "--size",
        32,
        "--photos",
        tmp_path / "photos",
    )
    beside = np.asarray(Image.open(tmp_path / "new" / "beside.jpg"))
    assert (
        beside.shape == (64, 256, 3) and beside[:32, :32].std() > 20 and beside[32:, :32].std() > 20
    )
    with pytest.raises(DataError, match="holds no picture"):
        _run(
            "sheets",
            "--out",
            tmp_path / "new",
            "--people",
            2,
            "--size",
            32,
            "--photos",
            tmp_path / "new" / "..",
        )


def test_the_import_command_knows_every_format() -> None:
    parameter = next(p for p in data.commands["import"].params if p.name == "format_name")
    assert set(parameter.type.choices) == set(FORMATS)  # type: ignore[attr-defined]


def test_twins_are_a_database_with_masks(tmp_path: Path) -> None:
    output = _run("twins", "--out", tmp_path / "twins", "--pairs", 3, "--au", "AU12", "--size", 32)
    database = Database.open(tmp_path / "twins")
    changed = [
        change["aus"]
        for split in SPLITS
        for truth in database.truth(split)
        if isinstance(change := truth.get("changed"), dict)
    ]
    assert (
        "6 pictures" in output
        and [set(aus) for aus in changed] == [{"AU12"}] * 3
        and (tmp_path / "twins/twins.png").is_file()
    )
    with pytest.raises(DataError, match="AU99 cannot be changed"):
        _run("twins", "--out", tmp_path / "none", "--au", "AU99")


def test_sheets_are_drawn(tmp_path: Path) -> None:
    _run("sheets", "--out", tmp_path / "new", "--people", 2, "--size", 32)
    assert {path.name for path in (tmp_path / "new").iterdir()} == {
        "people.jpg",
        "action-units.jpg",
        "action-units-uncreased.jpg",
    }


@pytest.mark.parametrize("command", ["render", "twins", "sheets", "import", "merge", "describe"])
def test_help_is_complete(command: str) -> None:
    options = [
        parameter
        for parameter in data.commands[command].params
        if isinstance(parameter, click.Option)
    ]
    output = _run(command, "--help")
    assert options and all(option.help and option.opts[0] in output for option in options)
