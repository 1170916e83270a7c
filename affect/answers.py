"""Answers of /v1, as pydantic models: what the gateway sends, openapi.yaml describes and clients read."""

import base64
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Probability = Annotated[float, Field(ge=0, le=1)]
Signed = Annotated[float, Field(ge=-1, le=1)]


class ModelName(BaseModel):
    """Which model answered."""

    name: str
    version: str
    labels: Literal["au", "va", "both"]


class ServedVersion(ModelName):
    """A version that is open. `digest` identifies its archives."""

    default: bool = Field(description="answers who names this model but no version, canaries apart")
    share: Probability = Field(description="of the requests that name no version")
    shadow: bool = Field(description="gets copies of requests whose answers nobody sees")
    vocabulary: list[str]
    digest: str


class ModelList(BaseModel):
    """Every version of every model; the first model is the one that answers who names none."""

    models: list[ServedVersion]


class RowProblem(BaseModel):
    """Why one picture or item has no answer."""

    type: str
    title: str
    status: int
    detail: str
    code: str


class Picture(BaseModel):
    """An encoded picture."""

    content: str = Field(description="base64")
    media_type: str

    def to_bytes(self) -> bytes:
        """The file's content."""
        return base64.b64decode(self.content)


class ActionUnitReading(BaseModel):
    """One Action Unit."""

    probability: Probability
    intensity: Probability
    present: bool
    left: Probability | None = Field(
        default=None,
        description="intensity on the person's own left side; absent where not told apart",
    )
    right: Probability | None = Field(default=None, description="the same of the right side")


class ExpressionReading(BaseModel):
    """The likeliest class of expression, and the probability of every class of the model's card."""

    label: str
    probabilities: dict[str, Probability]


class HeadPose(BaseModel):
    """How the head is turned, in degrees."""

    yaw: float = Field(description="above 0: towards the picture's right")
    pitch: float = Field(description="above 0: up")
    roll: float = Field(description="above 0: clockwise")


class Reading(BaseModel):
    """What the model reads off a face. What its card does not name is absent."""

    valence: Signed | None = None
    arousal: Signed | None = None
    realism: Probability = Field(
        description="share of the faces the model learnt from that look at least as strange to it; near 0: no face, or unlike any it knows"
    )
    expression: ExpressionReading | None = None
    pose: HeadPose | None = None
    aus: dict[str, ActionUnitReading] = {}


class FaceReading(Reading):
    """A face of the picture. The box is x, y, width, height in px of the picture, null for an aligned crop."""

    box: tuple[float, float, float, float] | None = None
    points: list[tuple[float, float]] | None = Field(
        default=None, description="eyes, nose tip, mouth corners; the picture's left first"
    )
    confidence: Probability | None = Field(default=None, description="that this is a face")


class PredictResult(BaseModel):
    """One picture: its faces, or its error."""

    index: int
    status: Literal["ok", "error"]
    faces: list[FaceReading] | None = None
    error: RowProblem | None = None


class PredictAnswer(BaseModel):
    """Answers in the order of the pictures."""

    model: ModelName
    results: list[PredictResult]


class GenerateResult(BaseModel):
    """One face: what was asked of the model in full, and what the predictor reads off the picture."""

    index: int
    status: Literal["ok", "error"]
    seed: int | None = None
    requested: dict[str, Any] | None = None
    measured: Reading | None = None
    image: Picture | None = None
    error: RowProblem | None = None


class GenerateAnswer(BaseModel):
    """Answers in the order of the items."""

    model: ModelName
    results: list[GenerateResult]


class Drawn(BaseModel):
    """A picture with what is read off it."""

    image: Picture
    prediction: Reading


class Reconstruction(Drawn):
    """The face as the generator alone draws it; `error` is the mean absolute difference in [0, 1]."""

    error: float


class Counterfactual(Drawn):
    """The changed face; `valid` when it is read as was asked."""

    valid: bool


class Change(BaseModel):
    """A reading that moved."""

    model_config = ConfigDict(populate_by_name=True)

    label: str
    start: float = Field(alias="from")
    to: float


class ChangeMap(BaseModel):
    """Where the face changed: grey for machines, coloured for people."""

    image: Picture
    signed: Picture


