"""The provenance claim of a generated picture, and its C2PA manifest.

C2PA 2.2 (https://spec.c2pa.org): the first action says whether a picture was created or opened;
digital source types are IPTC's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from affect.card import ModelCard
from affect.version import __version__

MODEL_LABEL = "org.affectgan.model"  # of the assertion that names the model
GENERATOR = "AffectGAN"
PARENT = "photograph"  # names the ingredient in the action that opened it
IPTC = "http://cv.iptc.org/newscodes/digitalsourcetype/"
DRAWN, EDITED = f"{IPTC}trainedAlgorithmicMedia", f"{IPTC}compositeWithTrainedAlgorithmicMedia"

Kind = Literal["drawn", "edited", "cropped"]


@dataclass(frozen=True)
class Claim:
    """What made a picture.

    `drawn` from nothing, `edited` by the model from a photograph (or from another picture of a
    person), or only `cropped`: the first frame of an explanation is the face that was sent.
    """

    model: str
    version: str
    digest: str  # SHA-256 of the weights, hexadecimal
    kind: Kind = "drawn"
    seed: int | None = None

    @classmethod
    def of(cls, card: ModelCard, kind: Kind, seed: int | None = None) -> Self:
        """That the model of a card made it."""
        return cls(card.name, card.version, card.digest, kind, seed)

    @property
    def by_ai(self) -> bool:
        """Whether a model made or changed it."""
        return self.kind != "cropped"

    @property
    def about(self) -> Mapping[str, str]:
        """The same for people who read the file's own metadata."""
        seed = {} if self.seed is None else {"seed": str(self.seed)}
        return {"model": self.model, "version": self.version, **seed}

    def manifest(self, *, parent_given: bool) -> dict[str, Any]:
        """As c2pa's Builder takes it. With `parent_given` the ingredient is added as a file."""
        stub = {"title": PARENT, "relationship": "parentOf", "label": PARENT}
        opened = self.kind != "drawn"
        return {
            "claim_generator_info": [{"name": GENERATOR, "version": __version__}],
            "title": "synthetic face" if self.by_ai else "aligned face",
            "ingredients": [stub] if opened and not parent_given else [],
            "assertions": [
                {"label": "c2pa.actions.v2", "data": {"actions": self._actions()}},
                {
                    "label": MODEL_LABEL,
                    "data": {
                        "name": self.model,
                        "version": self.version,
                        "digest": self.digest,
                        "kind": self.kind,
                    },
                },
            ],
        }

    def _actions(self) -> list[dict[str, Any]]:
        agent = {"name": f"{GENERATOR} {self.model}", "version": self.version}
        watermarked = {"action": "c2pa.watermarked.unbound"}
        if self.kind == "drawn":
            created = {
                "action": "c2pa.created",
                "digitalSourceType": DRAWN,
                "softwareAgent": agent,
            }
            return [created, watermarked]
        opened: list[dict[str, Any]] = [
            {"action": "c2pa.opened", "parameters": {"ingredientIds": [PARENT]}},
            {"action": "c2pa.cropped", "description": "to the aligned face"},
        ]
        if self.kind == "cropped":
            return opened
        edited = {
            "action": "c2pa.edited",
            "description": "expression changed by a model",
            "digitalSourceType": EDITED,
            "softwareAgent": agent,
        }
        return [*opened, edited, watermarked]
