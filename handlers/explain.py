"""TorchServe handler: explains readings."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from affect.allocator import keep_freed_memory
from affect.archive import Context, device_of, folder_of, settings_of
from affect.counterfactual import CounterfactualQuestion, explain
from affect.factory import load_model
from affect.judge import Judge
from affect.model_folders import JUDGE_FILE
from affect.protocol.explanations import (
    questions_from_request,
    response_from_results,
    results_by_row,
)
from affect.protocol.messages import ANY_LABEL, ExplainRequest, ExplainResponse
from affect.protocol.torchserve_batch import RequestBatch, row_ranges


class ExplainHandler:
    """The questions of all requests of a batch are searched together."""

    def initialize(self, context: Context) -> None:
        """Load the archive's model, and its judge if it has one; on a GPU explain once, since the
        first pass is much slower there.

        Raises CardError or JudgeError when they do not fit.
        """
        self.settings = settings_of(context, "explain")
        torch.set_num_threads(self.settings.threads)
        keep_freed_memory()
        folder, device = folder_of(context), device_of(context)
        self.model = load_model(folder, device=device)
        # As `AffectModel.to_pixels` lays faces out; it halves a pass in bfloat16 on a processor.
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.judge = Judge.load(folder, device=device) if (folder / JUDGE_FILE).is_file() else None
        if self.model.platt.device.type == "cpu":
            return
        side = self.model.card.image_px
        blank = np.zeros((1, side, side, 3), dtype=np.uint8)
        self.run([ExplainRequest.of(blank, ANY_LABEL, np.nan, gradients=True)])

    def handle(self, data: Sequence[Mapping[str, Any]], context: Context) -> list[bytes]:
        """One body for each place of the batch.

        A request that is not for this model gets a 400 of its own, its neighbours succeed.
        """
        return RequestBatch.parse(ExplainRequest, data, context, self.model.card).respond(self.run)

    def run(self, requests: list[ExplainRequest]) -> list[ExplainResponse]:
        """An explanation or an error for every row of every request."""
        card, frames = self.model.card, self.settings.frames
        crops = np.concatenate([request.crops for request in requests])
        gradients = np.concatenate([request.gradients for request in requests]).astype(bool)
        rows = [row for request in requests for row in questions_from_request(request, card)]
        questions = {
            index: row for index, row in enumerate(rows) if isinstance(row, CounterfactualQuestion)
        }
        explained = explain(
            self.model,
            crops[list(questions)],
            list(questions.values()),
            frames=frames,
            integrated_gradients=gradients[list(questions)].tolist(),
            judge=self.judge,
        )
        results = results_by_row(rows, explained)
        return [
            response_from_results(results[part], card, frames)
            for part in row_ranges(map(len, requests))
        ]
