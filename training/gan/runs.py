"""Comparison of run folders: settings, progress, losses, and figures of evaluation."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from affect.card import CARD_FILE, Measured, ModelCard
from training.gan.checkpoint import RunError
from training.gan.config import TrainConfig, current_names
from training.gan.run_folder import CONFIG_FILE, LOG_FILE, MODEL_FOLDER

PROGRESS = ("step", "seen_images", "rate")  # of a line of the log; the rest are losses
SHORT = ("label", "reconstruction", "critic")  # losses of a line in the list
NOTHING = "-"
WIDEST = 40  # letters of a setting
DEFAULTS = {
    field.name: field.default for field in fields(TrainConfig) if field.default is not MISSING
}  # of a run before they were known


@dataclass(frozen=True)
class Run:
    """One run folder, read from its files; what a run does not have yet is empty."""

    folder: Path
    config: Mapping[str, Any]  # config.json with nested names joined by dots
    last: Mapping[str, float]  # last line of its log
    card: ModelCard | None  # of its model, once it has one

    @classmethod
    def load(cls, folder: Path) -> "Run":
        """Raises RunError when the folder is not a run's."""
        path = folder / CONFIG_FILE
        if not path.is_file():
            raise RunError(
                f"{folder} has no {CONFIG_FILE}: give run folders, or one folder that holds some"
            )
        card = (
            ModelCard.load(folder / MODEL_FOLDER)
            if (folder / MODEL_FOLDER / CARD_FILE).is_file()
            else None
        )
        config = dict(_flat(DEFAULTS | current_names(json.loads(path.read_text()))))
        return cls(folder, config, _last_line(folder / LOG_FILE), card)

    @property
    def progress(self) -> float:
        """Share of its length that is done."""
        return float(self.last.get("seen_images", 0) / self.config["total_images"])

    @property
    def rate(self) -> float:
        """Pictures a second in its last sitting."""
        return float(self.last.get("rate", 0.0))

    @property
    def losses(self) -> dict[str, float]:
        """Means of its last logged stretch, by name."""
        return {name: value for name, value in self.last.items() if name not in PROGRESS}

    @property
    def quality(self) -> Mapping[str, Measured]:
        """What evaluation wrote into its card."""
        return self.card.quality if self.card else {}

    @property
    def measured_on(self) -> str:
        """Data and split of these figures."""
        splits = sorted({figure.split for figure in self.quality.values()})
        return f"{self.card.data.name} {'+'.join(splits)}" if self.card and splits else NOTHING

    def line(self) -> str:
        """The run in the list."""
        figures = " ".join(f"{name}={self.last[name]:.4f}" for name in SHORT if name in self.last)
        description = (
            f"{self.config['preset']:<10} {self.config['labels']:<5} seed {self.config['seed']:<4}"
        )
        return (
            f"{self.folder.name:<24} {description} {100 * self.progress:6.1f} %  "
            f"{self.rate:7.1f} images/s  {figures}"
        )


def runs_in(folder: Path) -> list[Run]:
    """The runs right under a folder, by name."""
    return [Run.load(file.parent) for file in sorted(folder.glob(f"*/{CONFIG_FILE}"))]


def comparison(runs: Sequence[Run]) -> str:
    """A table with a column a run: settings that differ, progress, last losses, evaluation; with
    two runs also second - first.
    """
    rows: list[list[str]] = [
        ["", *_names(runs)],
        *_title("settings that differ"),
        *_settings(runs),
        *_title("progress"),
    ]
    rows += [
        [
            "pictures seen",
            *(
                f"{run.last.get('seen_images', 0):,.0f} ({100 * run.progress:.1f} %)"
                for run in runs
            ),
        ]
    ]
    rows += [["pictures a second", *(f"{run.rate:.1f}" for run in runs)]]
    rows += [*_title("last losses"), *_figures([run.losses for run in runs])]
    if any(run.quality for run in runs):
        rows += [*_title("evaluation"), ["measured on", *(run.measured_on for run in runs)]]
        rows += _figures(
            [{name: figure.value for name, figure in run.quality.items()} for run in runs],
            [run.quality for run in runs],
        )
    return _aligned(rows)


def as_json(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """The same for machines, each run as a whole."""
    return [
        {
            "run": str(run.folder),
            "config": dict(run.config),
            "progress": round(run.progress, 6),
            "rate": run.rate,
            "losses": run.losses,
        }
        | {
            "measured_on": run.measured_on,
            "quality": {name: figure.model_dump() for name, figure in run.quality.items()},
        }
        for run in runs
    ]


def _settings(runs: Sequence[Run]) -> list[list[str]]:
    names = dict.fromkeys(name for run in runs for name in run.config)
    rows = [[name, *(_text(run.config.get(name, NOTHING)) for run in runs)] for name in names]
    return [row for row in rows if len(set(row[1:])) > 1]


def _figures(
    values: Sequence[Mapping[str, float]], intervals: Sequence[Mapping[str, Measured]] = ()
) -> list[list[str]]:
    rows = []
    for name in dict.fromkeys(name for of_run in values for name in of_run):
        cells = [f"{of_run[name]:.4f}" if name in of_run else NOTHING for of_run in values]
        for index, of_run in enumerate(intervals):
            if name in of_run and of_run[name].low is not None:
                cells[index] += f" [{of_run[name].low:.3f}, {of_run[name].high:.3f}]"
        if len(values) == 2 and all(name in of_run for of_run in values):
            cells.append(f"{values[1][name] - values[0][name]:+.4f}")
        rows.append([name, *cells])
    return rows


def _names(runs: Sequence[Run]) -> list[str]:
    """Folder names, or whole paths where two are named alike."""
    names = [run.folder.resolve().name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.folder) for run in runs]


def _title(text: str) -> list[list[str]]:
    return [[], [f"-- {text}"]]


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    full = [row for row in rows if len(row) > 1]
    widths = [
        max(len(row[column]) for row in full if len(row) > column)
        for column in range(max(len(row) for row in full))
    ]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip()
        if len(row) > 1
        else "".join(row)
        for row in rows
    ]
    return "\n".join(lines)


def _text(value: object) -> str:
    # a length given anew while it ran
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return f"{len(value)} x, last at {value[-1]['seen_images']:,}"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= WIDEST else f"...{text[3 - WIDEST :]}"


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _last_line(log: Path) -> dict[str, float]:
    """A line that is being written is not there yet."""
    lines = (
        [line for line in log.read_text().splitlines() if line.endswith("}")]
        if log.is_file()
        else []
    )
    return dict(json.loads(lines[-1])) if lines else {}
