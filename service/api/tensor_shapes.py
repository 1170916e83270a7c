"""Input and output tensors of each operation in the Open Inference Protocol, their types and
shapes.

-1 is any number of rows or px; "K" the model's Action Units, "E" its classes of expression, "P" its
angles of pose, "D" its one-sided Action Units. A model has no outputs for labels that it did not
learn.
"""

from affect.archive import Operation
from affect.card import ModelCard
from affect.labels import POSE
from service.api.tensors import Datatype

Shape = tuple[int | str, ...]
ROWS: Shape = (-1,)
AUS: Shape = (-1, "K")
VA: Shape = (-1, 2)
IMAGE: dict[Datatype, Shape] = {"BYTES": ROWS, "UINT8": (-1, -1, -1, 3)}
INPUTS: dict[Operation, dict[str, dict[Datatype, Shape]]] = {
    "predict": {"image": IMAGE},
    "generate": {
        "aus": {"FP32": AUS},
        "va": {"FP32": VA},
        "seed": {"INT64": ROWS},
        "reference": {"BYTES": ROWS},
    },
    "explain": {"image": IMAGE},
}
READ: dict[str, tuple[Datatype, Shape]] = {
    "aus": ("FP32", AUS),
    "va": ("FP32", VA),
    "realism": ("FP32", ROWS),
    "expression": ("FP32", (-1, "E")),
    "pose": ("FP32", (-1, "P")),
    "sides": ("FP32", (-1, 2, "D")),
}
OUTPUTS: dict[Operation, dict[str, tuple[Datatype, Shape]]] = {
    "predict": {
        **READ,
        "present": ("BOOL", AUS),
        "box": ("FP32", (-1, 4)),
        "warnings": ("BYTES", ROWS),
        "error": ("BYTES", ROWS),
    },
    "generate": {
        "image": ("BYTES", ROWS),
        "seed": ("INT64", ROWS),
        **READ,
        "error": ("BYTES", ROWS),
    },
    "explain": {
        "counterfactual": ("BYTES", ROWS),
        "map": ("BYTES", ROWS),
        "signed_map": ("BYTES", ROWS),
        "valid": ("BOOL", ROWS),
        "label": ("BYTES", ROWS),
        "sentence": ("BYTES", ROWS),
        "trust": ("BYTES", ROWS),
        **READ,
        **{f"counterfactual_{name}": kind for name, kind in READ.items()},
        "error": ("BYTES", ROWS),
    },
}


def output_shapes(operation: Operation, card: ModelCard) -> dict[str, tuple[Datatype, list[int]]]:
    """Type and shape of every tensor that the operation of this model gives."""
    shapes = {
        name: (datatype, sides(shape, card))
        for name, (datatype, shape) in OUTPUTS[operation].items()
    }
    return {name: (datatype, shape) for name, (datatype, shape) in shapes.items() if all(shape)}


def sides(shape: Shape, card: ModelCard) -> list[int]:
    """The shape with the model's numbers in place of letters."""
    sizes = {
        "K": len(card.vocabulary),
        "E": len(card.expressions),
        "P": len(POSE) if card.pose else 0,
        "D": len(card.one_sided),
    }
    return [sizes[side] if isinstance(side, str) else side for side in shape]