class JudgeOpinion(BaseModel):
    """What an independent network reads of the questioned label before and after, and whether it follows at least half of the way."""

    model_config = ConfigDict(populate_by_name=True)

    start: float = Field(alias="from")
    to: float
    agrees: bool


class Trust(BaseModel):
    """How far to trust the explanation, and why."""

    level: Literal["high", "medium", "low"]
    reasons: list[str]
    judge: JudgeOpinion | None = Field(
        default=None, description="null: nobody independent was asked"
    )


class PixelShares(BaseModel):
    """Integrated Gradients: which pixels speak for a large number (warm) and which against it (cool), and their signed share by region."""

    image: Picture
    regions: dict[str, float]


class Alternative(BaseModel):
    """Another answer to the same question, by another cause."""

    sentence: str
    counterfactual: Counterfactual
    causes: list[Change]
    changes: list[Change]
    map: ChangeMap
    regions: dict[str, float]
    scores: dict[str, float]
    trust: Trust


class ExplainResult(BaseModel):
    """One explanation, or its error. All pictures are in the frame of the aligned crop."""

    index: int
    status: Literal["ok", "error"]
    question: dict[str, Any] | None = None
    sentence: str | None = None
    box: tuple[float, float, float, float] | None = None
    factual: Reading | None = None
    reconstruction: Reconstruction | None = None
    counterfactual: Counterfactual | None = None
    causes: list[Change] | None = Field(
        default=None,
        description="what was moved: AUs by intensity, or nuisances by where the face stands between their ends, 0 and 1",
    )
    changes: list[Change] | None = Field(
        default=None, description="readings that moved, the largest first"
    )
    map: ChangeMap | None = None
    frames: list[Picture] | None = None
    regions: dict[str, float] | None = Field(
        default=None, description="share of the change in each region of the face and outside it"
    )
    attribution: dict[str, float] | None = Field(
        default=None,
        description="how far moving each AU (or nuisance) alone moves the decision as was asked",
    )
    integrated_gradients: PixelShares | None = Field(default=None, description="when asked for")
    scores: dict[str, float] | None = None
    trust: Trust | None = None
    alternatives: list[Alternative] | None = Field(
        default=None, description="as many of the other answers asked for as differ"
    )
    error: RowProblem | None = None


class ExplainAnswer(BaseModel):
    """Answers in the order of the pictures."""

    model: ModelName
    results: list[ExplainResult]


class Health(BaseModel):
    """The process lives."""

    status: Literal["ok"]


class VersionReadiness(BaseModel):
    """For each operation of a version whether it has a worker that is ready."""

    name: str
    version: str
    operations: dict[str, bool]


class Readiness(BaseModel):
    """Whether requests would be served."""

    ready: bool
    draining: bool
    operations: dict[str, bool]
    versions: list[VersionReadiness]


class Progress(BaseModel):
    """Pictures or items done, of all."""

    done: int = Field(ge=0)
    of: int = Field(ge=1)


class Link(BaseModel):
    """Where something is, a path of this gateway."""

    href: str


class WebhookState(BaseModel):
    """Who is called when the job ends, and whether that happened."""

    url: str
    status: Literal["waiting", "delivered", "failed"]


class JobDocument(BaseModel):
    """A request whose answer is fetched later. Times are ISO 8601 in UTC."""

    id: str
    status: Literal["queued", "running", "done", "failed", "cancelled", "expired"]
    operation: Literal["predict", "generate", "explain"]
    created: str
    started: str | None
    finished: str | None
    expires: str = Field(description="from then on there is no answer")
    progress: Progress
    attempts: int = Field(
        description="gateways that began it; more than one when one of them ended"
    )
    href: str = Field(description="where this document is")
    result: Link | None = Field(description="where the answer is, when the job is done")
    error: "ProblemBody | None" = Field(description="why the job failed")
    webhook: WebhookState | None
    kept_in: Literal["memory", "redis"] = Field(description="memory: lost when the gateway stops")
    note: str


class ProblemBody(BaseModel):
    """RFC 9457, with a request id, a stable code, and every faulty field."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    code: str
    errors: list[dict[str, Any]]
