"""The model card: everything a handler, the gateway or a person must know about a model, in one
JSON file.

Written as `card.json` beside `weights.safetensors`, in a run folder and inside every archive.
Nothing in it is configured anywhere else.
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from affect.labels import DIMENSIONS, Vocabulary

CARD_FILE, WEIGHTS_FILE = "card.json", "weights.safetensors"
# Raised when networks or card change so that older code cannot run newer weights, or the other way
# round.
FORMAT = 1
# Share of real faces that are drawn with less error; beyond it, where nothing was measured, a face
# is drawn poorly.
POOR_RECONSTRUCTION = 0.95


class CardError(ValueError):
    """A card that does not fit this code, its weights or its handler: says which field and what to
    do.
    """


class _Frozen(BaseModel):
    # What stands under a field describes it, here and in openapi.yaml.
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class NetworkSize(_Frozen):
    """Widths of the two networks; image_px is in the card itself."""

    kind: Literal["affectgan", "ssgan2019"] = "affectgan"
    """`affectgan`, or `ssgan2019`: the baseline of the seed paper."""
    trunk: tuple[int, ...] = Field(
        description="channels of the trunk at each resolution, from the picture down to 4 px"
    )
    decoder: tuple[int, ...] = Field(
        description="channels of the decoder at each resolution, from 4 px up"
    )
    latent: int = Field(description="length of the latent code of a person and a scene")
    condition: int = Field(description="length of the embedded condition")
    patch_px: int = Field(
        default=0, description="side of the map whose places the critic also judges; 0: none"
    )
    reader_kind: Literal["residual", "trunk"] = Field(
        default="residual", description="of the reading network: with batch norm, or like the trunk"
    )
    reader: tuple[int, ...] = Field(
        default=(),
        description="channels of the reading network, from half the side (trunk: the side) down to "
        "4 px; empty: the trunk reads",
    )


class Calibration(_Frozen):
    """Platt scaling of one AU, fitted on validation: P(present) = sigmoid(scale * logit + shift);
    present if P >= threshold.
    """

    scale: float = Field(default=1.0, gt=0)
    """Factor of the logit."""
    shift: float = 0.0
    """Added to it."""
    threshold: float = Field(default=0.5, gt=0, lt=1)
    """Probability from which the AU counts as present."""


class Measured(_Frozen):
    """One measured figure with its interval, and where it was measured."""

    value: float
    """The figure."""
    low: float | None = None
    """Lower end of its 95 % interval over people."""
    high: float | None = None
    """Upper end of it."""
    split: str
    """Split of the data on which it was measured."""


class DataSummary(_Frozen):
    """What the model was trained on."""

    name: str
    """Name of the database."""
    images: int
    """Pictures in its training split."""
    sources: tuple[str, ...]
    """Where its pictures come from."""
    licence: str
    """Licence of each source."""
    positive_intensity: float = Field(description="an AU counts as present from this intensity on")


class WarningLimits(_Frozen):
    """Beyond what a reading carries a warning (affect/protocol/reading_warnings.py). LOG.md says
    how the defaults were measured.
    """

    realism: float = Field(
        default=0.05, ge=0, le=1, description="warned below: the picture is unlike training's faces"
    )
    yaw_degrees: float = Field(default=45.0, gt=0, description="warned beyond, to either side")
    pitch_degrees: float = Field(default=30.0, gt=0, description="warned beyond, up or down")
    confidence: float = Field(
        default=0.99, ge=0, le=1, description="warned below: the finder is not sure of a face"
    )
    face_px: float = Field(default=40.0, ge=0, description="warned below, side of the face's box")
    eyes_hidden: float = Field(default=0.5, ge=0, le=1, description="warned from this probability")
    mouth_hidden: float = Field(default=0.5, ge=0, le=1, description="warned from this probability")
    drawn: float = Field(default=0.15, ge=0, le=1, description="warned from this probability")

    def is_unlike(self, realism: float) -> bool:
        """Whether a picture is unlike training's faces."""
        return realism < self.realism

    def is_turned(self, yaw: float, pitch: float) -> bool:
        """Whether a head is turned further than readings hold."""
        return abs(yaw) > self.yaw_degrees or abs(pitch) > self.pitch_degrees


TrustName = Literal["high", "medium"]  # that must be earned; what is neither is "low"


class EarnedTrust(_Frozen):
    """How often a second judge, not the one that trust is given by, saw such answers turn."""

    on: str
    """Name of the database, and its split."""
    answers: int
    """Answers of this level or a higher one."""
    confirmed: float
    """Share of them that the second judge confirms."""
    low: float
    """Lower end of its 95 % interval over people."""
    high: float
    """Upper end of it."""


class TrustRequirement(_Frozen):
    """From which score on an answer is named so, and what such answers earned where the score was
    fitted: on each kind of faces alone.
    """

    least: float | None
    """The score, `scores.trust` of an explanation; null: measured, and earned from no score on, so
    no answer is named so.
    """
    earned: tuple[EarnedTrust, ...]
    """One for each database; of a level that was not earned, what all answers with a score did."""
    redrawn: float = Field(default=POOR_RECONSTRUCTION, ge=0, le=1)
    """Share of real faces that the generator draws with less error than the worst drawn that were
    measured: no answer about a face beyond it is `high`.
    """
    judge: str = ""
    """SHA-256 of the judge that was asked: with another one the level means nothing."""


