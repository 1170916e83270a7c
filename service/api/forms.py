"""A form (multipart/form-data, RFC 7578) as its parts, from a complete body.

Starlette's own parser writes what is large to disk, and accepts a truncated body as complete.
"""

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, MultipartState, parse_options_header

from service.problems import Problem

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

# It would log a line for every broken form; the error goes to the client instead.
logging.getLogger("python_multipart").setLevel(logging.ERROR)
MOST_PARTS = 1024  # how many may be pictures is checked, and said, later


@dataclass
class FormPart:
    """One part: its name, whether it came as a file, and its bytes."""

    name: str
    is_file: bool
    content: bytes


@dataclass
class _FormReader:
    """The parser's callbacks. Headers and contents may arrive in several pieces."""

    parts: list[FormPart] = field(default_factory=list)
    disposition: bytes = b""
    header: bytearray = field(default_factory=bytearray)
    value: bytearray = field(default_factory=bytearray)
    content: bytearray = field(default_factory=bytearray)

    @property
    def callbacks(self) -> "MultipartCallbacks":
        """As the parser takes them."""
        return {
            "on_part_begin": self.on_part_begin,
            "on_header_field": self.on_header_field,
            "on_header_value": self.on_header_value,
            "on_header_end": self.on_header_end,
            "on_part_data": self.on_part_data,
            "on_part_end": self.on_part_end,
        }

    def on_part_begin(self) -> None:
        if len(self.parts) >= MOST_PARTS:
            raise Problem("malformed", f"the form has more than {MOST_PARTS} parts")
        self.disposition, self.content = b"", bytearray()

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self.header += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self.value += data[start:end]

    def on_header_end(self) -> None:
        if self.header.lower() == b"content-disposition":
            self.disposition = bytes(self.value)
        self.header, self.value = bytearray(), bytearray()

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self.content += data[start:end]

    def on_part_end(self) -> None:
        _, options = parse_options_header(self.disposition)
        name = options.get(b"name", b"").decode(errors="replace")
        self.parts.append(FormPart(name, b"filename" in options, bytes(self.content)))


def parse_form(body: bytes, content_type: str) -> list[FormPart]:
    """The parts of a form, in order. Raises Problem: 400 for what is none, or ends too early."""
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise Problem("malformed", "the form cannot be read: its content type has no boundary")
    reading = _FormReader()
    parser = MultipartParser(boundary, reading.callbacks)
    try:
        parser.write(body)
    except MultipartParseError as error:
        raise Problem("malformed", f"the form cannot be read: {error}") from error
    if parser.state != MultipartState.END:
        raise Problem("malformed", "the form ends before its closing boundary; send all of it")
    return reading.parts
