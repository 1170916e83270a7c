"""Answers of /v1, as pydantic models: what the gateway sends, openapi.yaml describes and clients
read.
"""

import base64
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Probability = Annotated[float, Field(ge=0, le=1)]
Signed = Annotated[float, Field(ge=-1, le=1)]


class _Answer(BaseModel):
    """What stands under a field describes it, here and in openapi.yaml."""

    model_config = ConfigDict(use_attribute_docstrings=True, populate_by_name=True)


class ModelName(_Answer):
    """Which model answered."""

    name: str
    """Name of the model."""
    version: str
    """Its version."""
    labels: Literal["au", "va", "both"]
    """What it learnt: Action Units, valence and arousal, or both."""


class ServedVersion(ModelName):
    """A version that is open."""

    default: bool
    """Answers who names this model but no version, canaries apart."""
    share: Probability
    """Share of the requests that name no version."""
    shadow: bool
    """Gets copies of requests whose answers nobody sees."""
    vocabulary: list[str]
    """The Action Units it knows, as FACS codes."""
    digest: str
    """Identifies its archives."""


class ModelList(_Answer):
    """Every version of every model; the first model is the one that answers who names none."""

    models: list[ServedVersion]
    """The versions that are open."""


class RowProblem(_Answer):
    """Why one picture or item has no answer."""

    type: str
    """URI of the kind of problem: `urn:affectgan:problem:` and the code."""
    title: str
    """The kind of problem in words."""
    status: int
    """The HTTP status that this problem would have for a whole request."""
    detail: str
    """What is wrong here, and what would do."""
    code: str
    """Stable name of the kind of problem, such as `no_face`."""


class Picture(_Answer):
    """An encoded picture."""

    content: str
    """The file's bytes in base64."""
    media_type: str
    """Such as `image/png`."""

    def to_bytes(self) -> bytes:
        """The file's content."""
        return base64.b64decode(self.content)


class ActionUnitReading(_Answer):
    """One Action Unit."""

    probability: Probability
    """That the movement is there; calibrated on other pictures."""
    intensity: Probability
    """How strong the movement is, from 0 (not at all) to 1 (as strong as it gets)."""
    present: bool
    """Whether the probability reaches the card's threshold for this Action Unit."""
    left: Probability | None = None
    """Intensity on the person's own left side; absent where the sides are read as one."""
    right: Probability | None = None
    """The same of the right side."""


class ExpressionReading(_Answer):
    """The nearest of the usual classes of expression."""

    label: str
    """The likeliest class."""
    probabilities: dict[str, Probability]
    """Of every class of the model's card."""


class HeadPose(_Answer):
    """How the head is turned, in degrees."""

    yaw: float
    """Above 0: towards the picture's right."""
    pitch: float
    """Above 0: up."""
    roll: float
    """Above 0: clockwise."""


class ReadingWarning(_Answer):
    """Why not to believe a reading."""

    code: str
    """unlike_training, head_turned, finder_unsure, small_face, eyes_hidden, mouth_hidden, drawn;
    others may come."""
    detail: str
    """The figure and its limit, in a sentence."""


class Reading(_Answer):
    """What the model reads off a face. What its card does not name is absent."""

    valence: Signed | None = None
    """How pleasant the shown state looks, from -1 (unpleasant) to 1 (pleasant)."""
    arousal: Signed | None = None
    """How excited the shown state looks, from -1 (calm) to 1 (excited)."""
    realism: Probability
    """Share of the faces the model learnt from that look at least as strange to it; near 0: no
    face, or unlike any it knows.
    """
    expression: ExpressionReading | None = None
    """The class of expression, where the model knows classes."""
    pose: HeadPose | None = None
    """How the head is turned, where the model reads it."""
    warnings: list[ReadingWarning] = []
    """Why not to believe this reading; empty where nothing speaks against it."""
    aus: dict[str, ActionUnitReading] = {}
    """The Action Units by FACS code."""


