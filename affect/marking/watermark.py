"""A watermark of 32 bits in the pixels: it stays where a file's metadata is stripped.

Spread spectrum with the picture known when it is embedded (Cox, Miller & McKellips 1999,
"Watermarking as communications with side information"): random directions among the middle
frequencies of the luminance carry one chip each. Embedding moves the picture's own projection on
every direction to the wanted side by a margin, so the picture itself is no noise. 36 bits are coded
as six words of the biorthogonal code (32, 6), which a Hadamard transform decodes softly.

A picture is looked at on a canvas of 128 px, whole and, where that finds nothing, as a crop of a
larger one, at many scales and every shift.

False positives, in theory: signs of the chips are a fixed random word, so for a picture that does
not know them the correlation of N = 192 chips with one codeword is a weighted sum of random signs,
and exceeds t with a probability of at most 3.18 times that of a normal deviate beyond t sqrt(N)
(Bentkus & Dzindzalieta 2015, "A tight Gaussian bound for weighted sums of Rademacher random
variables", arXiv 1307.3451). `find` takes the best of 2^32 codewords over TRIALS places, and its
threshold makes that union bound FALSE_POSITIVES. The key is public: anybody can read, add or remove
the mark. It is no signature.

Shape letters: D coordinates of the band, N chips, P places.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

import cv2
import numpy as np
from numpy.typing import NDArray

CANVAS = 128  # px
PAYLOAD_BITS, SPARE_BITS, WORD_BITS, WORD_CHIPS = 32, 4, 6, 32
CHIPS = (PAYLOAD_BITS + SPARE_BITS) // WORD_BITS * WORD_CHIPS  # 192
LOW, HIGH = 8.0, 30.0  # cycles a canvas
RADIUS = int(HIGH)
# dB of a marked picture, of which rounding takes a tenth: the first is tried first, and kept when
# the mark would outlive a JPEG of quality 60 and half the size.
STRENGTHS = (45.5, 43.0, 40.5)
RESERVE = 0.08  # of the score, in that trial
CROP = 0.8  # of the side: the chips are enforced in such crops too, whose edges leak
ROUNDS = 4  # whitening is not linear, so the pattern is found in steps
KEPT_WRONG = 0.05  # of the chips, which would cost most to turn; the code bears it
EVEN = 3.0  # grey levels: neighbourhoods that vary less are not lifted to the others' strength
TILT = 2.0  # directions lean to higher frequencies by this power, where a picture has less
LIMIT = 2.0  # times the median: a chip counts for no more
FALSE_POSITIVES = 5e-7  # a picture, at most
SHARES = tuple(np.round(np.arange(0.98, 0.745, -0.015), 3))  # of the side that a crop may have
KEY = 20261126
LUMA = np.array([0.299, 0.587, 0.114], np.float32)

Floats = NDArray[np.floating]
U8 = NDArray[np.uint8]
Part = tuple[slice, slice]  # of a canvas, down and right


def _parts() -> tuple[Part, ...]:
    """The whole canvas, and crops of it at the corners and in the middle."""
    side = round(CANVAS * CROP)
    first, last = (slice(start, start + side) for start in (0, CANVAS - side))
    middle = slice((CANVAS - side) // 2, (CANVAS + side) // 2)
    corners = ((first, first), (first, last), (last, first), (last, last))
    return (slice(0, CANVAS), slice(0, CANVAS)), *corners, (middle, middle)


PARTS = _parts()


@dataclass(frozen=True)
class Detection:
    """What was found in a picture."""

    payload: int  # 32 bits
    score: float  # correlation of the chips with the codeword, 0 to 1
    share: float  # of the side of the picture that was marked


@dataclass(frozen=True)
class _Band:
    """The frequencies that carry chips, and which coordinate belongs to which chip."""

    rows: NDArray[np.intp]  # (D / 2,) place in a spectrum (`_spectrum`)
    columns: NDArray[np.intp]
    frequency: Floats  # (D / 2, 2) cycles a px, down and right
    chip: NDArray[np.intp]  # (D,)
    sign: Floats  # (D,) of length 1 within a chip
    scramble: Floats  # (N,) +1 or -1


@cache
def _band() -> _Band:
    """The half plane of the ring, dealt out to the chips by chance."""
    down = np.fft.fftfreq(CANVAS)[:, None] * CANVAS
    right = np.fft.rfftfreq(CANVAS)[None] * CANVAS
    radius = np.hypot(down, right)
    rows, columns = np.nonzero((radius >= LOW) & (radius <= HIGH) & (right > 0))
    rng = np.random.default_rng(KEY)
    chip = rng.permutation(np.arange(2 * len(rows)) % CHIPS)
    weight = np.tile(radius[rows, columns] ** TILT, 2)
    weight /= np.sqrt(np.bincount(chip, weight**2))[chip]
    sign = rng.choice([-1.0, 1.0], len(chip)) * weight
    cycles = np.stack([down[rows, 0], right[0, columns]], axis=1)
    scramble = rng.choice([-1.0, 1.0], CHIPS)
    places = np.rint(cycles).astype(np.intp) - (-RADIUS, 1)
    return _Band(places[:, 0], places[:, 1], cycles / CANVAS, chip, sign, scramble)


@cache
def _hadamard() -> Floats:
    """(32, 32) of Sylvester's construction."""
    matrix = np.ones((1, 1))
    while len(matrix) < WORD_CHIPS:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix


