"""Pictures that somebody signed, with claims as he likes them."""

import io
from typing import Any

import c2pa

from affect.marking.claims import DRAWN, MODEL_LABEL
from affect.marking.credentials import development_credentials
from tests.support.pictures import FACE, encoded

CREATED = {"action": "c2pa.created", "digitalSourceType": DRAWN}
# Of the assertion in which our pictures have an object of texts.
HOSTILE_MODELS: list[Any] = [[1, 2], "x", 1, {"name": {"a": 1}, "digest": 5}, {"name": [[[]]]}]


def signed_png(model: Any) -> bytes:
    """A PNG whose manifest, which is valid, has this in the place of the model."""
    own = development_credentials()
    info = c2pa.C2paSignerInfo(own.algorithm.encode(), own.chain, own.key, None)
    manifest = {
        "claim_generator_info": [{"name": "somebody", "version": "1"}],
        "title": "a picture",
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [CREATED]}},
            {"label": MODEL_LABEL, "data": model},
        ],
    }
    out = io.BytesIO()
    quiet = c2pa.Context.from_dict({"builder": {"thumbnail": {"enabled": False}}})
    with c2pa.Builder(manifest, context=quiet) as builder:
        builder.sign(c2pa.Signer.from_info(info), "image/png", io.BytesIO(encoded(FACE)), out)
    return out.getvalue()
