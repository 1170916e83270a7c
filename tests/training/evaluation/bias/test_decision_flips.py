"""Counting which change that should not matter turns decisions."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from affect.card import Calibration
from affect.counterfactual.nuisance import reversed_name
from affect.model import AffectModel
from tests.support.tiny import NUISANCES, tiny_card, tiny_model
from training.database.annotations import Annotations
from training.evaluation.bias.decision_flips import ON_THE_BRINK, decision_flips
from training.evaluation.commands import audit
from training.evaluation.core.predictions import Faces


def faces(count: int) -> Faces:
    images = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    unknown = np.full((count, len(tiny_card().vocabulary) + 2), np.nan)
    return Faces(
        images,
        unknown,
        unknown[:, :2],
        np.arange(count),
        {},
        np.full(count, -1),
        np.full(count, ""),
        Annotations.unknown(count, unknown.shape[1] - 2),
    )


def swayed() -> AffectModel:
    """A model that calls each AU present on half of the faces, so many decisions are near, and that
    nuisances move far.
    """
    model = tiny_model()
    with torch.inference_mode():
        middle = (
            model.read(model.to_pixels(torch.from_numpy(faces(40).images))).logits.median(0).values
        )
    calibration = {
        code: Calibration(shift=-float(logit))
        for code, logit in zip(model.card.vocabulary, middle, strict=True)
    }
    model.replace_card(model.card.model_copy(update={"calibration": calibration}))
    model.learn_nuisances(NUISANCES, 30 * model.nuisance_directions, model.nuisance_probes)
    return model


def test_every_decision_that_turns_has_one_leading_cause() -> None:
    flips, pictures = decision_flips(swayed(), faces(40), None, seed=0)
    assert flips.asked == 40 and flips.own is None
    assert 0 < flips.turned.value == pytest.approx(sum(one.turned.value for one in flips.by))
    assert {one.name for one in flips.by} <= {
        *NUISANCES,
        *map(reversed_name, NUISANCES),
        ON_THE_BRINK,
    }
    assert set(pictures) == {one.name for one in flips.by}
    assert all(0 <= one.way <= 1 for one in flips.by)
    assert [one.turned.value for one in flips.by] == sorted(
        (one.turned.value for one in flips.by), reverse=True
    )


def test_the_audit_of_data_reports_flipped_decisions_and_gaps(
    tmp_path: Path, drawn_database: Path, judge_folder: Path
) -> None:
    swayed().save(tmp_path / "model")
    more = ["--data", str(drawn_database), "--judge", str(judge_folder), "--images", "64"]
    done = CliRunner().invoke(audit, [str(tmp_path), "--people", "8", *more])
    assert done.exit_code == 0, done.output
    content = json.loads((tmp_path / "audit.json").read_text())
    assert (
        content["decision_flips"]["asked"] > 20 and content["decision_flips"]["turned"]["value"] > 0
    )
    assert "decisions about given faces" in done.output
    assert "By counterfactuals" in (tmp_path / "audit.html").read_text()
