"""The database: its tables, and opening it at the newest version.

SQLite in JOURNEYMAN_HOME by default, PostgreSQL by URL. The schema changes only by the migrations in
`migrations/versions`, which are added to and never edited; a test holds them equal to the tables below.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event, exc

from journeyman.errors import DatabaseUnavailable

HEAD = "0006"
"""The newest migration. A database that is there already is opened without importing Alembic."""

metadata = sa.MetaData()

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("status", sa.String(32), nullable=False, index=True),
    sa.Column("base", sa.String(512), nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("suffix", sa.String(64), nullable=False),
    sa.Column("wishes", sa.JSON, nullable=False),
    sa.Column("folder", sa.Text, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False, index=True),
    sa.Column("started_at", sa.Float),
    sa.Column("finished_at", sa.Float),
    sa.Column("step", sa.Integer, nullable=False, default=0),
    sa.Column("steps", sa.Integer),
    sa.Column("trained_tokens", sa.Integer),
    sa.Column("model", sa.String(512)),
    sa.Column("error", sa.JSON),
    sa.Column("project", sa.String(128), nullable=False),
    sa.Column("request", sa.JSON(none_as_null=True)),
    sa.Column("metadata", sa.JSON(none_as_null=True)),
    sa.Column("details", sa.JSON(none_as_null=True)),
    sa.Column("lease_owner", sa.String(255)),
    sa.Column("lease_expires", sa.Float),
    sa.Column("deaths", sa.Integer, nullable=False, default=0),
    sa.Column("last_death", sa.Text),
)

models = sa.Table(
    "models",
    metadata,
    sa.Column("id", sa.String(512), primary_key=True),
    sa.Column("job", sa.String(64), nullable=False, unique=True),
    sa.Column("base", sa.String(512), nullable=False),
    sa.Column("base_source", sa.Text, nullable=False),
    sa.Column("base_fingerprint", sa.String(64), nullable=False),
    sa.Column("dataset_hash", sa.String(64), nullable=False),
    sa.Column("method", sa.String(16), nullable=False),
    sa.Column("plan", sa.JSON, nullable=False),
    sa.Column("metrics", sa.JSON, nullable=False),
    sa.Column("files", sa.JSON, nullable=False),
    sa.Column("folder", sa.Text, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False, index=True),
)

aliases = sa.Table(
    "aliases",
    metadata,
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("model", sa.String(512), nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
)

documents = sa.Table(
    "documents",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(128), nullable=False, unique=True),
    sa.Column("kind", sa.String(64), nullable=False),
    sa.Column("parent", sa.String(256)),
    sa.Column("project", sa.String(64), nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("body", sa.JSON, nullable=False),
    sa.Index("documents_by_kind", "kind", "project", "parent"),
)

api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("hash", sa.String(64), nullable=False, unique=True),
    sa.Column("name", sa.String(128), nullable=False),
    sa.Column("hint", sa.String(16), nullable=False),
    sa.Column("project", sa.String(64), nullable=False),
    sa.Column("limits", sa.JSON, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("revoked_at", sa.Float),
)

workers = sa.Table(
    "workers",
    metadata,
    sa.Column("id", sa.String(255), primary_key=True),
    sa.Column("slot", sa.Integer),
    sa.Column("job", sa.String(64)),
    sa.Column("began_at", sa.Float, nullable=False),
    sa.Column("seen_at", sa.Float, nullable=False),
)

webhooks = sa.Table(
    "webhooks",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("secret", sa.String(128), nullable=False),
    sa.Column("events", sa.JSON, nullable=False),
    sa.Column("project", sa.String(64), nullable=False, index=True),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("disabled", sa.Text),
)

deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("event", sa.String(64), nullable=False),
    sa.Column("webhook", sa.String(64), nullable=False, index=True),
    sa.Column("type", sa.String(64), nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("next_at", sa.Float, index=True),
    sa.Column("delivered_at", sa.Float),
    sa.Column("last_status", sa.Integer),
    sa.Column("last_error", sa.Text),
)

T = TypeVar("T")

UNREACHABLE = (exc.OperationalError, exc.InterfaceError)
"""What SQLAlchemy raises where the database can't be reached or is locked: worth another try, and no fault of a job."""


