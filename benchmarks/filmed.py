"""A film of two rendered people who move, cross and change their faces, with the truth of every
frame.

python -m benchmarks.filmed --out data/film --minutes 10 --distinct 1500
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import click
import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from training.renderer.affect_rule import affect_of
from training.renderer.expressions import NEUTRAL_STATE, State, draw_state
from training.renderer.face import LOOSE, render_face
from training.renderer.person import Person, draw_person
from training.renderer.scene import Scene, draw_scene

U8 = NDArray[np.uint8]
WIDTH, HEIGHT, RATE = 1280, 720, 25
SIDE = 400  # px of a rendered head with its background
HOLD = 40  # frames from one expression to the next
CROSSING = 500  # frames in which both walk from side to side and back
TURN, NOD, TILT = 0.35, 0.12, 0.1  # radians
FILM_FILE, TRUTH_FILE, HEADS_FILE = "film.mp4", "truth.json", "heads.npy"


@click.command()
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--minutes", type=float, default=10.0, show_default=True)
@click.option(
    "--distinct",
    type=int,
    default=1500,
    show_default=True,
    help="rendered frames; then they come again, elsewhere",
)
@click.option("--seed", type=int, default=11, show_default=True)
def main(out: Path, minutes: float, distinct: int, seed: int) -> None:
    """Write film.mp4 and truth.json. Heads of a run that was stopped are not rendered again."""
    out.mkdir(parents=True, exist_ok=True)
    frames = round(minutes * 60 * RATE)
    distinct = min(distinct, frames)
    cast = [_Actor(seed + actor_number, distinct) for actor_number in range(2)]
    heads = _heads(out, cast, distinct)
    _film(heads, frames, out / FILM_FILE)
    truth = {
        "states": [[_state(actor.at(frame)[0]) for actor in cast] for frame in range(distinct)],
        "places": [
            [_place(frame, actor_number) for actor_number in range(2)] for frame in range(frames)
        ],
        "side": SIDE,
    }
    (out / TRUTH_FILE).write_text(json.dumps(truth))
    (out / HEADS_FILE).unlink()


def _heads(out: Path, cast: Sequence["_Actor"], distinct: int) -> U8:
    """(distinct, 2, S, S, 4): both heads of every frame, with what covers what is behind them."""
    path = out / HEADS_FILE
    if path.exists():
        heads: U8 = np.load(path, mmap_mode="r")
        return heads
    unfinished = path.with_suffix(".unfinished")
    shape = (distinct, 2, SIDE, SIDE, 4)
    heads = np.lib.format.open_memmap(unfinished, "w+", np.uint8, shape)
    for frame, pair in enumerate(tqdm(heads, mininterval=30)):
        for actor, head in zip(cast, pair, strict=True):
            state, scene = actor.at(frame)
            face = render_face(
                actor.person, scene, state, size_px=SIDE, framing=LOOSE, supersample=1
            )
            head[..., :3] = face.image
            head[..., 3] = cv2.GaussianBlur(255 * (face.parts > 0).astype(np.uint8), (5, 5), 0)
    unfinished.rename(path)
    return heads


def _state(state: State) -> dict[str, Any]:
    sides = state.sides(left=True), state.sides(left=False)
    valence, arousal = affect_of(state.intensities, *sides)
    return {"aus": state.intensities, "valence": valence, "arousal": arousal}


class _Actor:
    """A person with a plan: an expression every HOLD frames, and a head that never quite rests."""

    def __init__(self, seed: int, frames: int) -> None:
        rng = np.random.default_rng(seed)
        self.person: Person = draw_person(rng)
        drawn = draw_scene(rng)
        self.scene: Scene = replace(drawn, hand=None, scarf=None, placement=(0.0, 0.0, 0.8))
        self.states = [NEUTRAL_STATE, *(draw_state(rng) for _ in range(frames // HOLD + 1))]
        self.phases = rng.uniform(0, 2 * np.pi, 3)

    def at(self, frame: int) -> tuple[State, Scene]:
        step, share = divmod(frame / HOLD, 1)
        share = share * share * (3 - 2 * share)
        a, b = self.states[int(step)], self.states[int(step) + 1]
        mixed = {
            code: (1 - share) * a.intensities.get(code, 0.0) + share * b.intensities.get(code, 0.0)
            for code in {*a.intensities, *b.intensities}
        }
        left = {
            code: (1 - share) * a.left.get(code, 1.0) + share * b.left.get(code, 1.0)
            for code in mixed
        }
        yaw, pitch, roll = np.sin(self.phases + frame / np.array([61.0, 83.0, 47.0]))
        pose = {"yaw": TURN * yaw, "pitch": NOD * pitch, "roll": TILT * roll}
        return State(mixed, left, None, None, None), replace(self.scene, **pose)


def _place(frame: int, actor_number: int) -> tuple[int, int]:
    """Left upper corner of a head: both walk from side to side, towards each other."""
    walked = (1 - np.cos(2 * np.pi * frame / CROSSING)) / 2
    across = walked if actor_number == 0 else 1 - walked
    bob = 20 * np.sin(2 * np.pi * (frame / 37 + actor_number / 3))
    return round(across * (WIDTH - SIDE)), round(HEIGHT - SIDE - 60 - 40 * actor_number + bob)


def _film(heads: U8, frames: int, path: Path) -> None:
    """The second person passes in front of the first, whom nobody sees meanwhile."""
    ground = (
        np.linspace(90, 150, WIDTH, dtype=np.uint8)[None, :, None].repeat(HEIGHT, 0).repeat(3, 2)
    )
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(
            "libx264", rate=RATE, options={"crf": "20", "preset": "ultrafast"}
        )
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for frame in tqdm(range(frames), mininterval=30):
            picture = ground.copy()
            for who in range(2):
                x, y = _place(frame, who)
                head = heads[frame % len(heads), who]
                part = picture[y : y + SIDE, x : x + SIDE]
                cover = head[..., 3:].astype(np.uint16)
                part[:] = (cover * head[..., :3] + (255 - cover) * part) // 255
            drawn = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(drawn))
        container.mux(stream.encode())


if __name__ == "__main__":
    main()
