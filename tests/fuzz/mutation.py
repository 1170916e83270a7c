"""Pictures and bodies that nearly are some. The same seed, the same bytes."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

CORPUS = Path(__file__).with_name("corpus")
# Sizes, counts and markers that decoders treat apart.
BYTES = [b"\x00", b"\xff", b"\x7f", b"\x80", b"\xff\xd8", b"\xff\xda", b"\xff\xd9", b"\xff\xc4"]
BYTES += [b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\x7f\xff\xff\xff", b"IDAT", b"VP8X", b"Exif"]
DEEP: Any = 0
for _ in range(300):
    DEEP = [DEEP]
VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 0.5, 2**31, 2**63, -(2**63), 2**64, 10**400, 1e308, -0.0),
    *(float("nan"), float("inf"), "", "x", "\x00", "\ud800", "é" * 300, "9" * 5000, "=", "AU12"),
    *([], {}, [[]], [{}], {"": {}}, [0] * 70, ["x"] * 5000, {str(n): n for n in range(300)}, DEEP),
    *("largest", "none", "png", "BYTES", "UINT8", "FP32", [1, -1], [0], [2**62, 2**62], "data:,"),
]
Mutate = Callable[[random.Random, bytearray], None]


def corpus(kind: str) -> dict[str, bytes]:
    """The files of a folder of the corpus by their names."""
    return {path.name: path.read_bytes() for path in sorted((CORPUS / kind).iterdir())}


def mutated_picture(rng: random.Random, pictures: list[bytes]) -> bytes:
    """One of them with a few mutations, now and then the start of one and the end of another."""
    content = bytearray(rng.choice(pictures))
    for _ in range(1 + int(rng.expovariate(0.5))):
        rng.choice(MUTATIONS)(rng, content)
    if rng.random() < 0.1:
        other = rng.choice(pictures)
        content = content[: rng.randrange(len(content) + 1)] + other[rng.randrange(len(other)) :]
    return bytes(content)


def mutated_body(rng: random.Random, body: Any) -> bytes:
    """The JSON with other values, names, and bytes."""
    value = json.loads(json.dumps(body))
    for _ in range(1 + int(rng.expovariate(0.7))):
        value = _mutated_value(rng, value)
    text = bytearray(_text(value))
    if rng.random() < 0.2:
        rng.choice(MUTATIONS)(rng, text)
    return bytes(text)


def _text(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


def _mutated_value(rng: random.Random, value: Any) -> Any:
    """Somewhere in it something else: another value, one name more or less, a part twice."""
    if rng.random() < 0.3 or not isinstance(value, dict | list) or not value:
        return rng.choice(VALUES)
    if isinstance(value, list):
        place = rng.randrange(len(value))
        if rng.random() < 0.2:
            return value + [value[place]] * rng.choice((1, 70))
        return [*value[:place], _mutated_value(rng, value[place]), *value[place + 1 :]]
    name = rng.choice(list(value))
    if rng.random() < 0.2:
        other = rng.choice(("", "x", name + " ", "é", "__proto__", "a" * 3000))
        return {**value, other: rng.choice(VALUES)}
    if rng.random() < 0.2:
        return {key: item for key, item in value.items() if key != name}
    return {**value, name: _mutated_value(rng, value[name])}


def _flip_bit(rng: random.Random, content: bytearray) -> None:
    if content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def _write_over(rng: random.Random, content: bytearray) -> None:
    place, what = rng.randrange(len(content) + 1), rng.choice(BYTES)
    content[place : place + len(what)] = what


def _insert(rng: random.Random, content: bytearray) -> None:
    place = rng.randrange(len(content) + 1)
    content[place:place] = rng.choice(BYTES) * rng.choice((1, 1, 100))


def _cut(rng: random.Random, content: bytearray) -> None:
    start = rng.randrange(len(content) + 1)
    del content[start : start + rng.choice((1, 4, 64, len(content)))]


def _repeat(rng: random.Random, content: bytearray) -> None:
    start = rng.randrange(len(content) + 1)
    part = content[start : start + rng.choice((4, 64, 1000))]
    content[start:start] = part * rng.choice((1, 3, 200))


def _number(rng: random.Random, content: bytearray) -> None:
    """A length or a size in the head, up or down a little."""
    if content:
        place = rng.randrange(min(len(content), 64))
        content[place] = (content[place] + rng.choice((-1, 1, 16, 128))) % 256


MUTATIONS: list[Mutate] = [_flip_bit, _write_over, _insert, _cut, _repeat, _number]