class ModelCard(_Frozen):
    """The card. `digest` is the SHA-256 of the weights file; `seen_images` is how long the run was
    trained.
    """

    format: int = FORMAT
    """Format of this card."""
    name: str = "affectgan"
    """Name of the model."""
    version: str
    """Its version."""
    labels: Literal["au", "va", "both"]
    """What it learnt: Action Units, valence and arousal, or both."""
    vocabulary: tuple[str, ...]
    """The Action Units it knows, as FACS codes, in the order of its outputs."""
    image_px: int = Field(ge=16)
    """Side of the aligned crop, px."""
    network: NetworkSize
    """Widths of its networks."""
    mirrored: bool = Field(
        default=False,
        description="AUs, valence and arousal are the mean over the face and its mirror image",
    )
    calibration: dict[str, Calibration]
    """By AU: from its logit to a probability and a decision."""
    calibrated_on: tuple[str, ...] = Field(
        default=(), description="how and on what `calibration` was fitted; empty: not said"
    )
    data: DataSummary
    """What it was trained on."""
    quality: dict[str, Measured] = {}
    """Measured figures by name."""
    reference: dict[str, list[float]] = Field(
        default={},
        description="quantiles 0..1 of scores on real faces: critic, strangeness, "
        "reconstruction_error, and of each label",
    )
    unit_features: bool = Field(
        default=False,
        description="strangeness compares directions of features, not their lengths; false in "
        "weights of before",
    )
    expressions: tuple[str, ...] = Field(
        default=(), description="classes of expression it reads, in order; empty: none"
    )
    pose: bool = Field(default=False, description="reads yaw, pitch and roll")
    one_sided: tuple[str, ...] = Field(
        default=(), description="AUs whose left and right intensity it reads, in order"
    )
    warning_limits: WarningLimits = WarningLimits()
    """Beyond what a reading carries a warning."""
    affect_rule: str = Field(
        default="", description="rule by which rendered faces got valence and arousal"
    )
    rule_weights: dict[str, tuple[float, float]] = Field(
        default={},
        description="by that rule, what a full AU adds to valence and to arousal before tanh",
    )
    trust_levels: dict[TrustName, TrustRequirement] = Field(
        default={},
        description="what an explanation must score to be trusted so; empty: how often answers "
        "hold was never measured, and nothing is trusted highly",
    )
    nuisances: tuple[str, ...] = Field(
        default=(),
        description='what should not matter and may be asked about ("light: dim to bright"), in '
        "the order of the weights",
    )
    licence: str = "Apache-2.0"
    """Licence of the weights (SPDX)."""
    intended_use: tuple[str, ...] = ()
    """What it is for."""
    limits: tuple[str, ...] = ()
    """What it is not for, and what it cannot do."""
    libraries: dict[str, str] = {}
    """Versions of the libraries it was trained with."""
    preset: str = ""
    """The training preset."""
    seed: int = 0
    """Seed of the run."""
    seen_images: int = 0
    """Pictures that training saw, each as often as it came."""
    digest: str = ""
    """SHA-256 of the weights file."""

    @field_validator("vocabulary")
    @classmethod
    def _known(cls, codes: tuple[str, ...]) -> tuple[str, ...]:
        return Vocabulary(codes).aus

    @model_validator(mode="after")
    def _fits(self) -> "ModelCard":
        missing = [code for code in self.vocabulary if code not in self.calibration]
        extra = self.expressions or self.pose or self.one_sided
        if extra and not self.network.reader:
            raise ValueError(
                "expressions, pose and one_sided need network.reader: name its channels"
            )
        if missing:
            raise ValueError(
                f"calibration has no entry for {', '.join(missing)}; write one for every AU of the "
                "vocabulary"
            )
        return self

    @property
    def labels_of(self) -> Vocabulary:
        """The vocabulary as an object with columns."""
        return Vocabulary(self.vocabulary)

    @property
    def learns_aus(self) -> bool:
        """Whether the run was trained on AU labels."""
        return self.labels != "va"

    @property
    def learns_va(self) -> bool:
        """Whether the run was trained on valence and arousal."""
        return self.labels != "au"

    def learns(self, label: str) -> bool:
        """Whether the run was trained on this kind of label: an AU's code, valence or arousal."""
        return self.learns_va if label in DIMENSIONS else self.learns_aus

    def save(self, folder: Path) -> None:
        """Write card.json into the folder."""
        (folder / CARD_FILE).write_bytes(self.to_bytes())

    def to_bytes(self) -> bytes:
        """The content of card.json."""
        return self.model_dump_json(indent=2).encode() + b"\n"

    @classmethod
    def load(cls, folder: Path) -> "ModelCard":
        """Read card.json of a folder. Raises CardError when it is missing, broken or of another
        format.
        """
        return cls.parse((folder / CARD_FILE).read_bytes(), where=str(folder / CARD_FILE))

    @classmethod
    def parse(cls, content: bytes, *, where: str) -> "ModelCard":
        """Read a card's JSON; `where` names the file in errors."""
        try:
            card = cls.model_validate_json(content)
        except ValueError as error:
            raise CardError(f"{where} is not a card this version can read: {error}") from error
        if card.format != FORMAT:
            raise CardError(
                f"{where} has format {card.format}; this version reads format {FORMAT}: archive "
                "the run again"
            )
        return card
