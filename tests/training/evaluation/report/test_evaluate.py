"""A whole evaluation of tiny untrained runs: what it writes, what it says, and that nothing grades
itself.
"""

import json
import math
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from affect.card import Calibration, ModelCard
from affect.factory import initialise_model, load_model
from affect.judge import Judge, JudgeCard
from training.database.card import DataCard
from training.database.reader import Database
from training.evaluation.commands import evaluate as command
from training.evaluation.core.predictions import load_faces
from training.evaluation.generation import control, fidelity
from training.evaluation.judge.evaluator import JudgeEvaluator
from training.evaluation.report import report
from training.evaluation.report.contents import Report
from training.evaluation.report.evaluate import EvaluationConfig, evaluate
from training.gan.config import smoke
from training.gan.post_training import new_card, post_train
from training.sources.commands import data

QUICK = EvaluationConfig(
    drawn_images=60,
    edited_images=30,
    corrupted_images=20,
    out_of_distribution_images=10,
    training_images=100,
    explained_images=12,
    nuisance_people=2,
)
FEW = ("--images", "64", "--nuisance-people", "2")  # the same for the command


def untrained_run(folder: Path, database_folder: Path, labels: str = "both") -> Path:
    """A run folder with random weights whose prior was fitted all the same."""
    database = Database.open(database_folder)
    config = smoke()
    object.__setattr__(config, "labels", labels)
    model = initialise_model(new_card(config, database.card), seed=0).eval()
    post_train(model, database, config, seen_images=0)
    model.save(folder / "model")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, drawn_database: Path) -> Path:
    return untrained_run(tmp_path_factory.mktemp("run"), drawn_database)


@pytest.fixture(scope="module")
def written(run: Path, drawn_database: Path, judge_folder: Path) -> Report:
    measured, art = evaluate(run, drawn_database, judge_folder, QUICK)
    report.write(measured, art, run)
    return measured


def test_the_card_gets_calibration_reference_and_quality(run: Path, written: Report) -> None:
    card = ModelCard.load(run / "model")
    assert load_model(run / "model").card == card
    assert any(calibration != Calibration() for calibration in card.calibration.values())
    assert {"critic", "strangeness", "reconstruction_error", "AU12", "valence"} <= set(
        card.reference
    )
    assert all(np.all(np.diff(quantiles) >= 0) for quantiles in card.reference.values())
    assert card.quality["au_auc"].value == pytest.approx(
        written.recognition.mean_auc.value, abs=1e-4
    )
    assert card.quality["au_auc"].split == "test"


def test_weights_without_statistics_of_features_get_them(
    run: Path, written: Report, drawn_database: Path, tmp_path: Path
) -> None:
    model, older = load_model(run / "model"), tmp_path / "older"
    nothing = torch.eye(len(model.feature_mean))
    model.feature_whitener.copy_(nothing)
    model.replace_card(
        model.card.model_copy(update={"reference": {"critic": model.card.reference["critic"]}})
    )
    model.save(older / "model")
    evaluate(older, drawn_database, None, QUICK)
    again = load_model(older / "model")  # which says that the card describes these very weights
    assert not torch.equal(again.feature_whitener, nothing)
    assert "strangeness" in again.card.reference and again.card.unit_features


def test_the_judges_ceiling_is_high_and_an_untrained_generator_is_not(written: Report) -> None:
    made = written.generated
    assert made and made.distances and made.cross_talk
    assert made.ceiling.mean_auc.value > 0.85
    assert made.samples.mean_auc.value < made.ceiling.mean_auc.low
    assert made.samples.mean_ccc.value < 0.2
    assert made.samples.mean_auc.low < made.samples.mean_auc.value < made.samples.mean_auc.high
    assert made.distances.frechet.value > 3 * made.distances.frechet_floor.value
    assert np.array(made.cross_talk.matrix).shape == (3, 3)


def test_the_json_is_strict_and_holds_the_figures(run: Path, written: Report) -> None:
    content = json.loads(
        (run / "report.json").read_text(), parse_constant=lambda name: pytest.fail(name)
    )
    assert content["recognition"]["mean_auc"]["value"] == pytest.approx(
        written.recognition.mean_auc.value, abs=1e-5
    )
    assert content["faces"] == written.faces > 40
    assert len(content["robustness"]) == 8


def test_json_that_is_folded_says_the_same_in_fewer_lines() -> None:
    value = {
        "a": {"value": 0.5, "low": None},
        "rows": [[1, 2], [3, 4]],
        "long": list(range(100)),
        "text": "a {b} [c]\nd",
    }
    text = json.dumps(value, indent=1)
    folded = report.folded(text)
    assert json.loads(folded) == value
    assert '"a": {"value": 0.5, "low": null},' in folded
    assert folded.count("\n") < text.count("\n")


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str | None] = []
        self.headings: list[str] = []
        self.open = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value for name, value in attrs if name == "src"]
        self.open = tag in ("h2", "h3")

    def handle_data(self, data: str) -> None:
        if self.open:
            self.headings.append(data.strip())
        self.open = False


