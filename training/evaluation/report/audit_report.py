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
from training.evaluation.bias.decision_flips import DecisionFlips, decision_flips
from training.evaluation.core import metrics
from training.evaluation.core.predictions import U8, load_faces, read
from training.evaluation.recognition import recognition
from training.evaluation.recognition.recognition import GroupTable
from training.evaluation.report import report

AUDIT_JSON, AUDIT_HTML = "audit.json", "audit.html"


@dataclass(frozen=True)
class DataFindings:
    """What is asked of a database's faces: attributes moved by the generator, tables of groups, and
    which change turns a decision.
    """

    latent: tuple[LatentFinding, ...] = ()
    drawn: dict[str, U8] = field(default_factory=dict)
    groups: tuple[GroupTable, ...] = ()
    decision_flips: DecisionFlips | None = None
    flipped: dict[str, U8] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class AuditConfig:
    """What is audited."""

    people: int = 100  # rendered, each in two versions of every nuisance
    data: Path | None = None  # a database whose faces are asked about too
    split: str = "test"
    images: int = 400  # of the split
    judge_folder: Path | None = None
    seed: int = 0


def write(run: Path, config: AuditConfig) -> tuple[Audit, DataFindings, tuple[Path, Path]]:
    """Both files into the run folder (or the folder of a model)."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_flush_denormal(True)
    model = load_model(model_folder(run), device=device)
    on_data = _on_data(model, config.data, config) if config.data else DataFindings()
    rendered, pictures = audit(model, people=config.people, seed=config.seed)
    numbers, page = run / AUDIT_JSON, run / AUDIT_HTML
    content = report.as_json(
        {
            "rendered": rendered,
            "latent": on_data.latent,
            "decision_flips": on_data.decision_flips,
            "groups": on_data.groups,
            "digest": model.card.digest,
        }
    )
    numbers.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    values = {"card": model.card, "audit": rendered, "on_data": on_data, "pictures": pictures}
    page.write_text(report.page(AUDIT_HTML, values))
    return rendered, on_data, (numbers, page)


def _on_data(model: AffectModel, data: Path, config: AuditConfig) -> DataFindings:
    rng, split = np.random.default_rng(config.seed), config.split
    faces = load_faces(Database.open(data), model, split, config.images, rng)
    if not len(faces):
        raise DataError(
            f"split {split!r} of {data} is empty: give a database with more people, or "
            "another --split"
        )
    groups = {name: values for name, values in faces.groups.items() if name != "source"}
    latent, examples = latent_audit(model, faces.images, attributes_of(groups), seed=config.seed)
    weights = metrics.resamplings(faces.identity, np.random.default_rng(config.seed))
    tables = recognition.group_tables(model.card, faces, read(model, faces.images), weights)
    if not (model.card.nuisances and model.card.learns_aus):
        return DataFindings(latent, examples, tables)
    device = str(model.platt.device)
    judge = Judge.load(config.judge_folder, device=device) if config.judge_folder else None
    flips, flipped = decision_flips(model, faces, judge, seed=config.seed)
    return DataFindings(latent, examples, tables, flips, flipped)


def summary_text(audit: Audit, on_data: DataFindings) -> str:
    """What a terminal shows: one finding a line, the strongest first."""
    flips = on_data.decision_flips
    lines = [
        f"{audit.faces} rendered faces in two versions each; 95 % intervals over people; "
        f"background and noise alone: {audit.floor:.3f}"
    ]
    for one in audit.findings:
        s = one.shift
        lines.append(
            f"  {one.name:<38} AU decisions that turn {s.flipped}   valence "
            f"{s.valence.value:+.3f}   arousal {s.arousal.value:+.3f}"
        )
    if flips:
        lines.append(
            f"  of {flips.asked} decisions about given faces some such change "
            f"turns {flips.turned}; the commonest causes:"
        )
        lines += [
            f"    {one.name:<38} {one.turned}   {one.way:.0%} of the way" for one in flips.by[:5]
        ]
    return "\n".join(lines)