# -- embedding -------------------------------------------------------------------------------------


def embed(image: U8, payload: int) -> U8:
    """The image (H, W, 3) with a payload of 32 bits.

    Raises ValueError for a payload that does not fit.
    """
    if not 0 <= payload < 2**PAYLOAD_BITS:
        raise ValueError(f"payload is {payload}; give a number of {PAYLOAD_BITS} bits")
    for strength in STRENGTHS[:-1]:
        marked = _embedded(image, payload, strength)
        if _survives(marked):
            return marked
    return _embedded(image, payload, STRENGTHS[-1])


def _embedded(image: U8, payload: int, strength: float) -> U8:
    codeword = _codeword(payload << SPARE_BITS)
    most_length = 10 ** (-strength / 20) * 255 * CANVAS  # length of the pattern on the canvas
    pattern, base = np.zeros((CANVAS, CANVAS), np.float32), _canvas(image)
    for _ in range(ROUNDS):
        pattern += _step(np.clip(base + pattern, 0, 255), codeword, most_length)
        pattern *= min(1.0, most_length / max(float(np.linalg.norm(pattern)), 1e-9))
    size = (image.shape[1], image.shape[0])
    grown = cv2.resize(pattern, size, interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.clip(np.rint(image + grown[..., None]), 0, 255), np.uint8)


def _step(grey: Floats, codeword: Floats, most_length: float) -> Floats:
    """(S, S) what moves the chips (N,) of every part of a canvas (S, S) to one margin on the wanted
    side, no longer than `most_length`: the mean of what each part needs.
    """
    canvases, gains = _placed(grey, PARTS)
    scales = (gains**2).mean((1, 2))
    chips = _chips(_coordinates(canvases)) * codeword
    missing = _missing(chips, most_length * np.sqrt(scales)) * codeword
    gains /= scales[:, None, None]
    return np.asarray(np.einsum("pyx,pyx->yx", _patterns(missing), gains) / len(PARTS))