class FaceReading(Reading):
    """A face of the picture, and what is read off it."""

    box: tuple[float, float, float, float] | None = None
    """x, y, width, height in px of the picture as it stands upright; null for an aligned crop."""
    points: list[tuple[float, float]] | None = None
    """Eyes, nose tip, mouth corners in px; the picture's left first."""
    confidence: Probability | None = None
    """That this is a face."""


class PredictResult(_Answer):
    """One picture: its faces, or its error."""

    index: int
    """Place of the picture in the request, from 0."""
    status: Literal["ok", "error"]
    """`ok`: there are faces; `error`: there is an error."""
    faces: list[FaceReading] | None = None
    """The faces that were asked for, the largest first."""
    error: RowProblem | None = None
    """Why there is no reading."""


class PredictAnswer(_Answer):
    """Answers in the order of the pictures."""

    model: ModelName
    """The model that answered."""
    results: list[PredictResult]
    """One a picture, in the order of the request."""


class SignedClaim(_Answer):
    """What a C2PA manifest says."""

    generator: str
    """Program that signed."""
    model: str | None = None
    """Name and version of the model, when the claim is one of AffectGAN's."""
    digest: str | None = None
    """SHA-256 of the model's weights, likewise."""
    actions: list[str]
    """What was done, C2PA's names, such as `c2pa.created`."""
    sources: list[str]
    """IPTC digital source types of these actions."""
    ingredients: int
    """Pictures that it was made from and that are named."""


class SignedManifest(_Answer):
    """The signed C2PA claim in the file."""

    valid: bool
    """Whether the signature is whole and belongs to these pixels."""
    trusted: bool
    """Whether its certificate leads to one that this gateway trusts; its own among them."""
    issuer: str
    """Organisation that the certificate names."""
    claim: SignedClaim
    """What is claimed, true only as far as the signer is to be trusted."""
    failures: list[str]
    """C2PA's codes of what does not hold."""


class Watermark(_Answer):
    """The mark in the pixels. Anybody could have put it there: it is no signature."""

    found: bool
    """Whether it was found; small, turned or strongly changed pictures may have lost it."""
    payload: str | None = None
    """First 32 bits of the digest of the model's weights, hexadecimal."""
    model: str | None = None
    """Name and version of that model, where it is served here."""


class VerifyResult(_Answer):
    """What marks one picture has, or its error."""

    index: int
    """Place of the picture in the request, from 0."""
    status: Literal["ok", "error"]
    """`ok`: it was looked at; `error`: there is an error."""
    signed: SignedManifest | None = None
    """The last claim in the file; null: it has none."""
    watermark: Watermark | None = None
    """The mark in the pixels."""
    metadata: bool | None = None
    """Whether unsigned metadata (IPTC digital source type) says that a model made it."""
    edited: bool | None = None
    """Whether a valid claim says that a model changed another picture; null: nothing says."""
    verdict: Literal["made here", "made by AI", "unknown"] | None = None
    """`made here`: signed by this gateway; `unknown`: no mark, which proves nothing."""
    error: RowProblem | None = None
    """Why it could not be looked at."""


class VerifyAnswer(_Answer):
    """Answers in the order of the pictures."""

    results: list[VerifyResult]
    """One a picture, in the order of the request."""


class GenerateResult(_Answer):
    """One face: what was asked of the model in full, and what the predictor reads off the
    picture.
    """

    index: int
    """Place of the item in the request, from 0."""
    status: Literal["ok", "error"]
    """`ok`: there is a picture; `error`: there is an error."""
    seed: int | None = None
    """What the face was drawn from: the same item and seed give the same pixels."""
    requested: dict[str, Any] | None = None
    """What was asked of the model: the item's labels, and what was drawn for the rest."""
    measured: Reading | None = None
    """What is read off the drawn picture."""
    image: Picture | None = None
    """The drawn face, which says in its metadata that it is synthetic."""
    error: RowProblem | None = None
    """Why there is no picture."""


