"""Writes annotated sets in the layouts of their authors, with rendered faces in them, and spoils
them: stand-ins for sets under licence.

Every set has its own people, carries the labels that its format can carry, with its unknowns, and
the pictures that it would: aligned crops or photographs in which the face must be found.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from training.renderer.expressions import State, draw_state
from training.renderer.face import ALIGNED, LOOSE, Framing, render_twins
from training.renderer.person import draw_person
from training.renderer.scene import draw_scene

CROP_PX, PHOTOGRAPH_PX = 112, 256
STRIDE = 16  # frames of a video that lie between two of ours, as far as its states go
AFFWILD2 = (1, 2, 4, 6, 7, 10, 12, 15, 23, 24, 25, 26)
DISFA = (1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26)
BP4D = (1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23, 24)
EMOTIONET = (1, 2, 4, 5, 6, 9, 12, 17, 20, 25, 26, 43)
EXPRESSIONS = (
    "neutral",
    "happiness",
    "sadness",
    "surprise",
    "fear",
    "disgust",
    "anger",
    "contempt",
)
PRESENT = 0.3


@dataclass(frozen=True)
class Shot:
    """One picture of a set."""

    person: int
    number: int  # among the person's pictures, from 1
    image: NDArray[np.uint8]  # (S, S, 3) RGB
    landmarks: list[list[float]]  # 68 places in px
    state: State

    def intensity(self, number: int) -> float:
        """Of an AU, in [0, 1]."""
        return self.state.intensities.get(f"AU{number}", 0.0)

    def occurs(self, number: int) -> int:
        """0 or 1, as a coder would have it."""
        return int(self.intensity(number) >= PRESENT)


def shots(seed: int, people: int, states: int, framing: Framing) -> Iterator[Shot]:
    """`people` in one sitting each, `states` pictures of each."""
    for person in range(people):
        rng = np.random.default_rng((seed, person))
        who, where, drawn = (
            draw_person(rng),
            draw_scene(rng),
            [draw_state(rng) for _ in range(states)],
        )
        size = CROP_PX if framing is ALIGNED else PHOTOGRAPH_PX
        for number, face in enumerate(
            render_twins(who, where, drawn, size_px=size, framing=framing), start=1
        ):
            yield Shot(
                person, number, face.image, face.landmarks.round(1).tolist(), drawn[number - 1]
            )


def affwild2(root: Path, people: int, states: int) -> None:
    """Crops of videos, two people in every third recording; a third of the videos have AU alone, a
    third VA alone.
    """
    lines: dict[tuple[str, str], list[str]] = {}
    for shot in shots(101, people, states, ALIGNED):
        video = (
            f"video{shot.person // 3}" + ("_left", "_right", "")[shot.person % 3]
            if shot.person % 3 < 2
            else f"video9{shot.person}"
        )
        shoot(root / f"cropped_aligned/{video}/{shot.number:05d}.jpg", shot)
        valence = [
            -5 if value is None else value for value in (shot.state.valence, shot.state.arousal)
        ]
        if shot.person % 3 != 1:
            lines.setdefault(
                ("AU_Detection", video), [",".join(f"AU{n}" for n in AFFWILD2)]
            ).append(",".join(str(shot.occurs(n)) for n in AFFWILD2))
        if shot.person % 3 != 2:
            lines.setdefault(("VA_Estimation", video), ["valence,arousal"]).append(
                ",".join(map(str, valence))
            )
    for (task, video), text in lines.items():
        part = "Validation_Set" if video.startswith("video9") else "Train_Set"
        write(root / f"{task}_Challenge/{part}/{video}.txt", *text)


def affectnet(root: Path, people: int, states: int) -> None:
    """The folders of 2021: a file a label, half of them text."""
    for number, shot in enumerate(shots(102, people, states, ALIGNED)):
        part = root / ("val_set" if shot.person % 8 == 7 else "train_set")
        shoot(part / f"images/{number}.jpg", shot)
        emotion = EXPRESSIONS.index(shot.state.emotion) if shot.state.emotion in EXPRESSIONS else 8
        labels = {"exp": emotion, "val": shot.state.valence, "aro": shot.state.arousal}
        (part / "annotations").mkdir(exist_ok=True)
        np.save(part / f"annotations/{number}_lnd.npy", np.ravel(shot.landmarks))
        for kind, value in labels.items():
            known = -2 if value is None else value
            path = part / f"annotations/{number}_{kind}.npy"
            np.save(path, np.asarray(str(known) if number % 2 else known))


def emotionet(root: Path, people: int, states: int) -> None:
    """Photographs from the web; every AU is coded in four pictures of five."""
    rows, rng = [], np.random.default_rng(103)
    for number, shot in enumerate(shots(103, people, states, LOOSE)):
        shoot(root / f"images/{number}.jpg", shot)
        coded = [
            str(shot.occurs(n)) if n in EMOTIONET and rng.random() < 0.8 else "999"
            for n in range(1, 61)
        ]
        rows.append(
            "\t".join(
                [
                    f"http://pictures.example/a/{number}.jpg",
                    f"http://pictures.example/{number}",
                    *coded,
                ]
            )
        )
    write(root / "list.txt", *rows)


def disfa(root: Path, people: int, states: int) -> None:
    """Frames with intensities from 0 to 5, a file an AU."""
    lines: dict[tuple[str, int], list[str]] = {}
    for shot in shots(104, people, states, LOOSE):
        name = f"SN{shot.person + 1:03d}"
        shoot(root / f"Images/{name}/{shot.number:05d}.jpg", shot)
        for n in DISFA:
            lines.setdefault((name, n), []).append(f"{shot.number},{round(5 * shot.intensity(n))}")
    for (name, n), text in lines.items():
        write(root / f"ActionUnit_Labels/{name}/{name}_au{n}.txt", *text)


def bp4d(root: Path, people: int, states: int) -> None:
    """Frames with occurrences, 9 where the coder could not say; two tasks a person."""
    lines: dict[str, list[str]] = {}
    for shot in shots(105, people, states, LOOSE):
        name, task = f"{'FM'[shot.person % 2]}{shot.person + 1:03d}", f"T{1 + shot.number % 2}"
        frame = STRIDE * shot.number
        shoot(root / f"2D+3D/{name}/{task}/{frame:04d}.jpg", shot)
        codes = [9 if (n + shot.number) % 11 == 0 else shot.occurs(n) for n in BP4D]
        lines.setdefault(f"{name}_{task}", [",".join(["0", *map(str, BP4D)])]).append(
            ",".join(map(str, [frame, *codes]))
        )
    for name, text in lines.items():
        write(root / f"AUCoding/AU_OCC/{name}.csv", *text)


def afewva(root: Path, people: int, states: int) -> None:
    """Film clips with valence and arousal from -10 to 10."""
    clips: dict[str, dict[str, object]] = {}
    for shot in shots(106, people, states, LOOSE):
        if shot.state.valence is None or shot.state.arousal is None:
            continue
        clip, frame = f"{shot.person:03d}", f"{shot.number:05d}"
        shoot(root / f"{clip}/{frame}.png", shot)
        affect = {
            "valence": round(10 * shot.state.valence),
            "arousal": round(10 * shot.state.arousal),
        }
        clips.setdefault(clip, {})[frame] = {"landmarks": shot.landmarks, **affect}
    for clip, frames in clips.items():
        write(
            root / f"{clip}/{clip}.json",
            json.dumps({"video_id": clip, "frames": frames, "actor": f"actor {clip}"}),
        )


def plain(root: Path, people: int, states: int) -> None:
    """A file of one's own with both annotations."""
    rows = ["image,identity,AU1,AU4,AU12,AU43,valence,arousal,group_sitting"]
    for shot in shots(107, people, states, LOOSE):
        name = f"pictures/{shot.person}-{shot.number}.png"
        shoot(root / name, shot)
        known = [
            "" if value is None else value for value in (shot.state.valence, shot.state.arousal)
        ]
        rows.append(
            ",".join(
                map(
                    str,
                    [
                        name,
                        f"p{shot.person}",
                        *(shot.intensity(n) for n in (1, 4, 12, 43)),
                        *known,
                        "one",
                    ],
                )
            )
        )
    write(root / "labels.csv", *rows)


