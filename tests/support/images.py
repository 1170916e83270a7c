"""Images, built by the Dockerfile with podman, and run as a cluster would run them.

Where no registry of images is reached, the base is Debian's own packages (image/bootstrap.sh).
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BASE_VARIABLE = "AFFECTGAN_TEST_BASE"  # an image to build on, instead of one made here


@dataclass(frozen=True)
class Builder:
    """podman, with what it stores in a folder, and what it runs in one of a short path."""

    folder: Path
    run_folder: Path

    def run(self, *arguments: str) -> str:
        """What a command of podman prints; fails with all that it said."""
        return self.done(*self.command(*arguments))

    def done(self, *command: str) -> str:
        """The same of any command."""
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        return done.stdout

    def command(self, *arguments: str) -> list[str]:
        """podman with a store of its own, and runc, which needs no systemd."""
        store = ["--root", str(self.folder / "store"), "--runroot", str(self.run_folder)]
        return ["podman", *store, "--runtime", "runc", "--cgroup-manager", "cgroupfs", *arguments]

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"TMPDIR": str(self.folder), "BUILDAH_ISOLATION": "chroot"}

    @cached_property
    def base(self) -> str:
        """The name of an image with Python to build on."""
        if named := os.environ.get(BASE_VARIABLE):
            return named
        root, archive = self.folder / "base", self.folder / "base.tar"
        self.done(str(ROOT / "image" / "bootstrap.sh"), str(root))
        self.done("tar", "-C", str(root), "-cf", str(archive), ".")
        self.run("import", str(archive), "base")
        shutil.rmtree(root)
        archive.unlink()
        return "localhost/base"

    def build(self, target: str, runtime: str) -> str:
        """The name of the image of a target with what a runtime needs, out of wheels that this
        machine's pip gets.
        """
        wheels, settings = self.folder / f"wheels-{target}", self.folder / "pip.conf"
        if not wheels.exists():
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            lock = ["--require-hashes", "-r", str(ROOT / "image" / f"{target}.txt")]
            self.done(*pip, "-d", str(wheels), *lock)
        settings.write_text("[global]\nfind-links = /wheels\nno-index = true\n")
        name = f"affectgan:{target}-{runtime}"
        options = ["--pull=never", "--layers", "--format", "docker", "--tag", name]
        options += ["--volume", f"{wheels}:/wheels:ro", "--volume", f"{settings}:/etc/pip.conf:ro"]
        arguments = {"BASE": self.base, "TARGET": target, "RUNTIME": runtime}
        options += [part for one in arguments.items() for part in ("--build-arg", "=".join(one))]
        self.run("build", *options, str(ROOT))
        return f"localhost/{name}"

    @contextmanager
    def running(self, image: str, *command: str) -> Iterator[str]:
        """The name of a container with a read-only root, no capabilities, and a user that the image
        does not know; on this machine's network. It is gone afterwards.
        """
        limits = ["--read-only", "--cap-drop", "ALL", "--user", "12345:12345"]
        limits += ["--security-opt", "no-new-privileges", "--tmpfs", "/tmp:rw,exec,mode=1777"]
        # Of this machine: its network, and no more than its own limits.
        machine = ["--network", "host", "--ulimit", "nofile=1024:1024"]
        machine += ["--ulimit", "nproc=4096:4096", "--no-healthcheck"]
        name = self.run("run", "--detach", *limits, *machine, image, *command).strip()
        try:
            yield name
        finally:
            self.run("rm", "--force", name)


@contextmanager
def builder(folder: Path) -> Iterator[Builder]:
    """Fails where podman is missing: whoever runs these tests asked for them."""
    missing = [name for name in ("podman", "runc", "debootstrap") if shutil.which(name) is None]
    if missing:
        pytest.fail(f"{', '.join(missing)} is missing: `make test-image` as root installs it")
    with tempfile.TemporaryDirectory(dir="/run") as short:  # podman takes 50 characters
        yield Builder(folder, Path(short))
