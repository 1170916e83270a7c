"""`Reader`: the model in this process. Every thread decodes, finds and reads a few pictures at a
time; memory stays flat.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from affect import signatures
from affect.batches import identities, predict
from affect.card import ModelCard
from affect.cores import cores
from affect.faces import Face, FaceFinder, Faces, NoFaceError, crops, crops_of
from affect.factory import load_model
from affect.images import ImageError
from affect.inputs import InputPicture, Pictures, expand
from affect.judge import Judge
from affect.local import explaining, generating
from affect.local.explaining import LocalExplanation
from affect.local.generating import Drawing, DrawingRequest
from affect.local.reading import LocalReading, face_reading, failed
from affect.local.readings import Readings
from affect.local.video import VideoFrame, read_frames
from affect.model import AffectModel
from affect.model_folders import judge_folder, model_folder, shipped_weights
from affect.runtime import choose_local_decoder, choose_local_runtime

U8 = NDArray[np.uint8]
SIZES = (1, 2, 4, 8, 16, 32)  # faces of a forward pass; a batch is cut and padded to these
# Pictures that a thread takes at a time: on a processor passes of more faces are no faster
# (docs/speed.md). Of decoded ones no more than so many bytes.
TOGETHER, TOGETHER_ON_GPU, TOGETHER_BYTES = 8, SIZES[-1], 16 * 2**20
AHEAD = 2  # groups that wait for a thread
FOLLOWED_SECONDS = 0.64  # of a video in which faces are followed before all of it is searched again
OneCrop = tuple[Face | None, U8]
Crops = list[OneCrop]
Read = tuple[InputPicture, list[LocalReading]]


@dataclass(frozen=True)
class FrameReading:
    """One frame of a video with its faces; `readings` has one entry with an error when there is
    none.
    """

    frame: int
    time_seconds: float
    pixels: U8  # (H, W, 3) RGB, upright
    readings: Readings


class Reader:
    """Reads, draws and explains with one model. Thread-safe; one is enough for a program."""

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        device: str = "auto",
        faces: Faces = "largest",
        threads: int | None = None,
    ) -> None:
        """`model` is a run or model folder (default: the shipped weights), `device` "cpu", "cuda",
        "cuda:1" or "auto" (a GPU if there is one). `faces` is what `read` does unless told
        otherwise: "largest", "all", or "none" for pictures that are aligned crops. `threads`
        decode, find and read. Raises CardError when there is no such model, SignatureError when a
        key is trusted that did not sign it, ValueError for a wrong device.
        """
        self.folder = shipped_weights() if model is None else model_folder(Path(model))
        self.device = chosen_device(device)
        signatures.check(self.folder)
        self.model: AffectModel = load_model(self.folder, device=self.device)
        self.faces: Faces = faces
        self.threads = threads or cores()
        # The same weights; as in the workers of a server, what explains keeps torch.
        self._predictor = copy(self.model)
        choose_local_runtime(self._predictor, streams=self.threads)
        self.finder = FaceFinder()
        self._judge: Judge | None = None

    @property
    def card(self) -> ModelCard:
        """What the model knows, and how well."""
        return self.model.card

    # -- reading -----------------------------------------------------------------------------------

    def read(self, pictures: Pictures, *, faces: Faces | None = None) -> Readings:
        """Read paths, folders, bytes, arrays (H, W, 3) uint8 RGB and PIL images; one entry a face,
        errors are entries too.
        """
        return Readings(self.stream(pictures, faces=faces), self.card)

    def stream(self, pictures: Pictures, *, faces: Faces | None = None) -> Iterator[LocalReading]:
        """The same entries one after the other, as they are ready: for more pictures than fit into
        memory.
        """
        for _, readings in self._read(expand(pictures), faces or self.faces):
            yield from readings

    def frames(
        self, video: str | Path, *, every: int = 1, faces: Faces | None = None
    ) -> Iterator[FrameReading]:
        """Every n-th frame of a video with its readings, in order, as they are ready. Raises
        VideoError.
        """
        pictures = (_as_picture(str(video), frame) for frame in read_frames(video, every=every))
        for picture, readings in self._read(pictures, faces or self.faces):
            assert picture.frame is not None and picture.time_seconds is not None
            pixels = picture.pixels()
            yield FrameReading(
                picture.frame, picture.time_seconds, pixels, Readings(readings, self.card)
            )

    def read_together(
        self,
        pictures: Sequence[InputPicture],
        *,
        faces: Faces,
        identity: bool = False,
        keep: bool = False,
    ) -> list[list[LocalReading]]:
        """The entries of each of these pictures, read together without threads: the same pictures
        give the same bits. Frames of a video must follow each other: faces of one are looked for
        where they were in the one before, and everywhere when one of them is gone, and again after
        FOLLOWED_SECONDS.

        `identity` adds the embedding by which a person is recognised, `keep` the aligned crops.
        """
        crops, previous = list[Crops | LocalReading](), list[Face]()
        searched = -math.inf
        for picture in pictures:
            if picture.frame is None or faces == "none":
                crops.append(self._crops(picture, faces))
                continue
            seconds = picture.time_seconds or 0.0
            if seconds - searched > FOLLOWED_SECONDS or not previous:
                previous, searched = [], seconds
            one, previous = self._followed(picture, faces, previous)
            crops.append(one)
        return self._entries(pictures, crops, identity=identity, keep=keep)

    def _read(self, pictures: Iterable[InputPicture], faces: Faces) -> Iterator[Read]:
        """Pictures with their entries, in order; only a few are read ahead."""
        waiting: deque[Future[list[Read]]] = deque()
        with _one_core_each(self.threads) as pool:
            for group in _groups(pictures, TOGETHER if self.device == "cpu" else TOGETHER_ON_GPU):
                waiting.append(pool.submit(self._read_group, group, faces))
                if len(waiting) > AHEAD + self.threads:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()

    def _read_group(self, pictures: Sequence[InputPicture], faces: Faces) -> list[Read]:
        crops = [self._crops(picture, faces) for picture in pictures]
        return list(zip(pictures, self._entries(pictures, crops), strict=True))

    def _crops(self, picture: InputPicture, faces: Faces) -> Crops | LocalReading:
        """Decode, find, align; the entry that says why not, when not."""
        try:
            return crops(self.finder, picture.opened(), faces=faces, size_px=self.card.image_px)
        except (ImageError, NoFaceError) as error:
            return failed(picture, error)

    def _followed(
        self, picture: InputPicture, faces: Faces, previous: list[Face]
    ) -> tuple[Crops | LocalReading, list[Face]]:
        """The same of a frame, with all its faces; `previous` are those of the frame before."""
        followed: list[Face] = []
        try:
            image = picture.decoded()
            followed = self.finder.follow(image.pixels, previous)
            if not previous or len(followed) < len(previous):
                followed = self.finder.find(image.pixels, thorough=faces != "largest")
            size_px = self.card.image_px
            return crops_of(image, followed, faces=faces, size_px=size_px), followed
        except (ImageError, NoFaceError) as error:
            return failed(picture, error), followed

    def _entries(
        self,
        pictures: Sequence[InputPicture],
        crops_or_failures: Sequence[Crops | LocalReading],
        *,
        identity: bool = False,
        keep: bool = False,
    ) -> list[list[LocalReading]]:
        flat = [crop for crops in crops_or_failures if isinstance(crops, list) for _, crop in crops]
        if not flat:
            return [[one] for one in crops_or_failures if isinstance(one, LocalReading)]
        images = np.stack(flat)
        read = predict(self._predictor, images, SIZES)
        embeddings = identities(self._predictor, images, SIZES) if identity else None
        entries, row = [], 0
        for picture, one in zip(pictures, crops_or_failures, strict=True):
            if isinstance(one, LocalReading):
                entries.append([one])
                continue
            faces = []
            for number, (face, crop) in enumerate(one):
                faces.append(
                    replace(
                        face_reading(picture, number, face, self.card, read, row),
                        identity=None if embeddings is None else embeddings[row],
                        crop=crop if keep else None,
                    )
                )
                row += 1
            entries.append(faces)
        return entries

    # -- drawing and explaining --------------------------------------------------------------------

    def generate(
        self,
        items: Mapping[str, Any] | Iterable[Mapping[str, Any]] = (),
        *,
        faces: Faces = "largest",
    ) -> list[Drawing]:
        """Draw a face an item: {"aus": {"AU12": 0.9}, "valence": 0.7, "arousal": 0.2, "seed": 7,
        "reference": picture}, every field optional. The same item and seed give the same picture as
        over HTTP. Raises LabelError for a state this model does not know, ValueError for a field
        that does not exist; a reference without a face fails alone.
        """
        items_list = [items] if isinstance(items, Mapping) else list(items)
        requests = [
            DrawingRequest.of(number, item, self.card) for number, item in enumerate(items_list)
        ]
        references = [
            None if request.reference is None else self._one_crop(request.reference, faces)
            for request in requests
        ]
        return generating.draw(self._drawer, requests, references)

    def explain(
        self,
        pictures: Pictures,
        question: Mapping[str, Any] | None = None,
        *,
        faces: Literal["largest", "none"] = "largest",
        family: Literal["expression", "nuisance"] = "expression",
        answers: int = 1,
        integrated_gradients: bool = False,
    ) -> list[LocalExplanation]:
        """The least change to each face that changes a decision: {"au": "AU12", "present": False},
        {"valence": 0.5}, {"arousal": -0.2}, or none: the strongest. An independent judge reads each
        change too when one lies beside the weights. Raises ValueError for an invalid question; a
        picture without a face fails alone.
        """
        counterfactual_question = explaining.parse_question(question or {}, family, answers)
        crops = [(one, self._one_crop(one, faces)) for one in expand(pictures)]
        return explaining.explain_crops(
            self.model, self.judge, crops, counterfactual_question, integrated_gradients
        )

    @property
    def judge(self) -> Judge | None:
        """The independent network that checks explanations, None when the model has none."""
        folder = judge_folder(self.folder)
        if self._judge is None and folder is not None:
            self._judge = Judge.load(folder, device=self.device)
        return self._judge

    @cached_property
    def _drawer(self) -> AffectModel:
        """A predictor with the same weights whose decoder is traced for drawing."""
        drawer = copy(self._predictor)
        choose_local_decoder(drawer)
        return drawer

    def _one_crop(self, picture: InputPicture, faces: Faces) -> OneCrop | LocalReading:
        crops = self._crops(picture, faces)
        return crops if isinstance(crops, LocalReading) else crops[0]


def chosen_device(device: str) -> str:
    """What "auto" means here. Raises ValueError for a device that this machine or torch does not
    have.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device is {device!r}: {str(error).splitlines()[0]}; give cpu, cuda, cuda:1 or auto"
        ) from error
    return device


@contextmanager
def _one_core_each(threads: int) -> Iterator[ThreadPoolExecutor]:
    """Threads in each of which torch computes by itself, on one core. Other threads of the program
    keep what they have.
    """
    threads_before = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, "reader", initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield pool
    finally:
        pool.shutdown(
            cancel_futures=True
        )  # when the caller stops iterating, pending work is cancelled
        torch.set_num_threads(threads_before)  # also the initial value of new threads


def _groups(pictures: Iterable[InputPicture], most: int) -> Iterator[list[InputPicture]]:
    """So many at a time, or fewer large ones."""
    group, size = list[InputPicture](), 0
    for picture in pictures:
        group.append(picture)
        size += picture.source.nbytes if isinstance(picture.source, np.ndarray) else 0
        if len(group) == most or size >= TOGETHER_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _as_picture(name: str, frame: VideoFrame) -> InputPicture:
    return InputPicture(name, frame.pixels, frame.number, frame.time_seconds)
