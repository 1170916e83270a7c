"""BentoML: a batchable API. The picture comes in JSON."""

import base64
import os
from typing import Any

import bentoml

from benchmarks.contenders.reader import BATCH, WORKERS, Reader

# its batching refuses requests that it expects to take longer; none is to be refused here
MOST_MS = 10_000


@bentoml.service(workers=int(os.environ.get(WORKERS, "1")), traffic={"timeout": 60})
class Reading:
    """One reading for each picture."""

    def __init__(self) -> None:
        self.reader = Reader()

    @bentoml.api(  # type: ignore[untyped-decorator]
        batchable=True, max_batch_size=BATCH, max_latency_ms=MOST_MS
    )
    def predict(self, contents: list[str]) -> list[dict[str, Any]]:
        """One forward pass."""
        return self.reader.read(
            [self.reader.find(base64.b64decode(content)) for content in contents]
        )