class GenerateAnswer(_Answer):
    """Answers in the order of the items."""

    model: ModelName
    """The model that answered."""
    results: list[GenerateResult]
    """One an item, in the order of the request."""


class Drawn(_Answer):
    """A picture with what is read off it."""

    image: Picture
    """The picture, in the frame of the aligned crop."""
    prediction: Reading
    """What is read off it."""


class Reconstruction(Drawn):
    """The face as the generator alone draws it."""

    error: float
    """Mean absolute difference from the face, in shares of full scale, 0 to 1."""


class Counterfactual(Drawn):
    """The changed face."""

    valid: bool
    """Whether it is read as was asked."""


class Change(_Answer):
    """A reading that moved."""

    label: str
    """A FACS code, `valence`, `arousal`, or a nuisance of the card."""
    start: float = Field(alias="from")
    """Before: intensity of an Action Unit, valence or arousal, or the place between a nuisance's
    ends.
    """
    to: float
    """After, in the same unit."""


class ChangeMap(_Answer):
    """Where the face changed: grey for machines, coloured for people."""

    image: Picture
    """Grey: 0 where nothing changed, brighter where more did."""
    signed: Picture
    """Warm where the face became brighter, cool where darker, over a faint face."""


class JudgeOpinion(_Answer):
    """What an independent network reads of the questioned label before and after."""

    start: float = Field(alias="from")
    """Its reading of the face."""
    to: float
    """Its reading of the changed face."""
    agrees: bool
    """Whether it follows at least half of the way."""


class Trust(_Answer):
    """How far to trust the explanation, and why."""

    level: Literal["high", "medium", "low"]
    """`high`, `medium`: where the card's `trust_levels` say that such answers earned it; `medium`
    also where that was never measured, `low` where it was and no level is earned (see reasons).
    """
    reasons: list[str]
    """Measured reasons in words, the serious ones first."""
    judge: JudgeOpinion | None = None
    """What an independent judge sees; null: nobody independent was asked."""


class PixelShares(_Answer):
    """Integrated Gradients (Sundararajan et al. 2017): which pixels made the decision."""

    image: Picture
    """Warm where pixels speak for a large number, cool where against it."""
    regions: dict[str, float]
    """Signed share by region of the face, in parts of the total size."""


class Alternative(_Answer):
    """Another answer to the same question, by another cause."""

    sentence: str
    """It in words."""
    counterfactual: Counterfactual
    """The face after this change."""
    causes: list[Change]
    """What was moved."""
    changes: list[Change]
    """Readings that moved, the largest first."""
    map: ChangeMap
    """Where the face changed."""
    regions: dict[str, float]
    """Share of the change in each region of the face and outside it."""
    scores: dict[str, float]
    """Measures by name."""
    trust: Trust
    """How far to trust it, and why."""


class ExplainResult(_Answer):
    """One explanation, or its error. All pictures are in the frame of the aligned crop."""

    index: int
    """Place of the picture in the request, from 0."""
    status: Literal["ok", "error"]
    """`ok`: there is an explanation; `error`: there is an error."""
    question: dict[str, Any] | None = None
    """The question as it was understood."""
    sentence: str | None = None
    """The answer in words."""
    box: tuple[float, float, float, float] | None = None
    """The face: x, y, width, height in px of the picture as it stands upright; null for an aligned
    crop.
    """
    factual: Reading | None = None
    """What is read off the face."""
    reconstruction: Reconstruction | None = None
    """The face as the generator alone draws it."""
    counterfactual: Counterfactual | None = None
    """The changed face."""
    causes: list[Change] | None = None
    """What was moved: AUs by intensity, or nuisances by where the face stands between their ends, 0
    and 1.
    """
    changes: list[Change] | None = None
    """Readings that moved, the largest first."""
    map: ChangeMap | None = None
    """Where the face changed."""
    frames: list[Picture] | None = None
    """The way from the face, first, to the changed one, last."""
    regions: dict[str, float] | None = None
    """Share of the change in each region of the face and outside it."""
    attribution: dict[str, float] | None = None
    """How far moving each AU (or nuisance) alone moves the decision as was asked: logits of an AU,
    points of valence or arousal.
    """
    integrated_gradients: PixelShares | None = None
    """Which pixels made the decision, when asked for."""
    scores: dict[str, float] | None = None
    """Measures by name: validity_margin, identity, realism, stability, support, proximity, sparsity
    and others. realism is of the counterfactual, realism_before of the face that was sent; no rule
    of trust reads the second.
    """
    trust: Trust | None = None
    """How far to trust it, and why."""
    alternatives: list[Alternative] | None = None
    """As many of the other answers asked for as differ."""
    error: RowProblem | None = None
    """Why there is no explanation."""


