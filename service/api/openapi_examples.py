"""An example of each body and answer, for openapi.yaml. A test holds them against their schemas."""

from typing import Any

Json = dict[str, Any]
_PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
)
_MODEL = {"name": "affectgan", "version": "1.0", "labels": "both"}
_READING = {
    "valence": 0.61,
    "arousal": 0.12,
    "realism": 0.8,
    "aus": {"AU12": {"probability": 0.97, "intensity": 0.6, "present": True}},
}
_PICTURE = {"content": _PIXEL, "media_type": "image/png"}
_DRAWN = {"image": _PICTURE, "prediction": _READING}
_JOB_DOCUMENT: Json = {
    "id": "5kZ2yq0rJpXo8vC1mN4tB7wE9sD3fG6h",
    "status": "running",
    "operation": "predict",
    "created": "2026-01-02T03:04:05.678+00:00",
    "started": "2026-01-02T03:04:05.901+00:00",
    "finished": None,
    "expires": "2026-01-02T04:04:05.678+00:00",
    "progress": {"done": 8, "of": 64},
    "attempts": 1,
    "href": "/v1/jobs/5kZ2yq0rJpXo8vC1mN4tB7wE9sD3fG6h",
    "result": None,
    "error": None,
    "webhook": None,
    "kept_in": "memory",
    "note": "This job is held in the memory of one gateway: it is lost when that gateway stops, "
    "and other gateways do not know it.",
}
EXAMPLES: Json = {
    "PredictBody": {"images": [{"content": _PIXEL}], "options": {"faces": "none"}},
    "VerifyBody": {"images": [{"content": _PIXEL}]},
    "GenerateBody": {
        "items": [{"aus": {"AU12": 0.9}, "valence": 0.7, "arousal": 0.2, "seed": 7}],
        "format": "png",
    },
    "ExplainBody": {
        "images": [{"content": _PIXEL}],
        "options": {"faces": "none", "question": {"au": "AU12", "present": False}},
    },
    "PredictAnswer": {
        "model": _MODEL,
        "results": [
            {
                "index": 0,
                "status": "ok",
                "faces": [{"box": [70, 60, 90, 90], "points": None, "confidence": 0.9, **_READING}],
            },
            {
                "index": 1,
                "status": "error",
                "error": {
                    "type": "urn:affectgan:problem:no_face",
                    "title": "No face found",
                    "status": 422,
                    "detail": "no face was found",
                    "code": "no_face",
                },
            },
        ],
    },
    "GenerateAnswer": {
        "model": _MODEL,
        "results": [
            {
                "index": 0,
                "status": "ok",
                "seed": 7,
                "requested": {"valence": 0.7, "aus": {"AU12": 0.9}},
                "measured": _READING,
                "image": _PICTURE,
            }
        ],
    },
    "ExplainAnswer": {
        "model": _MODEL,
        "results": [
            {
                "index": 0,
                "status": "ok",
                "question": {"au": "AU12", "present": False},
                "sentence": "Without the raised lip corners, AU12 would not be read.",
                "box": None,
                "factual": _READING,
                "reconstruction": {**_DRAWN, "error": 0.02},
                "counterfactual": {**_DRAWN, "valid": True},
                "causes": [{"label": "AU12", "from": 0.95, "to": 0.15}],
                "changes": [{"label": "AU12", "from": 0.97, "to": 0.08}],
                "map": {"image": _PICTURE, "signed": _PICTURE},
                "frames": [_PICTURE],
                "regions": {"mouth": 0.8},
                "attribution": {"AU12": 1.9},
                "integrated_gradients": {"image": _PICTURE, "regions": {"mouth": 0.4}},
                "scores": {"validity_margin": 0.4, "proximity": 0.01},
                "trust": {
                    "level": "high",
                    "reasons": ["an independent judge sees the change too (0.71 to 0.20)"],
                    "judge": {"from": 0.71, "to": 0.2, "agrees": True},
                },
                "alternatives": [],
            }
        ],
    },
    "JobDocument": _JOB_DOCUMENT,
    "InferRequest": {
        "id": "1",
        "parameters": {"faces": "none"},
        "inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [_PIXEL]}],
        "outputs": [{"name": "va"}, {"name": "error"}],
    },
    "InferResponse": {
        "model_name": "affectgan-predict",
        "model_version": "1.0",
        "id": "1",
        "outputs": [
            {"name": "va", "datatype": "FP32", "shape": [1, 2], "data": [0.61, 0.12]},
            {"name": "error", "datatype": "BYTES", "shape": [1], "data": [""]},
        ],
    },
    "ModelMetadata": {
        "name": "affectgan-predict",
        "versions": ["1.0"],
        "platform": "affectgan",
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [{"name": "va", "datatype": "FP32", "shape": [-1, 2]}],
        "parameters": {"aus": "AU1,AU2,AU4"},
    },
    "TensorError": {
        "error": "Invalid value: inputs[0].shape is [1, 2]: image of BYTES is [-1]; -1 is any "
        "number"
    },
}
