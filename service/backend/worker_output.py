"""Why a worker died, read from its output as TorchServe logs it.

TorchServe reads each worker's output in a thread of its own and prefixes every line with the
thread's name, so that the lines of workers can be separated. It reports that a model does not load
before it has passed on all that the worker wrote about it; the thread itself says when it has come
to the end.
"""

import re
from collections.abc import Sequence
from itertools import takewhile

_FAILED = re.compile(r"\w+ +(?P<worker>W-\S+) Load model failed")
_ENDED = "Stopped Scanner - {worker}-stdout"
MOST_LINES = 40


def failed_worker(lines: Sequence[str]) -> str | None:
    """The first worker that could not load its model and whose output has come to its end."""
    for line in lines:
        if (match := _FAILED.match(line)) and any(
            line.endswith(_ENDED.format(worker=match["worker"])) for line in lines
        ):
            return match["worker"]
    return None


def failure_of(worker: str, lines: Sequence[str]) -> str:
    """The error that ended a worker in one line, and the traceback that led to it below.

    Without a traceback, as of a process that was killed: the last lines that it wrote. TorchServe
    starts a worker of the same name anew; what that one writes is not read.
    """
    end = _ENDED.format(worker=worker)
    written = list(takewhile(lambda line: not line.endswith(end), lines))
    prefix = re.compile(rf"\w+ +{re.escape(worker)}-std(out|err) ")
    output = [prefix.sub("", line) for line in written if prefix.match(line)]
    starts = [number for number, line in enumerate(output) if line.startswith("Traceback (most")]
    if not starts:
        last = "\n".join(output[-MOST_LINES:])
        return f"its worker {worker} ended without an error of its own:\n{last}"
    cause = next((line for line in output[starts[-1] + 1 :] if not line.startswith(" ")), "")
    return "\n".join([cause, *output[starts[0] :][-MOST_LINES:]])
