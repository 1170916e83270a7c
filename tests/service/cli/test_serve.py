"""What `affectgan serve` refuses before anything heavy starts, and what it does once it has."""

import asyncio
import gc
import socket
import tempfile
from pathlib import Path

import pytest
import uvicorn
from click import ClickException
from click.testing import CliRunner
from fastapi import FastAPI

from service.cli.serve import serve
from service.cli.server import GatewayServer, listen
from service.settings import check_names
from tests.support.programs import command, started
from tests.support.tiny import tiny_run
from tests.support.waiting import LIMIT_SECONDS, until
from training.archive import write_archives

pytestmark = pytest.mark.processes


def test_a_port_in_use_is_reported_with_a_remedy() -> None:
    taken = listen("127.0.0.1", 0)
    with pytest.raises(ClickException, match="in use; stop what uses it or give another --port"):
        listen("127.0.0.1", taken.getsockname()[1])
    taken.close()


def test_a_folder_without_archives_is_reported_with_a_remedy(tmp_path: Path) -> None:
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
def test_settings_that_cannot_be_used_are_reported_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str, value: str, words: str
) -> None:
    write_archives(tiny_run(tmp_path / "run"), tmp_path / "models")
    monkeypatch.setenv(f"AFFECTGAN_{field}", value)
    result = CliRunner().invoke(serve, ["--models", str(tmp_path / "models"), "--port", "0"])
    assert result.exit_code == 1 and words in result.output


def test_two_folders_with_the_same_version_are_reported_before_anything_starts(
    tmp_path: Path,
) -> None:
    for folder in (tmp_path / "a", tmp_path / "b"):
        write_archives(tiny_run(tmp_path / "run"), folder)
    result = CliRunner().invoke(
        serve, ["--models", str(tmp_path / "a"), "--models", str(tmp_path / "b"), "--port", "0"]
    )
    assert "both hold affectgan 1.0: archive one with another --version" in str(result.exception)


async def test_objects_of_the_start_are_frozen_for_the_garbage_collector() -> None:
    gc.unfreeze()  # what an earlier test's server froze would not be counted again
    server = GatewayServer(uvicorn.Config(FastAPI(), log_level="warning"), drain_seconds=0)
    serving = asyncio.create_task(server.serve(sockets=[listen("127.0.0.1", 0)]))
    while not server.started:
        await asyncio.sleep(0.01)
    assert gc.get_freeze_count() > 10_000
    server.should_exit = True
    await serving
    gc.unfreeze()


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("AFFECTGAN_QUOTA_REQUEST", "AFFECTGAN_QUOTA_REQUESTS"),
        ("AFFECTGAN_KEYSFILE", "AFFECTGAN_KEYS_FILE"),
    ],
)
def test_a_misspelt_setting_is_refused_with_the_nearest_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, nearest: str
) -> None:
    monkeypatch.setenv(name, "100")
    result = CliRunner().invoke(serve, ["--models", str(tmp_path)])
    assert result.exit_code == 1
    assert f"{name} is no setting; the nearest is {nearest}\n" in result.output


def test_a_misspelt_file_of_the_secret_is_refused_too(tmp_path: Path) -> None:
    (tmp_path / "affectgan_job_key").write_text("secret")
    with pytest.raises(ValueError, match=r"AFFECTGAN_JOB_KEY is no setting.*AFFECTGAN_JOBS_KEY"):
        check_names({"AFFECTGAN_SECRETS_DIR": str(tmp_path)})


def test_what_kubernetes_sets_for_a_service_is_no_misspelt_setting() -> None:
    check_names(
        {
            "AFFECTGAN_SERVICE_HOST": "10.0.0.1",
            "AFFECTGAN_SERVICE_PORT_HTTP": "80",
            "AFFECTGAN_PORT": "tcp://10.0.0.1:80",
            "AFFECTGAN_REDIS_PORT_6379_TCP_ADDR": "10.0.0.2",
        }
    )


def test_a_bad_address_of_redis_is_reported_first_and_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFFECTGAN_REDIS_URL", "http://:hunter2@redis:6379")
    result = CliRunner().invoke(serve, ["--models", str(tmp_path)])
    assert result.exit_code == 1 and "redis_url is no address of a Redis" in result.output
    assert "hunter2" not in result.output and "starting" not in result.output


def test_a_metrics_port_that_is_the_gateways_own_is_reported_before_anything_starts(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    monkeypatch.setenv("AFFECTGAN_METRICS_PORT", port)
    result = CliRunner().invoke(serve, ["--models", str(models), "--port", port])
    assert result.exit_code == 1 and "give another AFFECTGAN_METRICS_PORT" in result.output


def test_sigterm_during_the_start_ends_it_and_leaves_no_folder(models: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="ag-", dir="/tmp") as name:  # short: sockets lie there
        folder = Path(name)
        arguments = command("serve", "--models", models, "--port", 0)
        with started(arguments, {"TMPDIR": name}) as program:
            until(lambda: list(folder.glob("affectgan-torchserve-*")), LIMIT_SECONDS)
            program.process.terminate()
            assert program.ended() == 0, "".join(program.lines)
        assert not any("serving on" in line for line in program.lines)
        assert not list(folder.glob("affectgan-torchserve-*"))
