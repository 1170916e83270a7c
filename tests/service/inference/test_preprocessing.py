"""What decodes: quick pictures in threads that stand back, slow ones in processes that can be
ended, each failing alone.
"""

import asyncio
import io
import os
import sys
import threading
from collections.abc import Iterator

import numpy as np
import psutil
import pytest
from PIL import Image
from skimage import data
from threadpoolctl import threadpool_info, threadpool_limits

from affect.faces import Face, FaceFinder
from affect.images import ImageError, checked_header, decoding_bytes
from service.inference.preprocessing import NICENESS, Preprocessor
from service.inference.slow_decoding import SlowDecoder
from service.observability.metrics import Metrics
from service.schemas import NotBase64
from tests.support.pictures import encoded
from tests.support.waiting import until

pytestmark = pytest.mark.processes
PLENTY = 2**30  # bytes


@pytest.mark.skipif(
    sys.platform != "linux", reason="threads have a niceness of their own on Linux only"
)
async def test_decoding_threads_stand_back_behind_the_event_loop() -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    finder = FaceFinder()
    with Preprocessor(Metrics(), threads=1, max_pixels=10**6, finder=finder) as preprocessor:
        assert await preprocessor.run(niceness) == niceness() + NICENESS


def test_products_of_matrices_take_one_thread() -> None:
    threadpool_limits(2, user_api="blas")
    with Preprocessor(Metrics(), threads=1, max_pixels=10**6, finder=FaceFinder()):
        libraries = [one for one in threadpool_info() if one["user_api"] == "blas"]
    assert libraries and all(one["num_threads"] == 1 for one in libraries)


@pytest.fixture
def preprocessor() -> Iterator[Preprocessor]:
    with Preprocessor(Metrics(), threads=1, max_pixels=10**8, finder=FaceFinder()) as opened:
        yield opened


def repeated_scans(side: int, scans: int) -> bytes:
    """A JPEG that repeats its last scan."""
    out = io.BytesIO()
    Image.new("RGB", (side, side), "grey").save(out, "JPEG", progressive=True)
    content = out.getvalue()
    last = content[content.rindex(b"\xff\xda") : -2]
    return content[:-2] + last * (scans - content.count(b"\xff\xda")) + content[-2:]


async def test_a_picture_that_decodes_slowly_gives_the_crops_of_one_that_does_not(
    preprocessor: Preprocessor,
) -> None:
    portrait = Image.fromarray(data.astronaut())
    large = np.asarray(portrait.resize((3600, 3600), Image.Resampling.BICUBIC))
    quick, slow = (
        encoded(np.asarray(portrait), "PNG"),
        encoded(large, "PNG", compress_level=1),
    )
    results = await preprocessor.crops([quick, slow], faces="largest", size_px=64)
    (small,), (big,) = (crops for crops in results if isinstance(crops, list))
    assert preprocessor.slow._pool is not None
    assert isinstance(small.face, Face) and isinstance(big.face, Face)
    assert np.abs(np.array(big.face.box) * 512 / 3600 - small.face.box).max() < 3
    assert np.abs(big.pixels.astype(int) - small.pixels).mean() < 8


async def test_a_picture_that_takes_too_long_ends_alone_and_with_its_process() -> None:
    decoder = SlowDecoder(1, most_bytes=PLENTY, limit_seconds=0.05)
    try:
        with pytest.raises(ImageError, match="took longer") as excinfo:
            await decoder.decode(checked_header(repeated_scans(4000, 90)), longest_px=1600)
        assert excinfo.value.code == "too_complex"
        decoder.limit_seconds = 60.0
        image = await decoder.decode(checked_header(repeated_scans(64, 20)), longest_px=1600)
        assert image.pixels.shape == (64, 64, 3)
    finally:
        decoder.close()


async def test_decoding_goes_on_after_its_idle_processes_were_killed() -> None:
    decoder, header = SlowDecoder(2, most_bytes=PLENTY), checked_header(repeated_scans(64, 20))
    try:
        await decoder.decode(header, longest_px=1600)
        for _ in range(2):
            children = psutil.Process().children()
            workers = [one for one in children if "spawn_main" in " ".join(one.cmdline())]
            for worker in workers:
                worker.kill()
            assert workers
            images = await asyncio.gather(
                *(decoder.decode(header, longest_px=1600) for _ in range(4))
            )
            assert [image.pixels.shape for image in images] == [(64, 64, 3)] * 4
    finally:
        decoder.close()


async def test_a_picture_that_nobody_waits_for_is_not_decoded_to_its_end() -> None:
    decoder = SlowDecoder(1, most_bytes=PLENTY)
    try:
        await decoder.decode(checked_header(repeated_scans(64, 20)), longest_px=1600)
        me = psutil.Process()
        (worker,) = (child for child in me.children() if "spawn_main" in " ".join(child.cmdline()))
        header = checked_header(repeated_scans(5000, 60))
        waiting = asyncio.create_task(decoder.decode(header, longest_px=1600))
        await asyncio.sleep(0.2)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await asyncio.to_thread(until, lambda: not worker.is_running(), 5)
    finally:
        decoder.close()


async def test_a_picture_that_can_never_have_the_memory_is_refused_at_once() -> None:
    decoder = SlowDecoder(1, most_bytes=2**20)
    with pytest.raises(ImageError, match="more than the 1 MB") as excinfo:
        await decoder.decode(checked_header(repeated_scans(3000, 20)), longest_px=1600)
    assert excinfo.value.code == "too_complex" and decoder._pool is None


async def test_pictures_wait_until_there_is_memory_for_them() -> None:
    header = checked_header(repeated_scans(2000, 20))
    size = decoding_bytes(header, 1600)
    decoder, held = SlowDecoder(3, most_bytes=2 * size), []
    try:
        work = [asyncio.create_task(decoder.decode(header, longest_px=1600)) for _ in range(5)]
        while not all(task.done() for task in work):
            held.append(decoder._memory.in_use)
            await asyncio.sleep(0.01)
        assert [(await task).width for task in work] == [2000] * 5
        assert max(held) == 2 * size and decoder._memory.in_use == 0
    finally:
        decoder.close()


async def test_whatever_one_picture_raises_is_its_own_problem(preprocessor: Preprocessor) -> None:
    class Faulty(FaceFinder):
        def find(self, image: np.ndarray, **_: object) -> list[Face]:
            raise ValueError(image.shape)

    preprocessor.finder = Faulty()
    valid = encoded(np.zeros((64, 64, 3), np.uint8))
    results = await preprocessor.crops([valid, NotBase64(b"*"), b"x"], faces="largest", size_px=64)
    codes = [row.code for row in results if not isinstance(row, list)]
    assert codes == ["unusable", "not_base64", "not_an_image"]


async def test_a_search_that_nobody_waits_for_ends_at_its_next_step(
    preprocessor: Preprocessor,
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1280, 1280, 3), np.uint8)
    content = encoded(noise, "JPEG", quality=60)
    waiting = asyncio.create_task(preprocessor.crops([content], faces="all", size_px=64))
    await asyncio.sleep(0.1)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    small = encoded(np.zeros((32, 32, 3), np.uint8))
    start = psutil.Process().cpu_times().user
    await preprocessor.crops([small], faces="none", size_px=64)
    assert psutil.Process().cpu_times().user - start < 3.0  # of five that the search would take