class ExplainAnswer(_Answer):
    """Answers in the order of the pictures."""

    model: ModelName
    """The model that answered."""
    results: list[ExplainResult]
    """One a picture, in the order of the request."""


class Health(_Answer):
    """The process lives."""

    status: Literal["ok"]
    """Always `ok`."""


class VersionReadiness(_Answer):
    """For each operation of a version whether it has a worker that is ready."""

    name: str
    """Name of the model."""
    version: str
    """Its version."""
    operations: dict[str, bool]
    """By operation: whether a worker is ready."""


class Readiness(_Answer):
    """Whether requests would be served."""

    ready: bool
    """An operation of the default version has a worker that is ready, and nobody is shutting
    down.
    """
    draining: bool
    """The gateway finishes what it has and takes nothing more."""
    operations: dict[str, bool]
    """The same as `versions` says of the default version."""
    versions: list[VersionReadiness]
    """Every version that is open."""


class Progress(_Answer):
    """How far a job is."""

    done: int = Field(ge=0)
    """Pictures or items that are done."""
    of: int = Field(ge=1)
    """Pictures or items in all."""


class Link(_Answer):
    """Where something is."""

    href: str
    """A path of this gateway."""


class WebhookState(_Answer):
    """Who is called when the job ends, and whether that happened."""

    url: str
    """The address that is called."""
    status: Literal["waiting", "delivered", "failed"]
    """`failed`: it was tried for as long as the settings say."""


class JobDocument(_Answer):
    """A request whose answer is fetched later. Times are ISO 8601 in UTC."""

    id: str
    """Its name, which cannot be guessed."""
    status: Literal["queued", "running", "done", "failed", "cancelled", "expired"]
    """How it stands."""
    operation: Literal["predict", "generate", "explain"]
    """What was asked."""
    created: str
    """When it was asked."""
    started: str | None
    """When it was begun."""
    finished: str | None
    """When it ended."""
    expires: str
    """From then on there is no answer."""
    progress: Progress
    """How far it is."""
    attempts: int
    """Gateways that began it; more than one when one of them ended."""
    href: str
    """Where this document is."""
    result: Link | None
    """Where the answer is, when the job is done."""
    error: "ProblemBody | None"
    """Why the job failed."""
    webhook: WebhookState | None
    """Who is called when it ends."""
    kept_in: Literal["memory", "redis"]
    """Where it waits; memory: lost when the gateway stops."""
    note: str
    """What the caller should know of it, in words."""


class ProblemBody(_Answer):
    """RFC 9457, with a request id, a stable code, and every faulty field."""

    type: str
    """URI of the kind of problem: `urn:affectgan:problem:` and the code."""
    title: str
    """The kind of problem in words."""
    status: int
    """The HTTP status."""
    detail: str
    """What is wrong here, and what would do."""
    instance: str
    """The path that was asked for."""
    request_id: str
    """Name of this request in the operator's log."""
    code: str
    """Stable name of the kind of problem."""
    errors: list[dict[str, Any]]
    """Each faulty field: `field`, `value`, `message`."""
