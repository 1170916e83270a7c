"""The state of a worker's process by the operating system."""

import psutil

STOPPED_SECONDS = 1.0  # a process stopped for this long is killed: it will not go on by itself


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped by a signal or a debugger."""
    return _status(pid) in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)


def is_gone(pid: int) -> bool:
    """Whether a process has ended; a zombie counts as ended."""
    return _status(pid) in (None, psutil.STATUS_ZOMBIE)


def is_running(pid: int) -> bool:
    """Whether a process exists and is not stopped."""
    return not is_gone(pid) and not is_stopped(pid)


def _status(pid: int) -> str | None:
    try:
        return str(psutil.Process(pid).status())
    except psutil.Error:
        return None
