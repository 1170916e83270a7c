"""Why was this face read so?

The least change to *this* face, drawn by the generator, that changes the reading.

`question` says what may be asked, `search` looks for the change, `measure` quantifies the change,
`verbalization` puts it into words.
"""

from affect.counterfactual.description import Explanation
from affect.counterfactual.explanation import explain
from affect.counterfactual.judge_agreement import JudgeAgreement
from affect.counterfactual.measure import region_masks
from affect.counterfactual.question import CounterfactualQuestion, QuestionError

__all__ = [
    "CounterfactualQuestion",
    "Explanation",
    "JudgeAgreement",
    "QuestionError",
    "explain",
    "region_masks",
]
