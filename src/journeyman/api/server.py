"""Running the app: the address, the start, the stop."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from journeyman import settings
from journeyman.api.app import create_app
from journeyman.api.errors import RefusedError
from journeyman.api.gate import is_local
from journeyman.api.pieces import Decoder
from journeyman.errors import JourneymanError
from journeyman.grade import python

if TYPE_CHECKING:
    from journeyman.workspace import Workspace

DRAIN_S = 10
"""How long answers under way may go on after SIGTERM or the first Ctrl-C."""

ENDING_S = 3
"""How long answers that had no time left may take to tell their clients so; then connections are cut."""

log = logging.getLogger("journeyman.api")


def serve(
    workspace: Workspace,
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    bases: Sequence[str] = (),
    base64_results: bool = False,
    drain_s: int = DRAIN_S,
    on_ready: Callable[[str], None] = lambda _url: None,
    on_stop: Callable[[], None] = lambda: None,
) -> None:
    """Answer requests until SIGTERM or Ctrl-C; answers under way then have `drain_s` to end.

    `port` 0 takes a free one. `on_ready` is told the base URL for clients once connections are taken, and `on_stop` is
    called, in the signal's handler, when the stop begins. Raises JourneymanError where the address can't be used, and
    BaseNotFound where one of `bases` is not here.
    """
    server, listening = prepare(
        workspace, host, port, bases=bases, base64_results=base64_results, drain_s=drain_s, on_stop=on_stop
    )
    _warn_of_graders()
    on_ready(f"{url_of(listening)}/v1")
    # torch and transformers take longer to load than all the rest, and only answers need them: not every client waits for that
    threading.Thread(target=workspace.prepare_answers, name="prepare answers", daemon=True).start()
    with listening:
        try:
            server.run(sockets=[listening])
        except KeyboardInterrupt:  # uvicorn has stopped gracefully and passes the signal on
            return


class _Server(uvicorn.Server):
    """A server that says when it is told to stop, and then ends answers in order that go on for longer than `drain_s`."""

    def __init__(self, config: uvicorn.Config, decoder: Decoder, drain_s: int, on_stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._decoder = decoder
        self._drain_s = drain_s
        self._on_stop = on_stop

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """uvicorn's stop. It would cancel what goes on after its own time, and a client could not tell that from a bug."""
        stops = RefusedError(
            503, "The server stops, and this answer had no time left to end. Ask again.", code="server_stopping"
        )
        ending = asyncio.get_running_loop().call_later(self._drain_s, self._decoder.end_answers, stops)
        try:
            await super().shutdown(sockets)
        finally:
            ending.cancel()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """uvicorn's handler of SIGTERM and SIGINT."""
        self._on_stop()
        super().handle_exit(sig, frame)


def prepare(
    workspace: Workspace,
    host: str,
    port: int,
    *,
    bases: Sequence[str] = (),
    base64_results: bool = False,
    drain_s: int = DRAIN_S,
    on_stop: Callable[[], None] = lambda: None,
) -> tuple[uvicorn.Server, socket.socket]:
    """A server that is ready to run and its socket, which takes connections already. For `serve` and for tests."""
    if not is_local(host) and not workspace.settings.api_keys and not workspace.keys.any():
        raise JourneymanError(
            f"{host} can be reached from other machines, and no key is set",
            where="--host",
            fix="make one with `journeyman keys create`, set JOURNEYMAN_API_KEY, or use --host 127.0.0.1",
            code="key_needed",
        )
    app = create_app(workspace, bases=bases, base64_results=base64_results)
    listening = _listen(host, port)
    config = uvicorn.Config(
        app,
        log_config=None,  # what it says goes where the process logs
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=drain_s + ENDING_S,
    )
    return _Server(config, app.state.decoder, drain_s, on_stop), listening


def url_of(listening: socket.socket) -> str:
    """The URL of a listening socket."""
    address, port = listening.getsockname()[:2]
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(2048)
    except (OSError, OverflowError) as error:
        listening.close()
        raise _unusable(host, port, error) from error
    return listening


def _unusable(host: str, port: int, error: Exception) -> JourneymanError:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return JourneymanError(
            f"port {port} on {host} is taken", where="--port", fix=f"use --port {port + 1}, or 0 for a free one",
            code="port_taken",
        )  # fmt: skip
    return JourneymanError(
        f"can't listen on {host} port {port}: {error}", where="--host", code="address_unusable"
    )


def _warn_of_graders() -> None:
    """Python graders that were turned on and can't be run are known at the start, not from evals that measure nothing."""
    if settings.python_graders() and (reason := python.unavailable()):
        log.warning("JOURNEYMAN_PYTHON_GRADERS is on, but no python grader can be run: %s", reason)
