"""`Reader`: whatever is handed in, each picture is answered by itself, and as over HTTP."""

import base64
import io
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from affect import Reader
from affect.inputs import U8, InputPicture
from affect.labels import LabelError
from affect.local import Readings
from affect.local.reader import AHEAD, TOGETHER, chosen_device
from affect.marking import watermark
from affect.marking.marker import short_digest
from service.settings import Settings
from tests.support.gateway import Gateway, open_gateway, serve
from tests.support.pictures import BAD_PICTURES, encoded
from tests.support.tiny import tiny_card, tiny_run
from tests.support.videos import frame

CLOSE = 1e-4


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    yield from serve(Settings(cache_bytes=0))


def _packed(content: bytes) -> dict[str, str]:
    return {"content": base64.b64encode(content).decode()}


def test_import_affect_is_light() -> None:
    code = (
        "import affect, sys; print([m for m in ('torch', 'cv2', 'numpy', 'aiohttp') if "
        "m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_arrays_bytes_pil_images_and_paths_of_one_picture_read_alike(
    reader: Reader, portrait: U8, tmp_path: Path
) -> None:
    path = tmp_path / "face.png"
    path.write_bytes(encoded(portrait))
    readings = reader.read([portrait, encoded(portrait), Image.fromarray(portrait), path])
    assert [one.error for one in readings] == [None] * 4
    assert len({(one.box, round(one.valence or 0, 5)) for one in readings}) == 1


def test_a_folder_is_read_in_order_and_what_is_broken_fails_alone(
    reader: Reader, portrait: U8, tmp_path: Path
) -> None:
    (tmp_path / "album.jpg").mkdir()
    (tmp_path / "album.jpg" / "inside.png").write_bytes(encoded(portrait))
    for name, content in BAD_PICTURES.items():
        (tmp_path / f"{name}.jpg").write_bytes(content)
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "nowhere")
    (tmp_path / "round.jpg").symlink_to(tmp_path)
    (tmp_path / "notes.txt").write_text("no picture")
    readings = reader.read(tmp_path)
    errors = {Path(one.input).stem: one.error for one in readings}
    assert errors == {
        "inside": None,
        "dangling": "unreadable",
        **{name: name for name in BAD_PICTURES},
    }
    assert [one.input for one in readings] == sorted(one.input for one in readings)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_without_permission_is_an_entry(reader: Reader, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    assert [one.error for one in reader.read(tmp_path)] == ["unreadable"]


def test_every_face_has_an_entry_of_its_own(reader: Reader, portrait: U8) -> None:
    pair = np.concatenate([portrait, portrait], axis=1)
    readings = reader.read(pair, faces="all")
    assert [one.face for one in readings] == [0, 1]
    assert len({one.box for one in readings}) == 2


def test_the_error_of_an_array_of_the_wrong_kind_says_what_is_expected(reader: Reader) -> None:
    (one,) = reader.read(np.zeros((4, 4, 3), np.float32))
    assert one.error == "not_an_image" and "uint8" in (one.detail or "")


def test_transparent_and_grey_arrays_are_taken(reader: Reader, portrait: U8) -> None:
    clear = np.dstack([portrait, np.full(portrait.shape[:2], 255, np.uint8)])
    boxes = {one.box for one in reader.read([portrait, clear])}
    assert len(boxes) == 1 and reader.read(portrait[..., 0])[0].error is None


def test_more_pictures_than_fit_stream_in_order(reader: Reader, portrait: U8) -> None:
    pictures = (encoded(portrait) if n % 3 else b"broken" for n in range(40))
    names = [one.input for one in reader.stream(pictures)]
    assert names == [f"bytes-{n}" for n in range(40)]


def noted(pictures: Sequence[U8], taken: list[U8]) -> Iterator[U8]:
    for picture in pictures:
        taken.append(picture)
        yield picture


def test_pictures_are_taken_as_they_are_needed(reader: Reader, portrait: U8) -> None:
    taken = list[U8]()
    next(reader.stream(noted([portrait] * 90, taken)))
    assert len(taken) == TOGETHER * (AHEAD + reader.threads + 1)


def test_frames_of_a_large_video_do_not_pile_up(reader: Reader) -> None:
    taken = list[U8]()
    large = np.zeros((2160, 3840, 3), np.uint8)  # 4K, 24 MiB
    next(reader.stream(noted([large] * 60, taken)))
    assert len(taken) == AHEAD + reader.threads + 1


def test_threads_of_the_program_keep_their_number(reader: Reader, portrait: U8) -> None:
    before = torch.get_num_threads()
    reader.read(portrait)
    with ThreadPoolExecutor(1) as later:
        assert later.submit(torch.get_num_threads).result() == before == torch.get_num_threads()


def test_predictions_are_those_of_the_gateway(
    reader: Reader, gateway: Gateway, portrait: U8
) -> None:
    content = encoded(portrait, "JPEG")
    (served,) = gateway.post("/v1/predict", {"images": [_packed(content)]}).json["results"][0][
        "faces"
    ]
    (one,) = reader.read(content)
    assert one.box == pytest.approx(served["box"], abs=CLOSE)
    assert (one.valence, one.arousal, one.realism) == pytest.approx(
        (served["valence"], served["arousal"], served["realism"]), abs=CLOSE
    )
    for code, unit in one.aus.items():
        assert (unit.probability, unit.intensity, unit.present) == pytest.approx(
            tuple(served["aus"][code][key] for key in ("probability", "intensity", "present")),
            abs=CLOSE,
        )


def test_expression_pose_sides_and_warnings_are_those_of_the_gateway(
    portrait: U8, tmp_path: Path
) -> None:
    content = encoded(portrait)
    reader = Reader(tiny_run(tmp_path / "run", tiny_card(reader=True)), device="cpu")
    with open_gateway(Settings(cache_bytes=0), reader=True) as gateway:
        body = {"images": [_packed(content)]}
        (served,) = gateway.post("/v1/predict", body).json["results"][0]["faces"]
    (one,) = reader.read(content)
    assert one.expression == served["expression"]["label"]
    assert one.expressions == pytest.approx(served["expression"]["probabilities"], abs=CLOSE)
    assert one.pose == pytest.approx(served["pose"], abs=1e-2)  # degrees, told with two decimals
    assert list(one.warnings) == [warning["code"] for warning in served["warnings"]]
    for code, unit in one.aus.items():
        sides = [served["aus"][code].get(side) for side in ("left", "right")]
        assert [unit.left, unit.right] == pytest.approx(sides, abs=CLOSE)


def test_drawn_faces_are_those_of_the_gateway(
    reader: Reader, gateway: Gateway, portrait: U8
) -> None:
    wish = {"aus": {"AU12": 0.9}, "valence": 0.7, "seed": 7}
    drawings = reader.generate([wish, {**wish, "reference": portrait}])
    items = [wish, {**wish, "reference": _packed(encoded(portrait))}]
    served = gateway.post("/v1/generate", {"items": items}).json["results"]
    for one, result in zip(drawings, served, strict=True):
        content = base64.b64decode(result["image"]["content"])
        assert one.measured is not None and one.image is not None
        marked = watermark.embed(
            one.image, int(short_digest(gateway.backend.model.card.digest), 16)
        )
        assert np.array_equal(marked, np.asarray(Image.open(io.BytesIO(content))))
        assert one.measured.valence == pytest.approx(result["measured"]["valence"], abs=CLOSE)


def test_explanations_are_those_of_the_gateway(
    reader: Reader, gateway: Gateway, portrait: U8
) -> None:
    content = encoded(portrait)
    (one,) = reader.explain(content, {"valence": 0.9}, answers=2)
    body = {
        "images": [_packed(content)],
        "options": {"question": {"valence": 0.9}, "answers": 2},
    }
    (served,) = gateway.post("/v1/explain", body).json["results"]
    assert one.explanation is not None
    assert one.explanation.sentence == served["sentence"]
    assert one.explanation.scores == pytest.approx(served["scores"], abs=CLOSE)
    assert one.factual.valence == pytest.approx(served["factual"]["valence"], abs=CLOSE)
    assert len(one.explanation.alternatives) == len(served["alternatives"])


def test_an_invalid_item_is_refused_by_name(reader: Reader) -> None:
    with pytest.raises(LabelError, match="AU99"):
        reader.generate({"aus": {"AU99": 1.0}})
    with pytest.raises(ValueError, match=r"items\[0\].mood"):
        reader.generate({"mood": "happy"})
    with pytest.raises(ValueError, match="one of them"):
        reader.explain(np.zeros((64, 64, 3), np.uint8), {"valence": 0.1, "arousal": 0.1})


def test_a_reference_without_a_face_fails_alone(reader: Reader) -> None:
    blank = np.full((200, 200, 3), 90, np.uint8)
    one, other = reader.generate([{"reference": blank}, {"seed": 1}])
    assert one.error == "no_face" and other.image is not None


def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="device is 'cuda:99'"):
        chosen_device("cuda:99")


