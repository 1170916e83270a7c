"""Why a worker died, from lines as TorchServe prints them."""

import pytest

from service.backend.worker_output import failed_worker, failure_of

WORKER = "W-9002-affectgan-explain_1.0"
FAILED = f"WARN  {WORKER} Load model failed: affectgan-explain, error: Worker died."
ENDED = f"INFO  {WORKER}-stdout Stopped Scanner - {WORKER}-stdout"


def printed(*lines: str, by: str = WORKER) -> list[str]:
    return [f"INFO  {by}-stdout {line}" for line in lines]


def test_a_worker_has_failed_once_its_output_is_read_to_its_end() -> None:
    lines = [*printed("loading"), FAILED]
    assert failed_worker(lines) is None
    assert failed_worker([*lines, ENDED]) == WORKER
    assert failed_worker([ENDED, *lines]) == WORKER


@pytest.mark.parametrize("line", [ENDED, FAILED])
def test_neither_the_end_nor_the_failure_alone_is_enough(line: str) -> None:
    assert failed_worker([line]) is None


def test_the_cause_comes_first_and_lines_of_neighbours_are_left_out() -> None:
    traceback = [
        "Traceback (most recent call last):",
        '  File "card.py", line 1, in load',
        "KeyError: 'digest'",
        "During handling of the above exception, another exception occurred:",
        "Traceback (most recent call last):",
        '  File "explain.py", line 9, in initialize',
        "affect.card.CardError: the digest differs",
    ]
    lines = [
        *printed("starting", *traceback[:2]),
        *printed("Traceback (most recent call last):", by="W-9000-affectgan-predict_1.0"),
        *printed(*traceback[2:]),
        FAILED,
        ENDED,
    ]
    assert failure_of(WORKER, lines).split("\n") == [traceback[-1], *traceback]


def test_what_the_next_worker_of_that_name_writes_does_not_hide_the_cause() -> None:
    first = ["Traceback (most recent call last):", '  File "x.py"', "CardError: the digest differs"]
    again = printed("loading", "Traceback (most recent call last):", '  File "x.py"')
    assert failure_of(WORKER, [*printed(*first), FAILED, ENDED, *again]).startswith(first[-1])


def test_a_worker_that_was_killed_is_shown_with_what_it_wrote() -> None:
    failure = failure_of(WORKER, [*printed("loading", "out of memory"), FAILED, ENDED])
    assert "without an error of its own" in failure
    assert failure.endswith("loading\nout of memory")
