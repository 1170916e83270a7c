"""The training benchmark measures the step that trains."""

from dataclasses import replace

from benchmarks.training import row
from training.gan.config import preset


def test_a_preset_has_a_row_with_both_rates_and_its_memory() -> None:
    line = row(replace(preset("smoke"), batch_pairs=4, penalty_rows=4), seconds=0.01, threads=1)
    name, side, step, before, after, memory = (cell.strip() for cell in line.strip("|").split("|"))
    assert (name, side, step) == ("smoke", "32 px", "8 pictures")
    assert float(before) > 0 and float(after) > 0 and memory.endswith("GiB")
