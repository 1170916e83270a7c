"""AFEW-VA: `<clip>/<clip>.json` with `frames["00000"] = {landmarks, arousal, valence}`, whole
numbers from -10 to 10; `00000.png`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from affect.labels import DIMENSIONS, LabelError, check
from training.database.card import DataError
from training.sources.record import Item, Labels, Record, Refusal, Source, picture_of, visible

SCALE = 10


class AfewVa(Source):
    """Film clips with valence and arousal a frame."""

    name, title = "afewva", "AFEW-VA"
    labelled = "valence and arousal from -10 to 10 a frame by two annotators together"

    def vocabulary(self) -> tuple[str, ...]:
        self._clips()
        return ()

    def items(self) -> Iterator[Item]:
        for path in self._clips():
            try:
                clip = json.loads(path.read_text(encoding="utf-8-sig"))
                frames = dict(clip["frames"])
            except (ValueError, KeyError, TypeError) as error:
                yield Refusal(self.location_of(path), f"is not a clip's annotation: {error!r}")
                continue
            actor = str(clip.get("actor") or path.stem)
            for name in sorted(frames):
                yield self._record(path, name, frames[name], actor)

    def _clips(self) -> list[Path]:
        paths = visible(path for path in self.root.rglob("*.json") if path.stem == path.parent.name)
        if not paths:
            raise DataError(f"{self.root} holds no <clip>/<clip>.json of AFEW-VA")
        return paths

    def _record(self, path: Path, name: str, frame: Any, actor: str) -> Item:
        where = f"{self.location_of(path)} frame {name}"
        try:
            labels: Labels = {
                dimension: check(dimension, float(frame[dimension]) / SCALE)
                for dimension in DIMENSIONS
            }
        except (LabelError, KeyError, TypeError, ValueError) as error:
            return Refusal(
                where,
                str(error)
                if isinstance(error, LabelError)
                else f"has no valence and arousal: {error!r}",
            )
        folder = self.options.pictures / path.stem if self.options.pictures else path.parent
        return Record(
            where=where,
            picture=picture_of(folder, name),
            labels=labels,
            identity=actor,
            video=path.stem,
            unit=actor,
            box=_box(frame.get("landmarks")),
        )


def _box(landmarks: Any) -> tuple[float, float, float, float] | None:
    """Around landmarks [[x, y], ...]."""
    if not landmarks:
        return None
    xs, ys = zip(*landmarks, strict=True)
    return (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))
