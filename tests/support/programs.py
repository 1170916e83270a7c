"""The `affectgan` command in a process of its own, as users run it."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.waiting import LIMIT_SECONDS, until

ROOT = Path(__file__).parents[2]


def command(*arguments: object) -> list[str]:
    """`affectgan` with these arguments, run by this Python."""
    return [sys.executable, "-m", "affect.cli", *map(str, arguments)]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command, ended, with what it printed."""
    return subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        env=_environment({}),
        cwd=ROOT,
        timeout=LIMIT_SECONDS,
    )


def output(*arguments: object) -> str:
    """What a command prints that has to succeed."""
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass
class Program:
    """A process and the lines that it has printed, standard error among them."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    _reader: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(iter(self.process.stdout.readline, ""))

    def word(self, start: str) -> str:
        """The first word printed that starts so; fails with all lines when the process ends."""
        until(lambda: self._word(start) or self.process.poll() is not None, LIMIT_SECONDS)
        first = self._word(start)
        assert first, "".join(self.lines)
        return first

    def _word(self, start: str) -> str:
        words = (word for line in self.lines for word in line.split())
        return next((word for word in words if word.startswith(start)), "")

    def ended(self) -> int:
        """Its exit status, and all of its lines read."""
        code = self.process.wait(LIMIT_SECONDS)
        self._reader.join()
        return code


@contextmanager
def started(arguments: list[str], environment: Mapping[str, str]) -> Iterator[Program]:
    """A program that runs within and is killed at the end, unless it has ended."""
    with subprocess.Popen(
        arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=_environment(environment),
        cwd=ROOT,
    ) as process:
        try:
            yield Program(process)
        finally:
            process.kill()


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"} | dict(more)