def _survives(marked: U8) -> bool:
    """Whether the mark is sure to be found in what becomes of a picture."""
    _, code = cv2.imencode(".jpg", marked, [cv2.IMWRITE_JPEG_QUALITY, 60])
    half = cv2.resize(marked, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    crops, _ = _placed(_canvas(marked), PARTS[1:])
    whole = [np.asarray(one, np.uint8) for one in (cv2.imdecode(code, cv2.IMREAD_COLOR_RGB), half)]
    scores = [_whole(one).score for one in whole]
    return bool(min(*scores, *_scored(_coordinates(crops))[1]) >= THRESHOLD + RESERVE)


def _missing(chips: Floats, most_length: Floats) -> Floats:
    """(P, N) what lifts the chips (P, N) of each part to one margin, the highest whose length is at
    most `most_length` (P,); the KEPT_WRONG that would cost most stay as they are.
    """
    order = np.sort(chips.astype(np.float64))[:, round(chips.shape[1] * KEPT_WRONG) :]
    count = np.arange(1, order.shape[1] + 1)
    total, squares = order.cumsum(1), (order**2).cumsum(1)
    # Lifting the first k chips to a margin m takes k m^2 - 2 m total + squares, of which the root
    # is wanted for the k that lie below it.
    most = most_length[:, None].astype(np.float64) ** 2
    below = (count * order**2 - 2 * order * total + squares < most).sum(1) - 1
    root = (total + np.sqrt(np.maximum(total**2 - count * (squares - most), 0))) / count
    margin = np.take_along_axis(root, below[:, None], 1)
    return np.where(chips >= order[:, :1], np.maximum(margin - chips, 0), 0)


def _codeword(bits: int) -> Floats:
    """(N,) chips of 36 bits, +1 or -1."""
    words = [(bits >> (WORD_BITS * index)) % 2**WORD_BITS for index in range(CHIPS // WORD_CHIPS)]
    rows = [_hadamard()[word >> 1] * (1 - 2 * (word & 1)) for word in words]
    return np.concatenate(rows) * _band().scramble


def _patterns(chips: Floats) -> Floats:
    """(P, S, S) the least pictures whose chips are these (P, N)."""
    band = _band()
    values = (chips[:, band.chip] * band.sign).reshape(len(chips), 2, -1) * (CANVAS / np.sqrt(2))
    spectrum = np.zeros((len(chips), 2 * RADIUS + 1, RADIUS), np.complex64)
    spectrum[:, band.rows, band.columns] = values[:, 0] + 1j * values[:, 1]
    return _pictures(spectrum)


# -- finding ---------------------------------------------------------------------------------------


def find(image: U8) -> Detection | None:
    """What a picture (H, W, 3) carries; None when nothing is found at the threshold."""
    detection = best(image)
    return detection if detection.score >= THRESHOLD else None


def best(image: U8) -> Detection:
    """What a picture (H, W, 3) carries most likely, at any score; crops are looked at only where
    the whole picture carries nothing.
    """
    of_whole = _whole(image)
    if of_whole.score >= THRESHOLD:
        return of_whole
    return max((of_whole, *(_crop(image, share) for share in SHARES)), key=lambda one: one.score)


# (32, 2) rows and signs of the first word's code whose lowest bits, the spare ones, are 0.
_SPARE_IS_ZERO = (np.arange(2 * WORD_CHIPS) % 2**SPARE_BITS == 0).reshape(WORD_CHIPS, 2)


def _places(share: float) -> int:
    """Shifts of a crop that are tried along a side."""
    return CANVAS - round(CANVAS * share) + 1


TRIALS = 1 + sum(_places(share) ** 2 for share in SHARES)
# Bentkus & Dzindzalieta 2015, theorem 1.1
TIGHT = 1 / (4 * (1 - NormalDist().cdf(2**0.5)))
THRESHOLD = -NormalDist().inv_cdf(FALSE_POSITIVES / (TIGHT * 2**PAYLOAD_BITS * TRIALS)) / CHIPS**0.5


def _whole(image: U8) -> Detection:
    """What a picture that was not cropped carries, at any score."""
    return _best(_coordinates(_whitened(_canvas(image))[0])[None], 1.0)


def _crop(image: U8, share: float) -> Detection:
    """The best place of a picture that is `share` of the marked one's sides."""
    side = round(CANVAS * share)
    inner, _ = _whitened(_resized(_luma(image), side))
    canvas = np.zeros((CANVAS, CANVAS), np.float32)
    canvas[:side, :side] = inner
    band = _band()
    spectrum = _complex(canvas)
    steps = np.arange(_places(share))
    turn = [np.exp(-2j * np.pi * np.outer(steps, band.frequency[:, axis])) for axis in (0, 1)]
    shifted = (turn[0][:, None] * turn[1][None]).reshape(-1, len(spectrum)) * spectrum
    return _best(np.concatenate([shifted.real, shifted.imag], axis=1), share)


def _best(coordinates: Floats, share: float) -> Detection:
    """Of P places (P, D) the one whose chips come nearest to a codeword."""
    chosen, score = _scored(coordinates)
    best = int(score.argmax())
    bits = sum(int(word) << (WORD_BITS * index) for index, word in enumerate(chosen[best]))
    return Detection(bits >> SPARE_BITS, float(score[best]), share)


def _scored(coordinates: Floats) -> tuple[NDArray[np.intp], Floats]:
    """Of P places (P, D) the words of the codewords that their chips come nearest to, and how near,
    from 0 to 1 (P,).
    """
    chips = _chips(coordinates)
    typical = np.median(np.abs(chips), axis=1, keepdims=True) * LIMIT
    chips = np.clip(chips, -typical, typical)
    words = (chips * _band().scramble).reshape(len(chips), -1, WORD_CHIPS) @ _hadamard()
    # The spare bits are the lowest of the first word and are 0.
    both = np.stack([words, -words], axis=-1)  # (P, words, row of the code, sign)
    both[:, 0] = np.where(_SPARE_IS_ZERO, both[:, 0], -np.inf)
    flat = both.reshape(len(chips), CHIPS // WORD_CHIPS, -1)
    chosen = flat.argmax(2)
    score = flat.max(2).sum(1) / (np.linalg.norm(chips, axis=1) * np.sqrt(CHIPS)).clip(1e-9)
    return chosen, score


# -- a picture's chips -----------------------------------------------------------------------------


def _luma(image: U8) -> Floats:
    return np.asarray(image.astype(np.float32) @ LUMA)


def _canvas(image: U8) -> Floats:
    """(S, S) luminance of a whole picture."""
    grey = _luma(image)
    if grey.shape == (CANVAS, CANVAS):
        return grey
    return _resized(grey, CANVAS)


def _resized(grey: Floats, side: int) -> Floats:
    return np.asarray(cv2.resize(grey, (side, side), interpolation=cv2.INTER_AREA), np.float32)


def _whitened(grey: Floats) -> tuple[Floats, Floats]:
    """Squares (..., s, s) without what lies below the band, every neighbourhood equally strong; and
    the gains.
    """
    blur = _blur(grey.shape[-1])
    flat = grey - blur @ grey @ blur.T
    gain = 1 / (np.sqrt(blur @ (flat * flat) @ blur.T) + EVEN)
    return flat * gain, gain


@cache
def _blur(side: int) -> Floats:
    """(s, s) the Gaussian below the band, as OpenCV has it, of columns of so many px: products with
    it take no more time than a filter of its length, and give the same.
    """
    deviation = CANVAS / LOW / 3
    kernel = cv2.getGaussianKernel(round(8 * deviation + 1) | 1, deviation, cv2.CV_64F)
    return np.asarray(cv2.sepFilter2D(np.eye(side), -1, np.ones(1), kernel), np.float32)


def _placed(grey: Floats, parts: Sequence[Part]) -> tuple[Floats, Floats]:
    """(P, S, S) parts of a canvas (S, S), each whitened by itself, at their places; and the gains
    there.
    """
    canvases, gains = np.zeros((2, len(parts), CANVAS, CANVAS), np.float32)
    for canvas, gain, part in zip(canvases, gains, parts, strict=True):
        canvas[part], gain[part] = _whitened(grey[part])
    return canvases, gains


@cache
def _waves() -> tuple[Floats, Floats]:
    """(S, 2 R) cosines and sines across a canvas of 1 to R cycles, in turn, and (2 R + 1, S) down
    it: cosines of 0 to R, then sines of 1 to R.
    """
    turns, cycles = np.arange(CANVAS)[:, None] / CANVAS, np.arange(RADIUS + 1)
    waves = np.exp(2j * np.pi * turns * cycles).astype(np.complex64)
    across = np.ascontiguousarray(waves[:, 1:].conj()).view(np.float32)
    down = np.concatenate([waves.real, waves[:, 1:].imag], axis=1).T
    return across, np.ascontiguousarray(down)


def _spectrum(canvases: Floats) -> NDArray[np.complex64]:
    """(..., 2 R + 1, R) of canvases (..., S, S): from -R to R cycles down, 1 to R across. Two
    products take less time than a fast Fourier transform, which gives all frequencies.
    """
    across, down = _waves()
    waves = (down @ (np.asarray(canvases, np.float32) @ across)).view(np.complex64)
    even, odd = waves[..., : RADIUS + 1, :], 1j * waves[..., RADIUS + 1 :, :]
    above = even[..., 1:, :] + odd
    return np.concatenate([above[..., ::-1, :], even[..., :1, :], even[..., 1:, :] - odd], axis=-2)


def _pictures(spectrum: NDArray[np.complex64]) -> Floats:
    """(..., S, S) real pictures that have such a spectrum, and nothing beside it."""
    across, down = _waves()
    above, below = spectrum[..., RADIUS + 1 :, :], spectrum[..., RADIUS - 1 :: -1, :]
    even, odd = above + below, 1j * (above - below)
    waves = np.concatenate([spectrum[..., RADIUS : RADIUS + 1, :], even, odd], axis=-2)
    rows = down.T @ np.ascontiguousarray(waves).view(np.float32)
    return (rows @ across.T) * np.float32(2 / CANVAS**2)


def _complex(canvases: Floats) -> NDArray[np.complexfloating]:
    """(..., D / 2) of the band, so that its real and imaginary parts are orthonormal
    coordinates.
    """
    band = _band()
    spectrum = _spectrum(canvases)[..., band.rows, band.columns]
    return np.asarray(spectrum * (np.sqrt(2) / CANVAS), np.complex128)


def _coordinates(canvases: Floats) -> Floats:
    """(..., D) of canvases (..., S, S)."""
    spectrum = _complex(canvases)
    return np.concatenate([spectrum.real, spectrum.imag], axis=-1)


def _chips(coordinates: Floats) -> Floats:
    """(P, N) projections of coordinates (P, D) on the chips' directions."""
    order, sign = _dealt()
    dealt = np.take(np.asarray(coordinates, np.float32), order, axis=1)
    return np.asarray(np.einsum("pnk,nk->pn", dealt, sign))


@cache
def _dealt() -> tuple[NDArray[np.intp], Floats]:
    """(N, k) the coordinates of each chip and their signs, 0 where a chip has fewer than others."""
    band = _band()
    most = int(np.bincount(band.chip).max())
    order, sign = np.zeros((CHIPS, most), np.intp), np.zeros((CHIPS, most), np.float32)
    for chip in range(CHIPS):
        own = np.flatnonzero(band.chip == chip)
        order[chip, : len(own)], sign[chip, : len(own)] = own, band.sign[own]
    return order, sign
