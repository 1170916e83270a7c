"""Reading a camera or a stream as it comes: always the newest frame, however slow the reader is."""

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affect.images import ImageError
from affect.inputs import InputPicture
from affect.local.reader import Reader
from affect.local.reading import LocalReading
from affect.local.table import row
from affect.local.video import VideoFrame, read_frames, read_webcam
from scoring.overlay import draw, fitted_size
from scoring.sources import WEBCAM

SHOWN_PX = 960
NO_WINDOW = "no window can be opened; --json prints lines instead"


class Newest:
    """The newest frame of a source that is read in a thread of its own; older ones are dropped."""

    def __init__(self, source: str) -> None:
        self._source, self._arrived = source, threading.Condition()
        self._frame: VideoFrame | None = None
        self._end: Exception | None = None
        self._running = True
        threading.Thread(target=self._follow, name="camera", daemon=True).start()

    def __iter__(self) -> Iterator[VideoFrame]:
        """Frames until the source ends. Raises VideoError."""
        while True:
            with self._arrived:
                self._arrived.wait_for(lambda: self._frame is not None or self._end is not None)
                frame, self._frame = self._frame, None
            if frame is not None:
                yield frame
            elif isinstance(self._end, StopIteration):
                return
            elif self._end is not None:
                raise self._end

    def close(self) -> None:
        """Release the source."""
        self._running = False

    def _follow(self) -> None:
        match = WEBCAM.fullmatch(self._source)
        frames = read_webcam(int(match[1] or 0)) if match else read_frames(self._source)
        end: Exception = StopIteration()
        try:
            for frame in frames:
                with self._arrived:
                    self._frame = frame
                    self._arrived.notify()
                if not self._running:
                    break
        except ImageError as error:
            end = error
        with self._arrived:
            self._end = end
            self._arrived.notify()


def read_live(reader: Reader, source: str) -> Iterator[tuple[VideoFrame, list[LocalReading]]]:
    """Frames with their readings, as fast as they can be read. Raises VideoError."""
    newest = Newest(source)
    try:
        for frame in newest:
            picture = InputPicture(source, frame.pixels, frame.number, frame.time_seconds)
            (entries,) = reader.read_together([picture], faces=reader.faces)
            yield frame, entries
    finally:
        newest.close()


def print_lines(reader: Reader, source: str) -> None:
    """A JSON object a face on the standard output, with the columns of a table."""
    for _, entries in read_live(reader, source):
        for entry in entries:
            sys.stdout.write(json.dumps(row(entry, reader.card.vocabulary)) + "\n")
        sys.stdout.flush()


def show_window(reader: Reader, source: str) -> None:
    """A window with what is read drawn into the frames, until it is closed. Raises WindowError."""
    with _window(f"AffectGAN: {source}") as window:
        for frame, entries in read_live(reader, source):
            if not window.show(frame.pixels, entries):
                return


class WindowError(ValueError):
    """There is no screen to open a window on."""


class _Window:
    """Tk's, which comes with Python."""

    def __init__(self, root: Any, title: str) -> None:
        import tkinter

        self.root, self.open = root, True
        root.title(title)
        root.protocol("WM_DELETE_WINDOW", self._close)
        self.label: Any = tkinter.Label(root)
        self.label.pack()

    def show(self, pixels: NDArray[np.uint8], entries: list[LocalReading]) -> bool:
        """Whether the window is still open."""
        from PIL import ImageTk

        picture = draw(pixels, entries, fitted_size(pixels.shape[1], pixels.shape[0], SHOWN_PX))
        self.label.image = ImageTk.PhotoImage(picture)  # Tk itself holds no reference
        self.label.configure(image=self.label.image)
        self.root.update()
        return self.open

    def _close(self) -> None:
        self.open = False


@contextmanager
def _window(title: str) -> Iterator[_Window]:
    try:
        import tkinter
    except ImportError as error:  # some Pythons are built without it
        raise WindowError(f"{NO_WINDOW} ({error})") from error
    try:
        root = tkinter.Tk()
    except tkinter.TclError as error:
        raise WindowError(f"{NO_WINDOW} ({error})") from error
    try:
        yield _Window(root, title)
    finally:
        root.destroy()
