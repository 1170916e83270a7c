"""Which marks pictures have: decoded and searched in the threads of the preprocessor."""

import asyncio
from collections.abc import Sequence

from affect.answers import (
    SignedClaim,
    SignedManifest,
    VerifyResult,
    Watermark,
)
from affect.images import ImageError
from affect.marking.signing import Manifest
from affect.marking.verification import Verification, Verifier
from service.inference.model_registry import ModelRegistry


async def verify_pictures(models: ModelRegistry, images: Sequence[bytes]) -> list[VerifyResult]:
    """One result a picture; a bad one fails alone."""
    verifier = Verifier(models.marker, [one.card for one in models.versions])
    work = [_verified(models, verifier, index, image) for index, image in enumerate(images)]
    return list(await asyncio.gather(*work))


async def _verified(
    models: ModelRegistry, verifier: Verifier, index: int, content: bytes
) -> VerifyResult:
    preprocessor = models.preprocessor
    try:
        image = await preprocessor.decoded(content)
        verification = await preprocessor.run(verifier.verify, content, image.pixels)
        result = verification_result(index, verification)
    except ImageError as error:
        problem = preprocessor.problem(error)
        return VerifyResult(index=index, status="error", error=problem)
    except Exception as error:  # of decoders and readers of manifests, whatever it is
        problem = preprocessor.unusable(error, len(content), "it cannot be searched for marks")
        return VerifyResult(index=index, status="error", error=problem)
    models.metrics.verified.labels(verification.verdict).inc()
    return result


def verification_result(index: int, verification: Verification) -> VerifyResult:
    """As /v1/verify has it."""
    manifest = verification.manifest
    return VerifyResult(
        index=index,
        status="ok",
        signed=None if manifest is None else _signed(manifest),
        watermark=Watermark(
            found=verification.watermark is not None,
            payload=verification.payload,
            model=verification.model,
        ),
        metadata=verification.metadata,
        edited=verification.edited,
        verdict=verification.verdict,
    )


def _signed(manifest: Manifest) -> SignedManifest:
    model, actions = manifest.model, manifest.actions
    sources = {str(one["digitalSourceType"]) for one in actions if "digitalSourceType" in one}
    claim = SignedClaim(
        generator=manifest.generator,
        model=" ".join(model[part] for part in ("name", "version") if part in model) or None,
        digest=model.get("digest"),
        actions=[str(one.get("action")) for one in actions],
        sources=sorted(sources),
        ingredients=manifest.ingredients,
    )
    return SignedManifest(
        valid=manifest.valid,
        trusted=manifest.trusted,
        issuer=manifest.issuer,
        claim=claim,
        failures=list(manifest.failures),
    )
