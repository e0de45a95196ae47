"""A plugin under which every workspace of a test has a PostgreSQL database of its own, in place of SQLite's file:

    PYTHONPATH=tests pytest -p on_postgresql tests/api tests/jobs

JOURNEYMAN_TEST_POSTGRES names the server (default: postgres@127.0.0.1:5432), which must allow some hundreds of connections,
since tests do not close theirs. The databases are dropped at the end. Tests whose servers and workers are processes that
learn of their home from the environment alone stay with SQLite, and are left out.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from journeyman import settings
from journeyman.settings import Settings

SERVER = sa.make_url(os.environ.get("JOURNEYMAN_TEST_POSTGRES") or "postgresql+psycopg://postgres@127.0.0.1:5432/postgres")
STAY = (
    "test_sigterm_lets_a_stream_end_and_hands_the_job_back",
    "test_twenty_kills_end_with_the_same_bytes",
    "test_a_home_that_was_moved_answers_and_shows_its_jobs_as_before",
)

_admin = sa.create_engine(SERVER, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
_made: set[str] = set()
_load = settings.load


def load(home: Path | None = None) -> Settings:
    """The settings with a database that is named after the home."""
    found = _load(home)
    if not found.database_url.startswith("sqlite"):
        return found
    name = "journeyman_test_" + hashlib.sha256(str(found.home).encode()).hexdigest()[:16]
    if name not in _made:
        with _admin.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {name}"))
        _made.add(name)
    return replace(found, database_url=SERVER.set(database=name).render_as_string(hide_password=False))


def pytest_configure(config: pytest.Config) -> None:
    settings.load = load


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left = [item for item in items if item.name.partition("[")[0] in STAY]
    items[:] = [item for item in items if item not in left]
    config.hook.pytest_deselected(items=left)


def pytest_unconfigure(config: pytest.Config) -> None:
    with _admin.connect() as connection:
        for name in _made:
            connection.execute(sa.text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