def test_the_page_needs_no_other_file(run: Path, written: Report) -> None:
    text = (run / "report.html").read_text()
    page = _Page()
    page.feed(text)
    expected = {
        "Action Units",
        "Does it draw what is asked?",
        "Are the explanations any good?",
        "Corruptions and out-of-distribution pictures",
    }
    assert expected <= set(page.headings)
    assert len(page.sources) > 8
    assert all(str(source).startswith("data:image/webp;base64,") for source in page.sources)
    assert not re.search(r"(src|href)=\"https?:", text)
    assert "nan" not in re.sub(r"<[^>]*>|base64,[^\"]*", "", text).lower().split()


@pytest.mark.parametrize(
    ("labels", "missing"), [("au", "no valence and arousal"), ("va", "no Action Units")]
)
def test_a_run_on_one_kind_of_label_without_a_judge_says_so(
    labels: str, missing: str, tmp_path: Path, drawn_database: Path
) -> None:
    untrained_run(tmp_path, drawn_database, labels)
    answer = CliRunner().invoke(command, [str(tmp_path), "--data", str(drawn_database), *FEW])
    assert answer.exit_code == 0, answer.output
    assert "give --judge" in answer.output
    text = (tmp_path / "report.html").read_text()
    assert f"learnt {missing}" in text
    assert "No judge was given" in text
    assert json.loads((tmp_path / "report.json").read_text())["generated"] is None


def test_explanations_of_renders_and_of_photographs_are_graded_apart_by_a_second_judge(
    tmp_path: Path, drawn_database: Path, photograph_database: Path
) -> None:
    run, judges = untrained_run(tmp_path, drawn_database), (tmp_path / "first", tmp_path / "second")
    for folder in judges:  # neither knows anything
        card = JudgeCard(vocabulary=("AU4", "AU12"), image_px=32, widths=(8, 8), data="no", seed=0)
        Judge(card).save(folder)
    measured, art = evaluate(
        *(run, drawn_database, judges[0], QUICK),
        photographs=[photograph_database],
        second_judge=judges[1],
    )
    report.write(measured, art, run)
    assert [one.on for one in measured.explained_domains] == ["drawn, test", "people, test"]
    assert all(one.levels["high"] == (0, None) for one in measured.explained_domains)
    assert measured.explanations and measured.explanations.trusted["high"][0] == 0
    assert "was earned from no score on" in (run / "report.html").read_text()
    levels = ModelCard.load(run / "model").trust_levels
    assert set(levels) == {"high", "medium"} and not any(one.least for one in levels.values())


def test_photographs_are_measured_apart_and_hold_the_thresholds(
    tmp_path: Path, drawn_database: Path, photograph_database: Path
) -> None:
    untrained_run(tmp_path, drawn_database)
    given = ["--data", str(drawn_database), "--photographs", str(photograph_database)]
    answer = CliRunner().invoke(command, [str(tmp_path), *given, *FEW])
    assert answer.exit_code == 0, answer.output
    (section,) = json.loads((tmp_path / "report.json").read_text())["photographs"]
    assert section["data"] == "people" and section["rest"]["faces"] > 0
    assert "must not stand beside" in (tmp_path / "report.html").read_text()
    assert "people, photographs (test)" in answer.output
    card = ModelCard.load(tmp_path / "model")
    assert "neutral faces of people" in card.calibrated_on[1]
    assert "people: au_auc" in card.quality


def test_the_terminal_gets_every_headline(written: Report) -> None:
    text = report.summary_text(written)
    for name, value, _ in report.headline(written):
        assert name in text
        assert math.isnan(value.value) or f"{value.value:.3f}" in text


def test_training_faces_passed_off_as_drawn_are_found_out(run: Path, drawn_database: Path) -> None:
    database, model = Database.open(drawn_database), load_model(run / "model")
    rng = np.random.default_rng(0)
    faces = load_faces(database, model, "test", 1000, rng)
    copies = database.images("train", np.arange(50), model.card.image_px)
    result, _ = fidelity.memory(database, copies, faces, 10_000, rng)
    assert result is not None
    assert result.drawn_distance.value == pytest.approx(0, abs=1e-6)
    assert result.nearer.low > 0.95


