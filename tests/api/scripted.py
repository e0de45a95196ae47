"""A workspace that answers from a script: for what the server does around an answer."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from journeyman.api.server import prepare, url_of
from journeyman.errors import ModelNotFound
from journeyman.generate.engine import Piece
from journeyman.generate.loop import Load
from journeyman.jobs.standing import Standing
from journeyman.records import Message, Usage
from journeyman.settings import Settings

Script = Callable[[], Iterator[Piece]]


def hello() -> Iterator[Piece]:
    yield Piece(0, "Hello", None)
    yield Piece(0, " there", "end", Usage(3, 2))


class NoRegistry:
    def get(self, name: str) -> Any:
        raise ModelNotFound(f"no fine-tuned model {name!r}")

    def oldest_of(self, base: str) -> None:
        return None

    def list(self) -> list[Any]:
        return []

    def aliases(self) -> dict[str, str]:
        return {}


class NoKeys:
    def any(self) -> bool:
        return False

    def find(self, text: str) -> None:
        return None


class NoDocuments:
    project = "default"

    def of(self, project: str) -> NoDocuments:
        return self

    def everywhere(self, kind: str, **where: Any) -> list[Any]:
        return []


class NoWebhooks:
    def claim(self) -> list[Any]:
        return []


class Scripted:
    """The part of a Workspace that the server calls."""

    def __init__(self, script: Script = hello, keys: tuple[str, ...] = ()) -> None:
        self.script = script
        self.settings = Settings(Path("/nowhere"), "local", "sqlite://", keys)
        self.registry = NoRegistry()
        self.keys = NoKeys()
        self.webhooks = NoWebhooks()
        self.documents = NoDocuments()
        self.asked: list[tuple[str, Sequence[Message], Any]] = []
        self.loads: Callable[[], dict[str, Load]] = dict
        self.answering_processes: Callable[[], dict[str, int]] = dict
        self.standing: Callable[[], Standing] = lambda: Standing({}, 0, 0.0, (), 2**40)

    def checkpoint_models(self) -> list[tuple[str, Any, float]]:
        return []

    def prepare_answers(self) -> None:
        """Nothing is to be loaded."""

    def stream(self, model: str, messages: Sequence[Message], sampling: Any, **tools: Any) -> Iterator[Piece]:
        self.asked.append((model, messages, sampling))
        return self.script()


@contextmanager
def serving(workspace: Any, **options: Any) -> Iterator[str]:
    """The URL of a real server, run in a thread."""
    server, listening = prepare(workspace, "127.0.0.1", 0, **options)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield url_of(listening)
    finally:
        server.should_exit = True
        thread.join(15)
        listening.close()
    assert not thread.is_alive()


@contextmanager
def a_server(home: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server in a process of its own, to be killed."""
    command = [sys.executable, "-m", "journeyman", "serve", "--port", "0", "--workers", "0"]
    environment = {**os.environ, "JOURNEYMAN_HOME": str(home)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        yield process.stdout.readline().split()[2].removesuffix("/v1"), process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
