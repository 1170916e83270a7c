"""A lock that admits one writer a folder: a second one fails before anything is written."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

LOCK_FILE = ".lock"


@contextmanager
def locked(folder: Path, error: type[ValueError]) -> Iterator[None]:
    """Inside, no other process writes the folder, which is created if missing. The system releases
    the lock when its holder ends, however it ends. Raises `error` when another process has it, or
    the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK_FILE, timeout=0)
        lock.acquire()
    except Timeout as busy:
        raise error(
            f"another process is writing {folder}: wait until it ends, or give another folder"
        ) from busy
    except OSError as failure:
        reason = failure.strerror or failure
        raise error(
            f"cannot write {folder}: {reason}; give a writable folder with space"
        ) from failure
    try:
        yield
    finally:
        lock.release()
