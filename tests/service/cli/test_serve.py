"""What `affectgan serve` refuses before anything heavy starts, and what it does once it has."""

import asyncio
import gc
from pathlib import Path

import pytest
import uvicorn
from click import ClickException
from click.testing import CliRunner
from fastapi import FastAPI

from service.cli.serve import serve
from service.cli.server import GatewayServer, listen
from tests.support.tiny import tiny_run
from training.archive import write_archives


def test_a_port_in_use_is_said_with_a_remedy() -> None:
    taken = listen("127.0.0.1", 0)
    with pytest.raises(ClickException, match="in use; stop what uses it or give another --port"):
        listen("127.0.0.1", taken.getsockname()[1])
    taken.close()


def test_a_folder_without_archives_is_said_with_a_remedy(tmp_path: Path) -> None:
    result = CliRunner().invoke(serve, ["--models", str(tmp_path), "--port", "0"])
    assert isinstance(result.exception, ValueError) and "affectgan archive RUN" in str(
        result.exception
    )


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("JOBS_KEY", "short", "not base64: give 32 random bytes"),
        ("JOBS_KEY", "c2hvcnQ=", "has 5 bytes: give 32 random bytes"),
        ("WEBHOOK_TARGETS", "hooks.example.org", "AFFECTGAN_WEBHOOK_SECRET is missing"),
    ],
)
def test_settings_that_cannot_be_used_are_said_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str, value: str, words: str
) -> None:
    write_archives(tiny_run(tmp_path / "run"), tmp_path / "models")
    monkeypatch.setenv(f"AFFECTGAN_{field}", value)
    result = CliRunner().invoke(serve, ["--models", str(tmp_path / "models"), "--port", "0"])
    assert result.exit_code == 1 and words in result.output


def test_two_folders_with_the_same_version_are_said_before_anything_starts(tmp_path: Path) -> None:
    for folder in (tmp_path / "a", tmp_path / "b"):
        write_archives(tiny_run(tmp_path / "run"), folder)
    result = CliRunner().invoke(
        serve, ["--models", str(tmp_path / "a"), "--models", str(tmp_path / "b"), "--port", "0"]
    )
    assert "both hold affectgan 1.0: archive one with another --version" in str(result.exception)


async def test_what_is_there_at_the_start_is_not_searched_for_garbage_again() -> None:
    gc.unfreeze()  # what an earlier test's server froze would not be counted again
    server = GatewayServer(uvicorn.Config(FastAPI(), log_level="warning"), drain_seconds=0)
    serving = asyncio.create_task(server.serve(sockets=[listen("127.0.0.1", 0)]))
    while not server.started:
        await asyncio.sleep(0.01)
    assert gc.get_freeze_count() > 10_000
    server.should_exit = True
    await serving
    gc.unfreeze()
