"""Audits a run and writes audit.json, and audit.html: one file that needs no other."""

import json
from pathlib import Path

import numpy as np
import torch

from affect.card import CARD_FILE
from affect.model import AffectModel
from training.database.card import DataError
from training.database.reader import Database
from training.evaluation import report
from training.evaluation.audit import Audit, LatentFinding, attributes_of, audit, latent_audit
from training.evaluation.evaluate import MODEL_FOLDER
from training.evaluation.reading import U8, load_faces

AUDIT_JSON, AUDIT_HTML = "audit.json", "audit.html"


def write(run: Path, *, people: int, data: Path | None, split: str, images: int, seed: int) -> tuple[Audit, tuple[Path, Path]]:
    """Both files into the run folder (or the folder of a model)."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_flush_denormal(True)
    model = AffectModel.load(run if (run / CARD_FILE).is_file() else run / MODEL_FOLDER, device=device)
    latent, drawn = _of_data(model, data, split, images, seed) if data else ((), {})
    found, pictures = audit(model, people=people, seed=seed)
    numbers, page = run / AUDIT_JSON, run / AUDIT_HTML
    content = report.as_json({"rendered": found, "latent": latent, "digest": model.card.digest})
    numbers.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    page.write_text(report.page(AUDIT_HTML, card=model.card, found=found, latent=latent, pictures=pictures, drawn=drawn))
    return found, (numbers, page)


def _of_data(model: AffectModel, data: Path, split: str, images: int, seed: int) -> tuple[tuple[LatentFinding, ...], dict[str, U8]]:
    faces = load_faces(Database.open(data), model, split, images, np.random.default_rng(seed))
    if not len(faces):
        raise DataError(f"split {split!r} of {data} is empty: give a database with more people, or another --split")
    groups = {name: values for name, values in faces.groups.items() if name != "source"}
    return latent_audit(model, faces.images, attributes_of(groups), seed=seed)


def summary_text(found: Audit) -> str:
    """What a terminal shows: one finding a line, the strongest first."""
    lines = [
        f"{found.faces} rendered faces in two versions each; 95 % intervals over people; background and noise alone: {found.floor:.3f}"
    ]
    for one in found.findings:
        s = one.shift
        lines.append(
            f"  {one.name:<38} AU decisions that turn {s.flipped}   valence {s.valence.value:+.3f}   arousal {s.arousal.value:+.3f}"
        )
    return "\n".join(lines)
