"""The Facial Action Coding System's catalogue: the only file that spells Action Units.

Names, muscles and regions after Ekman, Friesen & Hager, "Facial Action Coding System" (2002). A
data set or a model names a subset of these codes as its vocabulary (`affect.labels.Vocabulary`).
"""

from dataclasses import dataclass
from enum import StrEnum


class Region(StrEnum):
    """Where on the face an Action Unit shows; the regions over which an explanation shares out its
    change.
    """

    BROW = "brow"
    EYE = "eye"
    CHEEK = "cheek"
    NOSE = "nose"
    MOUTH = "mouth"
    CHIN = "chin"


@dataclass(frozen=True)
class CatalogueEntry:
    """One Action Unit: FACS code, FACS name, the muscles that make it, the region where it
    shows.
    """

    code: str
    name: str
    muscles: tuple[str, ...]
    region: Region

    @property
    def number(self) -> int:
        """The FACS number: 12 for "AU12"."""
        return int(self.code.removeprefix("AU"))


def _units() -> tuple[CatalogueEntry, ...]:
    brow, eye, cheek, nose, mouth, chin = Region
    return (
        CatalogueEntry("AU1", "inner brow raiser", ("frontalis, pars medialis",), brow),
        CatalogueEntry("AU2", "outer brow raiser", ("frontalis, pars lateralis",), brow),
        CatalogueEntry(
            "AU4", "brow lowerer", ("corrugator supercilii", "depressor supercilii"), brow
        ),
        CatalogueEntry("AU5", "upper lid raiser", ("levator palpebrae superioris",), eye),
        CatalogueEntry("AU6", "cheek raiser", ("orbicularis oculi, pars orbitalis",), cheek),
        CatalogueEntry("AU7", "lid tightener", ("orbicularis oculi, pars palpebralis",), eye),
        CatalogueEntry("AU9", "nose wrinkler", ("levator labii superioris alaeque nasi",), nose),
        CatalogueEntry("AU10", "upper lip raiser", ("levator labii superioris",), mouth),
        CatalogueEntry("AU11", "nasolabial deepener", ("zygomaticus minor",), cheek),
        CatalogueEntry("AU12", "lip corner puller", ("zygomaticus major",), mouth),
        CatalogueEntry("AU14", "dimpler", ("buccinator",), mouth),
        CatalogueEntry("AU15", "lip corner depressor", ("depressor anguli oris",), mouth),
        CatalogueEntry("AU16", "lower lip depressor", ("depressor labii inferioris",), mouth),
        CatalogueEntry("AU17", "chin raiser", ("mentalis",), chin),
        CatalogueEntry("AU18", "lip pucker", ("incisivii labii",), mouth),
        CatalogueEntry("AU20", "lip stretcher", ("risorius",), mouth),
        CatalogueEntry("AU22", "lip funneler", ("orbicularis oris",), mouth),
        CatalogueEntry("AU23", "lip tightener", ("orbicularis oris",), mouth),
        CatalogueEntry("AU24", "lip pressor", ("orbicularis oris",), mouth),
        CatalogueEntry(
            "AU25", "lips part", ("depressor labii inferioris", "relaxed mentalis"), mouth
        ),
        CatalogueEntry("AU26", "jaw drop", ("relaxed masseter",), chin),
        CatalogueEntry("AU27", "mouth stretch", ("pterygoids", "digastric"), chin),
        CatalogueEntry("AU28", "lip suck", ("orbicularis oris",), mouth),
        CatalogueEntry("AU43", "eyes closed", ("relaxed levator palpebrae superioris",), eye),
        CatalogueEntry("AU45", "blink", ("relaxed levator palpebrae superioris",), eye),
    )


CATALOGUE: dict[str, CatalogueEntry] = {unit.code: unit for unit in _units()}


# AUs of paired muscles that people show on one side alone (FACS manual: scored L and R).
ONE_SIDED = frozenset(
    {"AU1", "AU2", "AU4", "AU6", "AU7", "AU10", "AU12", "AU14", "AU15", "AU20", "AU43"}
)


def codes(*numbers: int) -> tuple[str, ...]:
    """FACS codes for FACS numbers: codes(1, 2) == ("AU1", "AU2")."""
    return tuple(f"AU{number}" for number in numbers)


LABEL_SETS: dict[str, tuple[str, ...]] = {
    # The seed paper's code (FaceMotion) and the 2020 release of Aff-Wild2.
    "seed": codes(1, 2, 4, 6, 12, 15, 20, 25),
    "affwild2": codes(1, 2, 4, 6, 7, 10, 12, 15, 23, 24, 25, 26),
    "disfa": codes(1, 2, 4, 5, 6, 9, 12, 15, 17, 20, 25, 26),
    "bp4d": codes(1, 2, 4, 6, 7, 10, 12, 14, 15, 17, 23, 24),
    "emotionet": codes(1, 2, 4, 5, 6, 9, 12, 17, 20, 25, 26, 43),
    # What the rendered heads can show.
    "rendered": codes(1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 24, 25, 26, 43),
}
