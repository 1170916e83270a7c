"""The data card: what a database holds, where it comes from and how it was labelled, in
`data.json`.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from affect.labels import Vocabulary

CARD_FILE = "data.json"
FORMAT = 1


class DataError(ValueError):
    """A database that cannot be read or written as asked: says which file and what to do."""


class DataCard(BaseModel):
    """One database. Written once when it is begun."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = FORMAT
    name: str
    vocabulary: tuple[str, ...]
    image_px: int = Field(ge=16, description="side of the stored aligned crops")
    sources: tuple[str, ...]
    licence: str
    positive_intensity: float = Field(
        default=0.3, gt=0, le=1, description="an AU counts as present from this intensity on"
    )
    labelled: str = Field(default="", description="how the labels came about")
    seed: int | None = Field(default=None, description="of rendered data")
    twins: int | None = Field(default=None, description="of rendered data: states a sitting")
    renderer: str = Field(
        default="", description="of rendered data: digest of the code and shapes that drew it"
    )
    teacher: str = Field(
        default="", description="of photographs: what their pseudo-labels were predicted by"
    )

    affect_rule: str = Field(
        default="", description="of rendered data: the rule that says valence and arousal"
    )

    @field_validator("vocabulary")
    @classmethod
    def _known(cls, codes: tuple[str, ...]) -> tuple[str, ...]:
        return Vocabulary(codes).aus

    def save(self, folder: Path) -> None:
        """Write data.json into the folder."""
        (folder / CARD_FILE).write_text(self.model_dump_json(indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> "DataCard":
        """Read data.json. Raises DataError when it is missing or of another format."""
        path = folder / CARD_FILE
        if not path.is_file():
            raise DataError(
                f"{folder} is not a database: {CARD_FILE} is missing; make one with "
                "`affectgan data render` or `data import`"
            )
        try:
            card = cls.model_validate_json(path.read_bytes())
        except ValueError as error:
            raise DataError(f"{path} is not a data card: {error}") from error
        if card.format != FORMAT:
            raise DataError(
                f"{path} has format {card.format}; this version reads format {FORMAT}: "
                "make the database again"
            )
        return card