Condition = Callable[[sa.Connection], None]
"""Raises where what a transaction is about to write may not be. It reads in that transaction."""


_CONDITIONS = int.from_bytes(b"limits")
"""The number of PostgreSQL's lock that transactions with a condition hold."""


@contextmanager
def writing(engine: sa.Engine, condition: Condition | None) -> Iterator[sa.Connection]:
    """A transaction that writes where its condition lets it.

    No other with a condition goes on beside it, on any server: what was read is still true when this is written.
    """
    with engine.begin() as connection:
        if condition is not None:
            if engine.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")  # the one writer from here on, and not from its first change
            else:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_CONDITIONS)))
            condition(connection)
        yield connection


def clock(engine: sa.Engine) -> sa.ColumnElement[float]:
    """The database's own clock in a statement, in seconds since 1970: the one clock that all machines share."""
    if engine.dialect.name == "sqlite":
        return sa.literal_column("((julianday('now') - 2440587.5) * 86400.0)", sa.Float)
    return sa.literal_column("extract(epoch from clock_timestamp())::float8", sa.Float)


def bytewise(engine: sa.Engine, column: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    """A text column as a statement compares it byte by byte: SQLite always does, PostgreSQL else in the order of a language.

    An index that PostgreSQL keeps in that order is of no use then: it looks at every row.
    """
    return column if engine.dialect.name == "sqlite" else sa.collate(column, "C")


def shown(url: str) -> str:
    """A database's URL for people's eyes: without its password, and without the values of its query, which may hold secrets."""
    parsed = _parsed(url)
    query = dict.fromkeys(parsed.query, "hidden")
    return parsed.set(query=query).render_as_string(hide_password=True)


def open_database(url: str) -> sa.Engine:
    """Connect, and bring the schema to the newest version. Raises DatabaseUnavailable, without the URL's secrets."""
    parsed = _parsed(url)
    try:
        return _opened(parsed)
    except ImportError as error:
        raise _unavailable(f"{shown(url)} needs a driver that is not installed: {error}", 'install it; PostgreSQL\'s comes with pip install "journeyman[postgres]"') from error
    except UNREACHABLE as error:
        said = " ".join(str(error.orig).split())
        raise _unavailable(f"{shown(url)} can't be opened: {said}", "start it, or correct the URL") from error


def _unavailable(message: str, fix: str) -> DatabaseUnavailable:
    return DatabaseUnavailable(message, where="JOURNEYMAN_DATABASE_URL", fix=fix)


def _parsed(url: str) -> sa.URL:
    try:
        parsed = sa.engine.make_url(url)
        parsed.get_dialect()
    except (exc.ArgumentError, ValueError):  # their words may repeat a secret
        raise _unavailable("is no URL that SQLAlchemy knows", "write postgresql://USER:PASSWORD@HOST/DATABASE, or unset it") from None
    return parsed


def _opened(parsed: sa.URL) -> sa.Engine:
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        Path(parsed.database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    engine = sa.create_engine(parsed, pool_pre_ping=parsed.get_backend_name() != "sqlite")
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _sqlite_settings)
    if _version(engine) != HEAD:
        retry_locked(lambda: _migrate(engine))
    return engine


def _sqlite_settings(connection: Any, _: Any) -> None:
    """WAL lets readers work while one process writes; 30 s is how long a writer waits for another."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA busy_timeout=30000")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _version(engine: sa.Engine) -> str | None:
    with engine.connect() as connection:
        try:
            return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
        except (exc.OperationalError, exc.ProgrammingError):
            return None


def _migrate(engine: sa.Engine) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def retry_locked(action: Callable[[], T], *, attempts: int = 5) -> T:
    """Run `action` again when another process holds the database or has just made the same change."""
    for attempt in range(attempts):
        try:
            return action()
        except (exc.OperationalError, exc.ProgrammingError, exc.IntegrityError):
            if attempt == attempts - 1:
                raise
            time.sleep(0.2 * (attempt + 1))
    raise AssertionError("unreachable")
