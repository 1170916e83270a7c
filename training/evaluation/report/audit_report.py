"""Audits a run and writes audit.json, and audit.html: one file that needs no other."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from affect.factory import load_model
from affect.judge import Judge
from affect.model import AffectModel
from affect.model_folders import model_folder
from training.database.card import DataError
from training.database.reader import Database
from training.evaluation.bias.audit import Audit, LatentFinding, attributes_of, audit, latent_audit
from training.evaluation.bias.decision_flips import Turning, turning
from training.evaluation.core import metrics
from training.evaluation.core.predictions import U8, load_faces, read
from training.evaluation.recognition import recognition
from training.evaluation.recognition.recognition import GroupTable
from training.evaluation.report import report

AUDIT_JSON, AUDIT_HTML = "audit.json", "audit.html"


@dataclass(frozen=True)
class OfData:
    """What is asked of a database's faces: attributes moved by the generator, tables of groups, and
    which change turns a decision.
    """

    latent: tuple[LatentFinding, ...] = ()
    drawn: dict[str, U8] = field(default_factory=dict)
    groups: tuple[GroupTable, ...] = ()
    turning: Turning | None = None
    turned: dict[str, U8] = field(default_factory=dict)


def write(
    run: Path,
    *,
    people: int,
    data: Path | None,
    split: str,
    images: int,
    seed: int,
    judge_folder: Path | None = None,
) -> tuple[Audit, OfData, tuple[Path, Path]]:
    """Both files into the run folder (or the folder of a model)."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_flush_denormal(True)
    model = load_model(model_folder(run), device=device)
    judge = Judge.load(judge_folder, device=device) if judge_folder else None
    given = _of_data(model, data, split, images, seed, judge) if data else OfData()
    found, pictures = audit(model, people=people, seed=seed)
    numbers, page = run / AUDIT_JSON, run / AUDIT_HTML
    content = report.as_json(
        {
            "rendered": found,
            "latent": given.latent,
            "turning": given.turning,
            "groups": given.groups,
            "digest": model.card.digest,
        }
    )
    numbers.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    page.write_text(
        report.page(AUDIT_HTML, card=model.card, found=found, given=given, pictures=pictures)
    )
    return found, given, (numbers, page)


def _of_data(
    model: AffectModel, data: Path, split: str, images: int, seed: int, judge: Judge | None
) -> OfData:
    faces = load_faces(Database.open(data), model, split, images, np.random.default_rng(seed))
    if not len(faces):
        raise DataError(
            f"split {split!r} of {data} is empty: give a database with more people, or "
            "another --split"
        )
    groups = {name: values for name, values in faces.groups.items() if name != "source"}
    latent, drawn = latent_audit(model, faces.images, attributes_of(groups), seed=seed)
    weights = metrics.resamplings(faces.identity, np.random.default_rng(seed))
    tables = recognition.group_tables(model.card, faces, read(model, faces.images), weights)
    asked, shown = (
        turning(model, faces, judge, seed=seed)
        if model.card.nuisances and model.card.learns_aus
        else (None, {})
    )
    return OfData(latent, drawn, tables, asked, shown)


def summary_text(found: Audit, given: OfData) -> str:
    """What a terminal shows: one finding a line, the strongest first."""
    lines = [
        f"{found.faces} rendered faces in two versions each; 95 % intervals over people; "
        f"background and noise alone: {found.floor:.3f}"
    ]
    for one in found.findings:
        s = one.shift
        lines.append(
            f"  {one.name:<38} AU decisions that turn {s.flipped}   valence "
            f"{s.valence.value:+.3f}   arousal {s.arousal.value:+.3f}"
        )
    if given.turning:
        lines.append(
            f"  of {given.turning.asked} decisions about given faces some such change "
            f"turns {given.turning.turned}; the commonest causes:"
        )
        lines += [
            f"    {one.name:<38} {one.turned}   {one.way:.0%} of the way"
            for one in given.turning.by[:5]
        ]
    return "\n".join(lines)
