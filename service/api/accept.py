"""Content negotiation by the Accept header (RFC 9110, section 12.5.1)."""

from collections.abc import Sequence


def preferred(accept: str, offered: Sequence[str]) -> str | None:
    """The offered media type that the client prefers, the first of several; None when it accepts
    none of them. Without a header all are equal.
    """
    ranges = [parsed for text in accept.split(",") if (parsed := _range(text))]
    if not ranges:
        return offered[0]
    quality, _, best = max(
        (_quality(kind, ranges), -index, kind) for index, kind in enumerate(offered)
    )
    return best if quality > 0 else None


def _quality(kind: str, ranges: Sequence[tuple[str, float]]) -> float:
    """The quality of the most specific range that includes this media type."""
    family = f"{kind.partition('/')[0]}/*"
    for pattern in (kind, family, "*/*"):
        qualities = [quality for media_range, quality in ranges if media_range == pattern]
        if qualities:
            return max(qualities)
    return 0.0


def _range(text: str) -> tuple[str, float] | None:
    """(media range, quality) of one entry; None for what is none."""
    kind, *parameters = (part.strip().lower() for part in text.split(";"))
    if "/" not in kind:
        return None
    quality = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                quality = min(max(float(value), 0.0), 1.0)
            except ValueError:
                return None
    return kind, quality
