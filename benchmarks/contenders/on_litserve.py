"""LitServe: decoding, batching and encoding in the places that it has for them.

The picture comes in JSON, as its guides have it.
"""

import base64
import os
import sys
from typing import Any

import litserve

from benchmarks.contenders.reader import BATCH, BATCH_SECONDS, WORKERS, AlignedFace, Reader


class Reading(litserve.LitAPI):  # type: ignore[misc]
    """One reading for each picture."""

    def setup(self, device: str) -> None:
        """Load the model."""
        self.reader = Reader()

    def decode_request(self, request: dict[str, str]) -> AlignedFace:
        """Base64 to an aligned face."""
        return self.reader.find(base64.b64decode(request["content"]))

    def batch(self, inputs: list[AlignedFace]) -> list[AlignedFace]:
        """As they are."""
        return list(inputs)

    def predict(self, batch: list[AlignedFace]) -> list[dict[str, Any]]:
        """One forward pass."""
        return self.reader.read(batch)

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """As they are."""
        return output


if __name__ == "__main__":
    api = Reading(max_batch_size=BATCH, batch_timeout=BATCH_SECONDS)
    litserve.LitServer(
        api, accelerator="cpu", workers_per_device=int(os.environ.get(WORKERS, "1"))
    ).run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
    )
