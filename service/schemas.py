"""Requests of /v1, as pydantic models: what is refused, and what openapi.yaml says. Answers:
affect.answers.
"""

import base64
import re
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from affect.answers import Probability, Signed
from affect.faces import Faces

DATA_URL = re.compile(r"^\s*data:[^,]{0,200};base64,", re.IGNORECASE)
TO_STANDARD, WHITESPACE = bytes.maketrans(b"-_", b"+/"), b" \t\r\n"
TRUTHS = ("present", "integrated_gradients")  # fields that are true or false
QUOTED_CHARACTERS = 80  # characters of a text that is no base64


class NotBase64(bytes):
    """How a text began that is no base64, in place of the picture: it fails alone."""

    @property
    def text(self) -> str:
        """The beginning of the text."""
        return self.decode()


def decode_base64(text: object) -> bytes:
    """Base64 (RFC 4648) in either alphabet, with or without padding, breaks, or `data:` before.

    What is none of it becomes NotBase64. Raises ValueError for what is no text.
    """
    if not isinstance(text, str):
        raise ValueError("send the picture's bytes in base64")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        pass
    try:
        plain = DATA_URL.sub("", text, count=1).encode("ascii")
        plain = plain.translate(TO_STANDARD, WHITESPACE).rstrip(b"=")
        return base64.b64decode(plain + b"=" * (-len(plain) % 4), validate=True)
    except ValueError:
        return NotBase64(text[:QUOTED_CHARACTERS].encode(errors="replace"))


Base64 = Annotated[
    bytes,
    BeforeValidator(decode_base64),
    WithJsonSchema({"type": "string", "contentEncoding": "base64"}),
]


class _Request(BaseModel):
    # What stands under a field describes it, here and in openapi.yaml.
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_truths(cls, value: object, info: ValidationInfo) -> object:
        """Left to itself, pydantic takes JSON's false for the number 0."""
        values = value.values() if info.field_name == "aus" and isinstance(value, dict) else [value]
        if info.field_name not in TRUTHS and any(isinstance(one, bool) for one in values):
            raise ValueError("true and false are no numbers")
        return value


class ImageContent(_Request):
    """One picture: JPEG, PNG or WebP bytes in base64."""

    content: Base64
    """The file's bytes in base64."""


class _Chosen(_Request):
    """Which model is to answer."""

    model: str | None = Field(
        default=None, description="name of a served model (default: the first one)"
    )
    version: str | None = Field(
        default=None,
        description="its version (default: the operator's choice; answers say which it was)",
    )


class PredictOptions(_Chosen):
    """Which faces to read: the largest, all, or `none`: the picture is an aligned crop already."""

    faces: Literal["largest", "all", "none"] = "largest"
    """Which faces of each picture are read."""


class PredictBody(_Request):
    """The JSON form of /v1/predict."""

    images: list[ImageContent]
    """1 to 64 pictures."""
    options: PredictOptions = PredictOptions()
    """For all pictures."""


class Question(_Request):
    """What should be otherwise: {"au": "AU12", "present": false}, {"valence": 0.5} or {"arousal":
    -0.2}. Empty: the strongest decision.
    """

    au: str | None = None
    """The Action Unit that is questioned, as a FACS code."""
    present: bool | None = None
    """Whether it should be there; left out: the other side of what is read."""
    valence: Signed | None = None
    """What valence should be, from -1 to 1."""
    arousal: Signed | None = None
    """What arousal should be, from -1 to 1."""

    @model_validator(mode="after")
    def _one(self) -> "Question":
        subjects = [
            name for name in ("au", "valence", "arousal") if getattr(self, name) is not None
        ]
        if len(subjects) > 1:
            raise ValueError(f"asks about {' and '.join(subjects)}; ask about one of them")
        if self.present is not None and self.au is None:
            raise ValueError("`present` needs an `au`")
        return self


class _OneFace(_Chosen):
    """Which face of a picture is meant."""

    faces: Literal["largest", "none"] = Field(
        default="largest",
        description="`largest`: find it; `none`: the picture is an aligned crop already",
    )
    face: int | None = Field(
        default=None,
        ge=0,
        description="another one: its place among those that predict reads with `faces: all`, 0 "
        "the largest",
    )

    @model_validator(mode="after")
    def _is_found(self) -> Self:
        if self.face is not None and self.faces == "none":
            raise ValueError("`face` is a place among faces that are found; leave `faces` out")
        return self

    @property
    def which_faces(self) -> Faces:
        """Both fields in one."""
        return self.faces if self.face is None else self.face


class ExplainOptions(_OneFace):
    """The question, and the face that is questioned."""

    question: Question = Question()
    """What should be otherwise."""
    family: Literal["expression", "nuisance"] = Field(
        default="expression",
        description="what may be changed: the expression, or what should not matter (skin, light, "
        "pose; the card's `nuisances`)",
    )
    answers: int = Field(
        default=1,
        ge=1,
        le=4,
        description="how many different changes: the least one, then others with another cause",
    )
    integrated_gradients: bool = Field(
        default=False,
        description="which pixels made the decision (Sundararajan et al. 2017), beside the answer",
    )


class VerifyOptions(_Request):
    """/v1/verify has no options."""


class VerifyBody(_Request):
    """The JSON form of /v1/verify."""

    images: list[ImageContent]
    """1 to 64 pictures."""
    options: VerifyOptions = VerifyOptions()
    """None so far."""


class ExplainBody(_Request):
    """The JSON form of /v1/explain."""

    images: list[ImageContent]
    """1 to 64 pictures."""
    options: ExplainOptions = ExplainOptions()
    """For all pictures."""


class GenerateItem(_Request):
    """One wanted face. What is not asked for comes from the training distribution given what is."""

    aus: dict[str, Probability] = Field(
        default={}, description="intensity per Action Unit", examples=[{"AU12": 0.9}]
    )
    valence: Signed | None = None
    """How pleasant the state shall look, from -1 to 1."""
    arousal: Signed | None = None
    """How excited the state shall look, from -1 to 1."""
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    """The same item and seed give the same pixels; left out: by chance, and given in the answer."""
    reference: ImageContent | None = Field(
        default=None, description="keep this person, change the state"
    )


class GenerateBody(_OneFace):
    """The body of /v1/generate."""

    items: list[GenerateItem]
    """1 to 64 wanted faces."""
    format: Literal["png", "jpeg", "webp"] = "png"
    """In which the pictures are encoded."""


class TensorError(BaseModel):
    """An error as the Open Inference Protocol has it."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    error: str
    """What is wrong, and what would do."""
