"""The workers beside a server: one process each, begun again when one dies."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType

from journeyman.jobs.supervisor import POLL_S

STOP_S = 60.0
"""How long a worker may take to hand its job back. One that is killed then loses nothing: its lease runs out."""


class Pool:
    """As a context, keeps the processes of these commands running; at its end they are told to stop, and waited for."""

    def __init__(self, commands: Sequence[Sequence[str]], environment: Mapping[str, str]) -> None:
        self._commands = commands
        self._environment = dict(environment)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="workers", daemon=True)

    def __enter__(self) -> Pool:
        self._processes = [self._start(command) for command in self._commands]
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self.stop()
        deadline_s = time.monotonic() + STOP_S
        for process in self._processes:
            try:
                process.wait(max(0.0, deadline_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def stop(self) -> None:
        """Tell the workers to hand their jobs back, without waiting for it. Safe in a signal's handler."""
        self._ended.set()
        for process in self._processes:
            process.terminate()

    def _start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        # A session of their own: Ctrl-C reaches the server alone, which then tells them to stop.
        return subprocess.Popen(
            [*command], env=self._environment, stdin=subprocess.DEVNULL, start_new_session=True
        )

    def _keep(self) -> None:
        while not self._ended.wait(POLL_S):
            for i, process in enumerate(self._processes):
                if process.poll() is not None:
                    self._processes[i] = self._start(self._commands[i])