def test_readings_slice_into_readings(reader: Reader, portrait: U8) -> None:
    readings = reader.read([portrait, b"broken"])
    assert isinstance(readings[:1], Readings)
    assert (len(readings.faces), len(readings.errors)) == (1, 1)


def test_faces_are_followed_from_frame_to_frame_as_if_each_were_searched(reader: Reader) -> None:
    pixels = [frame(step) for step in range(6)]
    followed, alone = (
        reader.read_together(
            [
                InputPicture("clip", one, number if film else None)
                for number, one in enumerate(pixels)
            ],
            faces="all",
        )
        for film in (True, False)
    )
    for (one,), (other,) in zip(followed, alone, strict=True):
        assert one.box == pytest.approx(other.box, abs=3)
        assert one.valence == pytest.approx(other.valence, abs=0.02)


def test_a_frame_without_the_face_is_no_face_and_the_next_one_finds_it_again(
    reader: Reader,
) -> None:
    empty = np.full_like(frame(0), 120)
    pixels = [frame(0), empty, frame(2)]
    pictures = [InputPicture("clip", one, number) for number, one in enumerate(pixels)]
    read = reader.read_together(pictures, faces="largest")
    assert [entries[0].error for entries in read] == [None, "no_face", None]


def test_who_comes_between_two_frames_far_apart_is_seen_at_once(reader: Reader) -> None:
    alone, two = frame(0), np.hstack([frame(0), frame(0)])
    pixels = [np.hstack([alone, np.full_like(alone, 120)]), two]
    pictures = [InputPicture("clip", one, 50 * n, 2.0 * n) for n, one in enumerate(pixels)]
    read = reader.read_together(pictures, faces="all")
    assert [len(entries) for entries in read] == [1, 2]
