"""The arithmetic of the soak: a leak is told from noise, and what failed is counted."""

import numpy as np
import pytest

from benchmarks.overload import Sent
from benchmarks.soak import SoakReport, slope


def samples(mib_a_minute: float, *, seed: int = 0) -> list[tuple[float, float]]:
    """Ten minutes of a process of 500 MiB that wobbles by 2, and fills its cache in the first
    two.
    """
    times = np.arange(0, 600, 5.0)
    filling = 40 * np.minimum(times / 120, 1)
    wobble = np.random.default_rng(seed).normal(0, 2, len(times))
    return list(
        zip(
            times.tolist(),
            (500 + filling + mib_a_minute * times / 60 + wobble).tolist(),
            strict=True,
        )
    )


def test_a_leak_is_found_and_its_interval_holds_it() -> None:
    fitted = slope(samples(1.5), 150)
    assert fitted.grows
    assert abs(fitted.rate - 1.5) <= fitted.margin < 0.5


def test_a_cache_that_fills_while_warming_up_is_no_leak() -> None:
    assert not slope(samples(0.0), 150).grows
    assert slope(samples(0.0), 0).grows


def test_few_samples_give_no_slope() -> None:
    with pytest.raises(ValueError, match="soak for longer"):
        slope(samples(0.0), 540)


def test_the_report_counts_what_failed_and_names_what_grows() -> None:
    report = SoakReport()
    report.requests = [Sent(second, 0.05, 503 if second == 70 else 200) for second in range(600)]
    report.memory = {"gateway": samples(0.0), "worker": samples(3.0)}
    lines = list(report.lines(150))
    assert lines[-1] == "verdict: 1 errors; memory grows: worker"
    assert "| 2 | 60 | 59 | 50 | 50 |" in lines
