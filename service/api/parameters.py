"""Parts of paths and queries that several routes have, each described once."""

from typing import Annotated

from fastapi import Path, Query

ModelName = Annotated[str, Path(description="name of a served model")]
TensorModel = Annotated[
    str, Path(description="a served model and an operation, such as `affectgan-predict`")
]
VersionPath = Annotated[str, Path(description="a version of the model that is open")]
OptionalVersion = Annotated[
    str | None, Query(description="a version that is open; left out: the default one")
]
JobId = Annotated[str, Path(description="`id` of the job's document")]