def test_pictures_that_the_judge_reads_as_requested_are_perfect_control(
    run: Path, judge_folder: Path
) -> None:
    evaluator = JudgeEvaluator(Judge.load(judge_folder), load_model(run / "model"))
    requested = np.random.default_rng(0).uniform(0, 1, (50, 5))
    assert evaluator.control(requested, requested, np.arange(50)).mean_auc.value == 1
    assert evaluator.control(requested, requested, np.arange(50)).mean_ccc.value == pytest.approx(1)
    half = np.where(
        np.arange(50)[:, None] % 2, requested, np.nan
    )  # what was not asked is not graded
    assert evaluator.control(half, requested, np.arange(50)).mean_auc.value == 1


def test_a_direction_that_is_never_reached_is_found() -> None:
    places = np.array(
        [[r * np.cos(a), r * np.sin(a)] for r in (0.4, 0.8) for a in np.radians([0, 90, 180, 270])]
    )
    read_states = np.repeat(places[:, None], 6, axis=1) + 0.01 * np.random.default_rng(0).normal(
        size=(8, 6, 2)
    )
    read_states[[1, 5]] = 0  # asked for arousal, nothing happens
    result = {one.degrees: one.reach.value for one in control._directions(places, read_states)}
    assert min(result, key=result.__getitem__) == 90
    assert [result[0], result[180]] == pytest.approx([1, 1], abs=0.05)


def test_an_edit_that_cannot_be_made_scores_like_doing_nothing(
    run: Path, drawn_database: Path
) -> None:
    model = load_model(run / "model")
    faces = load_faces(Database.open(drawn_database), model, "test", 1000, np.random.default_rng(0))
    result = fidelity.twin_edits(model, faces, 40, torch.Generator().manual_seed(0))
    assert result is not None
    assert result.untouched.value > 0
    assert abs(result.edited.value - result.untouched.value) < 0.5
    assert fidelity.twin_edits(model, faces.take(np.arange(5)), 40, torch.Generator()) is None


def test_faces_are_sampled_by_whole_twin_groups(run: Path, drawn_database: Path) -> None:
    model = load_model(run / "model")
    faces = load_faces(Database.open(drawn_database), model, "test", 20, np.random.default_rng(0))
    assert len(faces) == 20
    assert (faces.twin_of >= 0).all()
    assert (faces.identity[faces.twin_of] == faces.identity).all()


def test_other_data_than_the_runs_own_leave_its_card_alone(
    run: Path, written: Report, drawn_database: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(drawn_database, elsewhere)
    named = DataCard.load(elsewhere).model_copy(update={"name": "elsewhere"})
    named.save(elsewhere)
    before = (run / "model" / "card.json").read_bytes()
    answer = CliRunner().invoke(command, [str(run), "--data", str(elsewhere), *FEW])
    assert answer.exit_code == 0, answer.output
    assert "left as they are" in answer.output
    assert (run / "model" / "card.json").read_bytes() == before
    assert (run / "report-elsewhere.html").is_file()


def test_photographs_of_a_folder_with_a_csv_are_measured_by_pairs(
    run: Path, written: Report, drawn_database: Path, tmp_path: Path
) -> None:
    source = Database.open(drawn_database)
    labels, who = source.labels("test"), source.column("test", "identity")
    lines = ["image,AU12,pair"]
    for person in np.unique(who):
        rows = np.flatnonzero(who == person)
        for row in rows[[np.argmin(labels[rows, 1]), np.argmax(labels[rows, 1])]]:
            Image.fromarray(source.images("test", np.array([row]), 32)[0]).save(
                tmp_path / f"{row}.jpg"
            )
            lines.append(f"{row}.jpg,{int(labels[row, 1] > 0)},{person}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    imported = [
        "import",
        "csv",
        str(tmp_path / "labels.csv"),
        "--out",
        str(tmp_path / "db"),
        "--aligned",
        "--size",
        "32",
        "--splits",
        "test",
    ]
    before = (run / "model" / "card.json").read_bytes()
    for one, arguments in (
        (data, imported),
        (command, [str(run), "--data", str(tmp_path / "db"), "--keep-card"]),
    ):
        answer = CliRunner().invoke(one, arguments)
        assert answer.exit_code == 0, answer.output
    assert "order in pairs, AU12" in answer.output
    assert (run / "model" / "card.json").read_bytes() == before
    result = json.loads((run / "report-csv.json").read_text())
    assert [one["name"] for one in result["pairwise_rankings"]] == ["AU12"]
    assert result["recognition"]["va"] == []


def test_too_few_people_have_no_distance_but_a_report_all_the_same(
    run: Path, drawn_database: Path, judge_folder: Path
) -> None:
    model = load_model(run / "model")
    faces = load_faces(Database.open(drawn_database), model, "test", 16, np.random.default_rng(0))
    features = np.random.default_rng(0).normal(size=(16, 4))
    assert fidelity.measure_distances(faces, features, features, np.random.default_rng(0)) is None
