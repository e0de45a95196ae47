"""One process a job: a lock on the job's folder that the system frees when the process dies."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from journeyman.errors import JobConflict


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the job's lock. Raises JobConflict where a living process holds it; a dead one (kill -9) holds nothing."""
    with (folder / "run.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise JobConflict(
                f"the job {folder.name} is run by process {file.read().strip() or 'unknown'} already",
                where="job",
                fix="wait for it, or stop that process",
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def is_held(folder: Path) -> bool:
    """Whether a living process runs the job."""
    try:
        with held(folder):
            return False
    except JobConflict:
        return True


def dead_owner(owner: str | None, folder: Path) -> str | None:
    """The holder of a lease, where it was a process of this machine that is gone: its lease need not run out first."""
    host, _, rest = (owner or "").partition(":")
    pid = rest.partition(":")[0]
    if host != socket.gethostname() or not pid.isdigit() or Path(f"/proc/{pid}").exists() or is_held(folder):
        return None
    return owner if Path("/proc").is_dir() else None
