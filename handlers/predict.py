"""TorchServe handler: reads faces."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from affect.allocator import keep_freed_memory
from affect.archive import Context, device_of, folder_of, settings_of
from affect.batches import predict
from affect.factory import load_model
from affect.protocol.messages import PredictRequest, PredictResponse
from affect.protocol.torchserve_batch import RequestBatch, row_ranges
from affect.rows import take_rows
from affect.runtime import choose_runtime


class PredictHandler:
    """All faces of all requests of a batch share forward passes."""

    def initialize(self, context: Context) -> None:
        """Load the archive's model and run it: every size of forward pass on a GPU, the smallest on
        a processor, where a first pass costs little more than others.

        Raises CardError when they do not fit.
        """
        self.settings = settings_of(context, "predict")
        torch.set_num_threads(self.settings.threads)
        keep_freed_memory()
        folder = folder_of(context)
        self.model = load_model(folder, device=device_of(context))
        choose_runtime(self.model, folder, self.settings.runtime, threads=self.settings.threads)
        side = self.model.card.image_px
        sizes = self.settings.batch_faces
        for faces in sizes[:1] if self.model.platt.device.type == "cpu" else sizes:
            self.run([PredictRequest(np.zeros((faces, side, side, 3), dtype=np.uint8))])

    def handle(self, data: Sequence[Mapping[str, Any]], context: Context) -> list[bytes]:
        """One body for each place of the batch.

        A request that is not for this model gets a 400 of its own, its neighbours succeed.
        """
        return RequestBatch.parse(PredictRequest, data, context, self.model.card).respond(self.run)

    def run(self, requests: list[PredictRequest]) -> list[PredictResponse]:
        """The readings of the faces of each request."""
        crops = np.concatenate([request.crops for request in requests])
        read = predict(self.model, crops, self.settings.batch_faces)
        return [PredictResponse(take_rows(read, part)) for part in row_ranges(map(len, requests))]
