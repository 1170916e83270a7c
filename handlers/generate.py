"""TorchServe handler: draws faces."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from affect.allocator import keep_freed_memory
from affect.archive import Context, device_of, folder_of, settings_of
from affect.batches import generate
from affect.factory import load_model
from affect.protocol.messages import NO_REFERENCE, GenerateRequest, GenerateResponse
from affect.protocol.torchserve_batch import RequestBatch
from affect.runtime import choose_runtime


class GenerateHandler:
    """Every face is its own forward pass: the same seed gives the same bytes in any batch."""

    def initialize(self, context: Context) -> None:
        """Load the archive's model and draw once each way.

        Raises CardError when they do not fit.
        """
        self.settings = settings_of(context, "generate")
        torch.set_num_threads(self.settings.threads)
        keep_freed_memory()
        folder = folder_of(context)
        self.model = load_model(folder, device=device_of(context))
        choose_runtime(
            self.model,
            folder,
            self.settings.runtime,
            threads=self.settings.threads,
            drawing=self.settings.drawing,
        )
        side, labels = self.model.card.image_px, len(self.model.card.labels_of.names)
        unconstrained, seeds = np.full((2, labels), np.nan, np.float32), np.zeros(2, np.int64)
        blank = np.zeros((1, side, side, 3), dtype=np.uint8)
        reference_of = np.array([NO_REFERENCE, 0], np.int32)
        self.run([GenerateRequest(unconstrained, seeds, blank, reference_of)])

    def handle(self, data: Sequence[Mapping[str, Any]], context: Context) -> list[bytes]:
        """One body for each place of the batch.

        A request that is not for this model gets a 400 of its own, its neighbours succeed.
        """
        return RequestBatch.parse(GenerateRequest, data, context, self.model.card).respond(self.run)

    def run(self, requests: list[GenerateRequest]) -> list[GenerateResponse]:
        """The faces that each request asks for; rows that cannot be drawn carry their error."""
        return [self.draw(request) for request in requests]

    def draw(self, request: GenerateRequest) -> GenerateResponse:
        """The faces of one request.

        A row with an error is drawn without requested labels; its picture is ignored.
        """
        errors = request.faults(self.model.card)
        labels, reference_of = request.labels.copy(), request.reference_of.copy()
        labels[list(errors)], reference_of[list(errors)] = np.nan, NO_REFERENCE
        images, requested, measured = generate(
            self.model, labels, request.seeds, request.references, reference_of
        )
        return GenerateResponse(images, requested, measured, errors=errors)
