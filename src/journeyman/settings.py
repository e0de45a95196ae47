"""The only reader of environment variables: where things live, and the limits.

| variable                 | default          | meaning                                                        |
|--------------------------|------------------|----------------------------------------------------------------|
| JOURNEYMAN_HOME          | ~/.journeyman    | registry, jobs, datasets                                       |
| JOURNEYMAN_ORG           | local            | the third part of every fine-tuned model id                    |
| JOURNEYMAN_DATABASE_URL  | SQLite in HOME   | a SQLAlchemy URL                                               |
| JOURNEYMAN_API_KEY       | (none)           | keys the server accepts besides stored ones, by commas         |
| JOURNEYMAN_LEASE_S       | 30               | seconds until the job of a silent process is taken over        |
| JOURNEYMAN_PYTHON_GRADERS | off             | on: the source of python graders is run, in a sandbox          |
| JOURNEYMAN_LOG           | text             | how server and workers log: text, or json (one object a line)  |
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from journeyman.errors import JourneymanError
from journeyman.logs import LogFormat

MAX_LINE_BYTES = 16 * 1024 * 1024
"""A single row above this is refused: no training pair is that long (a million tokens are about 4 MB), and it would
only cost memory and minutes."""

MAX_FILE_BYTES = 8 * 1024**3
"""OpenAI's limit for an assembled upload (8 GB); larger files are refused before they are read."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Where things live on this machine."""

    home: Path
    org: str
    database_url: str
    api_keys: tuple[str, ...]
    lease_s: float = 30.0
    log_format: LogFormat = "text"

    def environment(self) -> dict[str, str]:
        """This process's environment, with these settings, for a process that is to work in the same home."""
        mine = {
            "JOURNEYMAN_HOME": str(self.home),
            "JOURNEYMAN_ORG": self.org,
            "JOURNEYMAN_DATABASE_URL": self.database_url,
            "JOURNEYMAN_LEASE_S": str(self.lease_s),
            "JOURNEYMAN_LOG": self.log_format,
        }
        return {**os.environ, **mine}

    def make_home(self) -> None:
        """Make the home where it is missing, for its owner alone; one that is there keeps its mode."""
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def jobs_folder(self) -> Path:
        """One folder a job: its dataset, plan, events and checkpoints."""
        return self.home / "jobs"

    @property
    def files_folder(self) -> Path:
        """The bytes of files that clients keep here, by their ids."""
        return self.home / "files"

    @property
    def batches_folder(self) -> Path:
        """One folder a batch that is under way: what was answered so far."""
        return self.home / "batches"

    @property
    def uploads_folder(self) -> Path:
        """Parts of files that have not all arrived."""
        return self.home / "uploads"


def load(home: Path | None = None) -> Settings:
    """Read the environment. `home` overrides JOURNEYMAN_HOME (tests and embedding programs)."""
    folder = (home or Path(os.environ.get("JOURNEYMAN_HOME") or "~/.journeyman")).expanduser().absolute()
    org = os.environ.get("JOURNEYMAN_ORG") or "local"
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", org):
        raise JourneymanError(
            f"JOURNEYMAN_ORG is {org!r}; it becomes a part of every model id",
            where="JOURNEYMAN_ORG",
            fix="use 1 to 64 letters, digits, - or _",
            code="settings",
        )
    url = os.environ.get("JOURNEYMAN_DATABASE_URL") or f"sqlite:///{folder / 'journeyman.db'}"
    keys = tuple(k.strip() for k in os.environ.get("JOURNEYMAN_API_KEY", "").split(",") if k.strip())
    return Settings(home=folder, org=org, database_url=url, api_keys=keys, lease_s=_lease_s(), log_format=_log_format())


def _lease_s() -> float:
    text = os.environ.get("JOURNEYMAN_LEASE_S") or "30"
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= 3600:
        raise JourneymanError(
            f"JOURNEYMAN_LEASE_S is {text!r}", where="JOURNEYMAN_LEASE_S", fix="use 1 to 3600 seconds", code="settings"
        )
    return seconds


def _log_format() -> LogFormat:
    text = os.environ.get("JOURNEYMAN_LOG") or "text"
    if text in ("text", "json"):
        return cast(LogFormat, text)
    raise JourneymanError(
        f"JOURNEYMAN_LOG is {text!r}", where="JOURNEYMAN_LOG", fix="use text or json", code="settings"
    )


def python_graders() -> bool:
    """Whether the source of python graders may be run on this machine."""
    text = os.environ.get("JOURNEYMAN_PYTHON_GRADERS") or "off"
    if text not in ("on", "off"):
        raise JourneymanError(
            f"JOURNEYMAN_PYTHON_GRADERS is {text!r}",
            where="JOURNEYMAN_PYTHON_GRADERS",
            fix="use on or off",
            code="settings",
        )
    return text == "on"


def secret(variable: str) -> str | None:
    """The key for a remote model, by the name of the variable that the user gave; None where it is not set."""
    return os.environ.get(variable) or None


def give_default(**variables: str) -> None:
    """Set environment variables that are not set, for a library that is configured by nothing else."""
    for name, value in variables.items():
        os.environ.setdefault(name, value)
