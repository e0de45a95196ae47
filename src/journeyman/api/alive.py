"""In which server process something goes on in the background, and whether that one still lives."""

from __future__ import annotations

import os
import secrets
import socket
from pathlib import Path

_START = secrets.token_hex(4)
"""Tells this process from an earlier one of the same number: in a container a server often has the same one each time."""


def this_server() -> str:
    """What to note down of the present process."""
    return f"{socket.gethostname()}:{os.getpid()}:{_START}"


def lives(server: str) -> bool:
    """Whether a process that was noted down may still be there; of other machines nothing is known, and it is hoped for."""
    host, pid, start = (*server.split(":"), "", "")[:3]
    if host != socket.gethostname():
        return True
    if pid == str(os.getpid()):
        return start == _START
    return not Path("/proc").is_dir() or Path(f"/proc/{pid}").exists()
