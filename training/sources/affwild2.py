"""Aff-Wild2, the 2020 layout (`AU_Set/Training_Set`) and that of 2022 on
(`AU_Detection_Challenge/Train_Set`).

The annotations lie in the folder itself or in one below it (`annotations`, `6th ABAW Annotations`),
the crops in one or more folders `cropped_aligned...`. One text file a video and task, a header,
then a line a frame: line k (0-based) belongs to `cropped_aligned/<video>/{k+1:05d}.jpg`. More lines
than crops is normal (frames without a detected face). Not annotated: AU -1, VA -5, expression -1. A
video that ends in `_left` or `_right` shows one of two people of the same recording, so both stay
in one split.
"""

from collections.abc import Iterator
from pathlib import Path

from affect.labels import DIMENSIONS, LabelError
from training.database.card import DataError
from training.database.sample import TEST
from training.sources.frames import NumberingError, frames_of
from training.sources.record import (
    OFFICIAL,
    Item,
    Labels,
    Record,
    Refusal,
    Source,
    circumplex,
    code_of,
    in_facs_order,
    numbers,
    occurrences,
    text_lines,
    visible,
)

AU, VA, EXPRESSION = TASKS = ("AU", "VA", "EXPR")
EMOTIONS = ("neutral", "anger", "disgust", "fear", "happiness", "sadness", "surprise", "other")
SIDES = ("_left", "_right")
AU_UNKNOWN, VA_UNKNOWN, EXPRESSION_UNKNOWN = -1, -5, -1


class AffWild2(Source):
    """Frames with the labels of all tasks that annotate them."""

    name, title, tight = "affwild2", "Aff-Wild2", True
    labelled = "AU occurrence and continuous valence and arousal by trained annotators of the set"

    def vocabulary(self) -> tuple[str, ...]:
        codes: set[str] = set()
        for path, _ in self._files()[AU].values():
            codes.update(_codes(next((text for _, text in text_lines(path)), "")) or ())
        return in_facs_order(codes)

    def items(self) -> Iterator[Item]:
        files = self._files()
        folders = crop_folders(self)
        for video in sorted({video for by_video in files.values() for video in by_video}):
            crops = next((f / video for f in folders if (f / video).is_dir()), folders[0] / video)
            yield from self._video(
                video,
                crops,
                {task: files[task][video] for task in TASKS if video in files[task]},
            )

    def _files(self) -> dict[str, dict[str, tuple[Path, str]]]:
        """Per task, the file and official split of each video.

        Raises DataError unless one folder holds them.
        """
        below = sorted(path for path in self.root.glob("*") if path.is_dir())
        by_folder = {
            folder: files for folder in (self.root, *below) if (files := _files_in(folder))
        }
        if not by_folder:
            raise DataError(
                f"{self.root} holds no Aff-Wild2 annotations: expected e.g. "
                "AU_Set/Training_Set/<video>.txt or "
                "AU_Detection_Challenge/Train_Set/<video>.txt, there or in a folder such "
                "as `6th ABAW Annotations` "
                "(per-picture multi-task files are imported with the format abaw)"
            )
        if len(by_folder) > 1:
            names = " and ".join(repr(folder.name) for folder in by_folder)
            raise DataError(
                f"{self.root} holds annotations of several releases, {names}: give the "
                "folder of one as PATH, "
                "and the folder that holds cropped_aligned with --pictures"
            )
        return next(iter(by_folder.values()))

    def _video(self, video: str, crops: Path, files: dict[str, tuple[Path, str]]) -> Iterator[Item]:
        frames: dict[int, dict[str, Labels | str]] = {}
        where: dict[int, str] = {}
        for task, (path, _) in files.items():
            for frame, item in self._lines(task, path):
                if isinstance(item, Refusal):
                    yield item
                else:
                    frames.setdefault(frame, {})[task] = item
                    where.setdefault(frame, self.location_of(path, frame + 2))
        try:
            pictures = frames_of(crops, [frame + 1 for frame in frames])
        except NumberingError as error:
            yield Refusal(video, str(error))
            return
        recording = next(
            (video.removesuffix(side) for side in SIDES if video.endswith(side)), video
        )
        official = TEST if TEST in {split for _, split in files.values()} else OFFICIAL["train"]
        for frame, tasks in sorted(frames.items()):
            emotion = tasks.pop(EXPRESSION, "")
            yield Record(
                where=where[frame],
                picture=pictures.get(frame + 1, crops / f"{frame + 1:05d}.jpg"),
                labels={
                    name: value
                    for labels in tasks.values()
                    if isinstance(labels, dict)
                    for name, value in labels.items()
                },
                identity=video,
                video=recording,
                official=official,
                truth={"emotion": emotion} if emotion else {},
            )

    def _lines(self, task: str, path: Path) -> Iterator[tuple[int, Labels | str | Refusal]]:
        """(frame, what its line says) of one file; an expression is its name, "" when unknown."""
        codes: tuple[str, ...] = ()
        for line, text in text_lines(path):
            if line == 1:
                codes = _codes(text) or ()
                if task == AU and not codes:
                    yield (
                        0,
                        Refusal(
                            self.location_of(path, 1), f"the header {text!r} names no Action Units"
                        ),
                    )
                    return
                continue
            try:
                yield line - 2, _labels(task, codes, text)
            except ValueError as error:
                yield line - 2, Refusal(self.location_of(path, line), str(error))


def _files_in(base: Path) -> dict[str, dict[str, tuple[Path, str]]]:
    """Per task, the file and official split of each video of one folder of annotations; {} when it
    is none.
    """
    by_task: dict[str, dict[str, tuple[Path, str]]] = {task: {} for task in TASKS}
    for task in TASKS:
        for path in visible(base.glob(f"{task}_*/*_[Ss]et/*.txt")):
            part = path.parts[-2].lower().removesuffix("_set")
            if part in OFFICIAL:
                by_task[task][path.stem] = (path, OFFICIAL[part])
    return by_task if any(by_task.values()) else {}


def crop_folders(source: Source, *others: str) -> list[Path]:
    """The folders of crops: those that were given or that hold `cropped_aligned...`, which came in
    several parts.
    """
    chosen = source.options.pictures
    for base in (chosen,) if chosen else (source.root, source.root.parent):
        if crop_dirs := sorted(path for path in base.glob("cropped_aligned*") if path.is_dir()):
            return crop_dirs
    return [source.pictures("cropped_aligned", *others)]


def _codes(header: str) -> tuple[str, ...] | None:
    codes = [code_of(name) for name in header.split(",")]
    return tuple(code for code in codes if code) if all(codes) else None


def _labels(task: str, codes: tuple[str, ...], text: str) -> Labels | str:
    values = numbers(text.split(","))
    expected_count = {AU: len(codes), VA: len(DIMENSIONS), EXPRESSION: 1}[task]
    if values is None or len(values) != expected_count:
        raise LabelError(task, text, f"a line has {expected_count} numbers here")
    if task == AU:
        return occurrences(codes, values, unknown=AU_UNKNOWN)
    return circumplex(*values, unknown=VA_UNKNOWN) if task == VA else emotion_name(values[0])


def emotion_name(number: float) -> str:
    """The name of an expression, "" for -1. Raises LabelError for a number that stands for none."""
    if number == EXPRESSION_UNKNOWN:
        return ""
    if number not in range(len(EMOTIONS)):
        raise LabelError(
            "expression",
            number,
            f"expressions are numbered 0 to {len(EMOTIONS) - 1}, -1 is not annotated",
        )
    return EMOTIONS[int(number)]
