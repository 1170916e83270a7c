"""TorchServe handler: explains readings."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from affect.archive import Context, device_of, folder_of, settings_of
from affect.counterfactual import Question, explain
from affect.factory import load_model
from affect.judge import JUDGE_FILE, Judge
from affect.protocol.explanations import answer_of, questions_of, spread
from affect.protocol.messages import ANY_LABEL, ExplainRequest, ExplainResponse
from affect.protocol.torchserve_batch import RequestBatch, row_ranges


class ExplainHandler:
    """The questions of all jobs of a batch are searched together."""

    def initialize(self, context: Context) -> None:
        """Load the archive's model, and its judge if it has one, and explain once.

        Raises CardError or JudgeError when they do not fit.
        """
        self.settings = settings_of(context, "explain")
        torch.set_num_threads(self.settings.threads)
        folder, device = folder_of(context), device_of(context)
        self.model = load_model(folder, device=device)
        self.judge = Judge.load(folder, device=device) if (folder / JUDGE_FILE).is_file() else None
        side = self.model.card.image_px
        self.run(
            [
                ExplainRequest.of(
                    np.zeros((1, side, side, 3), dtype=np.uint8), ANY_LABEL, np.nan, gradients=True
                )
            ]
        )

    def handle(self, data: Sequence[Mapping[str, Any]], context: Context) -> list[bytes]:
        """One answer per job.

        A job that is not for this model gets a 400 of its own, its neighbours succeed.
        """
        return RequestBatch.parse(ExplainRequest, data, context, self.model.card).respond(self.run)

    def run(self, requests: list[ExplainRequest]) -> list[ExplainResponse]:
        """An explanation or an error for every row of every request."""
        card, frames = self.model.card, self.settings.frames
        crops = np.concatenate([request.crops for request in requests])
        rows = [row for request in requests for row in questions_of(request, card)]
        asked = {place: row for place, row in enumerate(rows) if isinstance(row, Question)}
        gradients = (
            np.concatenate([request.gradients for request in requests])
            .astype(bool)[list(asked)]
            .tolist()
        )
        explained = explain(
            self.model,
            crops[list(asked)],
            list(asked.values()),
            frames=frames,
            integrated_gradients=gradients,
            judge=self.judge,
        )
        answers = spread(rows, explained)
        return [
            answer_of(answers[start:stop], card, frames)
            for start, stop in row_ranges(map(len, requests))
        ]
