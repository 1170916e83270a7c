"""The shipped weights are found in a checkout, in an installed wheel, and where the environment
says.
"""

import zipfile
from pathlib import Path

import pytest

from affect.card import CardError
from affect.model_folders import PACKAGE, VARIABLE, model_folder, shipped_weights
from tests.support.tiny import tiny_run

ROOT = Path(__file__).parents[2]


def test_a_checkout_has_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert shipped_weights() == ROOT / "weights"


def test_the_environment_may_name_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, str(tiny_run(tmp_path)))
    assert shipped_weights() == tmp_path / "model"


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(CardError, match=str(tmp_path)):
        model_folder(tmp_path)


@pytest.mark.slow
def test_the_wheel_carries_the_weights(tmp_path: Path) -> None:
    import subprocess
    import sys

    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-w", str(tmp_path), str(ROOT)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {f"{PACKAGE}/card.json", f"{PACKAGE}/weights.safetensors"} <= set(names)