@dataclass(frozen=True)
class Layout:
    """How a set is written, where it is imported from, and whether its pictures are crops."""

    make: Callable[[Path, int, int], None]
    path: str = "."
    aligned: bool = False


LAYOUTS = {
    "affwild2": Layout(affwild2, aligned=True),
    "affectnet": Layout(affectnet, aligned=True),
    "emotionet": Layout(emotionet),
    "disfa": Layout(disfa),
    "bp4d": Layout(bp4d),
    "afewva": Layout(afewva),
    "csv": Layout(plain, path="labels.csv"),
}


def spoil(root: Path) -> None:
    """Break a set as disks and people do: a picture cut short, one gone, one of a wall; a label of
    nonsense, one out of range, one gone.
    """
    pictures = sorted(path for path in root.rglob("*") if path.suffix in (".jpg", ".png"))
    cut, gone, wall = pictures[2], pictures[3], pictures[4]
    cut.write_bytes(cut.read_bytes()[:200])
    gone.unlink()
    cv2.imwrite(str(wall), np.full((PHOTOGRAPH_PX, PHOTOGRAPH_PX, 3), 130, np.uint8))
    texts = sorted(path for path in root.rglob("*") if path.suffix in (".txt", ".csv"))
    for path in texts[:2]:
        lines = path.read_text().splitlines()
        mark = "\t" if "\t" in lines[1] else ","
        first, *rest = lines[1].split(mark)
        lines[1] = mark.join([first, *rest[:-1], "7"]) if rest else "7"
        write(path, *lines, "this is no label", mark.join([lines[-1], "0"]))
    for path in sorted(root.rglob("*.json"))[:1]:
        clip = json.loads(path.read_text())
        next(iter(clip["frames"].values()))["valence"] = 11
        clip["frames"]["90000"] = {"valence": "high"}
        write(path, json.dumps(clip))
        write(sorted(root.rglob("*.json"))[1], '{"frames": ')
    arrays = sorted(root.rglob("*_val.npy"))
    for path, content in zip(arrays[8:10], (b"", b"\x93NUMPY nonsense"), strict=False):
        path.write_bytes(content)
    for path in arrays[10:11]:
        np.save(path, np.asarray("7"))
        path.with_name(path.name.replace("_val", "_aro")).unlink()


def shoot(path: Path, shot: Shot) -> None:
    """Write the picture to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), shot.image[..., ::-1])


def write(path: Path, *lines: str) -> None:
    """Write lines to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
