"""A run becomes three archives; what cannot be served is refused before anything is written."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml
from click.testing import CliRunner

from affect.archive import HandlerSettings, digest_of
from affect.card import CARD_FILE, WEIGHTS_FILE, Calibration, CardError, ModelCard
from affect.judge import Judge, JudgeCard, JudgeError
from affect.model_folders import JUDGE_FILE, JUDGE_WEIGHTS_FILE
from tests.support.tiny import tiny_card, tiny_model, tiny_run
from training.archive import ArchiveError, archive, write_archives


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run(tmp_path_factory.mktemp("run"))


@contextmanager
def files_up_to(size_bytes: int) -> Iterator[None]:
    """As if the disk were full beyond this size."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_the_command_writes_three_archives_and_the_card(run: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(archive, [str(run), "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    names = {"affectgan-predict.mar", "affectgan-generate.mar", "affectgan-explain.mar", CARD_FILE}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert all(name in result.output for name in names)


def test_an_archive_holds_handler_code_weights_and_card(run: Path, tmp_path: Path) -> None:
    mar = ZipFile(write_archives(run, tmp_path)[0])
    assert {
        "MAR-INF/MANIFEST.json",
        "predict.py",
        "affect/model.py",
        CARD_FILE,
        WEIGHTS_FILE,
    } <= set(mar.namelist())
    assert mar.read(WEIGHTS_FILE) == (run / "model" / WEIGHTS_FILE).read_bytes()
    assert not [name for name in mar.namelist() if "__pycache__" in name]


def test_settings_of_the_handler_are_in_the_archive(run: Path, tmp_path: Path) -> None:
    config = yaml.safe_load(
        ZipFile(write_archives(run, tmp_path, workers=2)[1]).read("model-config.yaml")
    )
    assert config["minWorkers"] == config["maxWorkers"] == 2
    assert HandlerSettings.model_validate(config["handler"]).operation == "generate"


def test_the_same_run_gives_the_same_bytes(run: Path, tmp_path: Path) -> None:
    first, second = write_archives(run, tmp_path / "a"), write_archives(run, tmp_path / "b")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_a_folder_with_a_model_is_as_good_as_a_run(run: Path, tmp_path: Path) -> None:
    first, second = (
        write_archives(run, tmp_path / "a"),
        write_archives(run / "model", tmp_path / "b"),
    )
    assert first[0].read_bytes() == second[0].read_bytes()


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CardError, match=CARD_FILE):
        write_archives(tmp_path, tmp_path / "out")


def test_a_run_that_was_never_evaluated_is_refused_unless_allowed(tmp_path: Path) -> None:
    card = tiny_card()
    bare = card.model_copy(
        update={"calibration": {code: Calibration() for code in card.vocabulary}}
    )
    run = tiny_run(tmp_path / "run", bare)
    with pytest.raises(CardError, match="affectgan evaluate"):
        write_archives(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert len(write_archives(run, tmp_path / "out", uncalibrated=True)) == 4


def test_a_run_without_action_units_needs_no_calibration(tmp_path: Path) -> None:
    card = tiny_card("va")
    bare = card.model_copy(
        update={"calibration": {code: Calibration() for code in card.vocabulary}}
    )
    assert len(write_archives(tiny_run(tmp_path / "run", bare), tmp_path / "out")) == 4


def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run", tiny_card().model_copy(update={"reference": {}}))
    with pytest.raises(CardError, match="--resume"):
        write_archives(run, tmp_path / "out")


def test_a_card_that_does_not_fit_its_weights_is_refused(run: Path, tmp_path: Path) -> None:
    folder = tiny_run(tmp_path / "run") / "model"
    card = ModelCard.load(folder)
    card.model_copy(update={"image_px": 64}).save(folder)
    with pytest.raises(CardError, match="image_px"):
        write_archives(folder, tmp_path / "out")


def test_weights_that_diverged_are_refused(tmp_path: Path) -> None:
    model = tiny_model()
    model.heads.aus.bias.data[0] = float("nan")
    model.save(tmp_path / "run" / "model")
    with pytest.raises(CardError, match="diverged"):
        write_archives(tmp_path / "run", tmp_path / "out")


def test_a_full_disk_is_named_and_leaves_nothing_behind(run: Path, tmp_path: Path) -> None:
    with (
        files_up_to(2000),
        pytest.raises(ArchiveError, match=r"affectgan-predict\.mar cannot be written"),
    ):
        write_archives(run, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_an_out_that_is_a_file_is_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArchiveError, match="--out"):
        write_archives(run, tmp_path / "file" / "out")


def test_the_same_weights_can_be_archived_as_another_version(run: Path, tmp_path: Path) -> None:
    write_archives(run, tmp_path / "a")
    path = write_archives(run, tmp_path / "b", version="1.1")[0]
    assert ModelCard.parse(ZipFile(path).read(CARD_FILE), where="archive") == ModelCard.load(
        tmp_path / "b"
    )
    assert ModelCard.load(tmp_path / "b").version == "1.1" and digest_of(
        tmp_path / "a"
    ) != digest_of(tmp_path / "b")
    with pytest.raises(ArchiveError, match="letters, digits, points and dashes"):
        write_archives(run, tmp_path, version="../1")


def untaught_judge(folder: Path) -> Path:
    Judge(
        JudgeCard(
            vocabulary=tiny_card().vocabulary, image_px=32, widths=(8, 8), data="none", seed=0
        )
    ).save(folder)
    return folder


def test_a_judge_goes_into_the_archive_of_explanations_only(run: Path, tmp_path: Path) -> None:
    written = write_archives(run, tmp_path / "out", judge=untaught_judge(tmp_path / "judge"))
    has_judge = [
        {JUDGE_FILE, JUDGE_WEIGHTS_FILE} <= set(ZipFile(path).namelist())
        for path in written
        if path.suffix == ".mar"
    ]
    assert has_judge == [False, False, True]


def test_a_judge_that_lies_beside_the_card_is_taken(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "run")
    untaught_judge(run / "model" / "judge")
    assert JUDGE_FILE in ZipFile(write_archives(run, tmp_path / "out")[2]).namelist()


def test_a_broken_judge_is_refused_before_anything_is_written(run: Path, tmp_path: Path) -> None:
    (untaught_judge(tmp_path / "judge") / JUDGE_WEIGHTS_FILE).write_bytes(b"")
    with pytest.raises(JudgeError, match="copy both again"):
        write_archives(run, tmp_path / "out", judge=tmp_path / "judge")
    assert not list((tmp_path / "out").iterdir())
