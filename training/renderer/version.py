"""Which renderer drew a set: the same seed gives the same pixels only with the same code and
shapes.

The digest covers contents, not paths, so moving a file does not make another renderer of it.
"""

from functools import lru_cache
from hashlib import sha256
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
RENDERED_SOURCE = PACKAGE.parent / "sources" / "rendered.py"
NOT_DRAWING = ("illustrations.py", "sheet.py", "version.py")  # decide no pixel and no label
DIGITS = 12


@lru_cache(maxsize=1)
def renderer_digest() -> str:
    """First 12 hexadecimal digits of the SHA-256 over code and shapes, the same on any machine."""
    files = [p for p in PACKAGE.glob("*") if p.suffix in (".py", ".npz")]
    contents = sorted(
        _normalised(path) for path in [*files, RENDERED_SOURCE] if path.name not in NOT_DRAWING
    )
    return sha256(b"".join(sha256(content).digest() for content in contents)).hexdigest()[:DIGITS]


def _normalised(path: Path) -> bytes:
    content = path.read_bytes()
    return content.replace(b"\r\n", b"\n") if path.suffix == ".py" else content
