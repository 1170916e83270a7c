"""Versions are declared in a file: gateways follow it without losing a request, and keep the last
good one.
"""

import json
import threading
import urllib.request
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

from service.cli.convergence import DeclaredFile
from service.cli.models import models as models_command
from service.inference.declaration import Declaration
from service.inference.routing import RoutingError
from tests.support.archives import tiny_archives
from tests.support.declared_gateway import following
from tests.support.gateway_process import fetch, status
from tests.support.pictures import CROPS, FACE, encoded, packed
from tests.support.waiting import until

pytestmark = pytest.mark.processes

BODY = json.dumps({"images": packed(encoded(FACE)), "options": CROPS}).encode()
GOOD = {"affectgan": {"versions": {"1.0": "/models/1.0"}, "default": "1.0"}}


def served(url: str) -> set[tuple[str, bool]]:
    document, _ = fetch(f"{url}/v1/models")
    return {(one["version"], one["default"]) for one in document["models"]}


def has_moved(url: str) -> bool:
    return served(url) == {("1.1", True)}


def figures(url: str) -> str:
    with urllib.request.urlopen(f"{url}/metrics") as response:
        text: str = response.read().decode()
    return text


class Load:
    """Requests to a gateway, one after the other, and the statuses that they are answered with."""

    def __init__(self, url: str) -> None:
        self.url, self.statuses, self.over = url, list[int](), threading.Event()
        self.thread = threading.Thread(target=self._send)
        self.thread.start()

    def _send(self) -> None:
        while not self.over.is_set():
            self.statuses.append(status(f"{self.url}/v1/predict", BODY))

    def stop(self) -> list[int]:
        self.over.set()
        self.thread.join()
        return self.statuses


def test_two_gateways_change_a_version_under_load_and_lose_nothing(
    models: Path, tmp_path: Path
) -> None:
    newer, file = tiny_archives(tmp_path / "newer", version="1.1"), tmp_path / "versions.yaml"
    Declaration.model_validate(
        {"affectgan": {"versions": {"1.0": str(models)}, "default": "1.0"}}
    ).save(file)
    with following(file, tmp_path) as (first, one), following(file, tmp_path) as (_, two):
        loads = [Load(one), Load(two)]
        swapped = CliRunner().invoke(
            models_command, ["swap", str(newer), "--versions", str(file)], catch_exceptions=False
        )
        assert "1.1 is the default" in swapped.output
        for url in (one, two):
            until(partial(has_moved, url))
        statuses = [load.stop() for load in loads]
        assert all(set(answers) == {200} and len(answers) > 5 for answers in statuses)

        file.write_text("affectgan: {versions: {}, default: '2.0'}")
        until(lambda: "affectgan_declaration_followed 0.0" in figures(one))
        assert served(one) == {("1.1", True)} and status(f"{one}/v1/predict", BODY) == 200
        assert any("the versions stay as they were" in line for line in first.lines)
    with following(file, tmp_path) as (again, url):
        assert served(url) == {("1.1", True)} and "declaration_followed 0.0" in figures(url)
        assert any("serving what was declared before" in line for line in again.lines)


def test_a_start_with_a_bad_file_goes_on_from_the_last_good_one(
    models: Path, tmp_path: Path
) -> None:
    file, kept = tmp_path / "versions.yaml", tmp_path / "kept" / "versions.yaml"
    declared = {"affectgan": {"versions": {"1.0": str(models)}, "default": "1.0"}}
    Declaration.model_validate(declared).save(file)
    opened, folders = DeclaredFile.open(file, kept)
    opened.keep()
    file.write_text("[")
    again, same = DeclaredFile.open(file, kept)
    assert again.declaration == opened.declaration and same == folders == [models]
    assert opened.followed and not again.followed
    with pytest.raises(RoutingError, match="is not YAML"):
        DeclaredFile.open(file, None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("affectgan: {versions: {'1.0': /m}, default: '1.1'}", "'1.1' is routed to and not among"),
        ("affectgan: {default: '1.1'}", "versions: Field required"),
        ("{}", "declares no model"),
        ("[", "is not YAML"),
    ],
)
def test_a_file_that_cannot_be_followed_says_why(text: str, words: str) -> None:
    with pytest.raises(RoutingError, match=words):
        Declaration.parse(text, "versions.yaml")


def test_a_swap_keeps_the_canary_and_drops_the_version_that_was() -> None:
    versions = {"1.0": "/models/1.0", "0.9": "/models/0.9"}
    before = Declaration.model_validate(
        {"affectgan": {"versions": versions, "default": "1.0", "weights": {"1.0": 9, "0.9": 1}}}
    )
    after = before.swapped("affectgan", "1.1", "/models/1.1").root["affectgan"]
    assert after.versions == {"0.9": "/models/0.9", "1.1": "/models/1.1"}
    assert after.default == "1.1" and after.route.shares == {"1.1": 1.0}


def test_what_is_saved_is_what_is_read(tmp_path: Path) -> None:
    declared = Declaration.model_validate(GOOD)
    declared.save(tmp_path / "versions.yaml")
    assert Declaration.parse((tmp_path / "versions.yaml").read_text(), "it") == declared
