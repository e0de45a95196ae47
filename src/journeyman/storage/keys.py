"""The keys that clients call with: made here, shown once, kept as hashes."""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from dataclasses import asdict, dataclass

import sqlalchemy as sa

from journeyman import database
from journeyman.errors import ObjectNotFound, RequestError
from journeyman.storage.documents import DEFAULT_PROJECT

PREFIX = "jm-"
"""How a key begins, so that a person, or a scanner of secrets, knows it for one."""

_TABLE = database.api_keys
PROJECT = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What a project can be called."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a key may use; None is without a limit.

    `storage_bytes` is what the key's project may hold in files and uploads for the key to add more, `jobs` how many of
    its project's may be queued or running for the key to create another.
    """

    storage_bytes: int | None = None
    jobs: int | None = None
    requests_per_minute: int | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """A key as it is kept: without its text, of which `hint` is the end."""

    id: str
    name: str
    hint: str
    project: str
    created_at: float
    revoked_at: float | None
    limits: Limits = Limits()


class Keys:
    """The keys of all projects."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def create(
        self, name: str, project: str = DEFAULT_PROJECT, limits: Limits = Limits()
    ) -> tuple[Key, str]:
        """A new key of a project, and its text, which is not kept. Raises RequestError for a name that can't be one."""
        problems = []
        if not 1 <= len(name) <= 128 or not name.isprintable():
            problems.append(f"the name {name[:50]!r} is not 1 to 128 printable characters")
        if not PROJECT.fullmatch(project):
            problems.append(f"the project {project[:50]!r} is not 1 to 64 letters, digits, - or _")
        problems += [
            f"the limit {name} is {value}, which is less than 1"
            for name, value in asdict(limits).items()
            if value is not None and value < 1
        ]
        if problems:
            raise RequestError(
                "no key was made", fix="choose other values", code="invalid_value", problems=problems
            )
        text = PREFIX + secrets.token_urlsafe(32)
        key = Key(f"key_{secrets.token_hex(8)}", name, text[-4:], project, time.time(), None, limits)
        with self._engine.begin() as connection:
            connection.execute(_TABLE.insert().values(**asdict(key), hash=_hash(text)))
        return key, text

    def list(self) -> list[Key]:
        """All keys from the oldest, revoked ones too."""
        with self._engine.connect() as connection:
            return [
                _key(row) for row in connection.execute(_SELECT.order_by(_TABLE.c.created_at, _TABLE.c.id))
            ]

    def revoke(self, id: str) -> Key:
        """Accept a key no longer, from the next request on. Raises ObjectNotFound."""
        with self._engine.begin() as connection:
            connection.execute(
                _TABLE.update()
                .where(_TABLE.c.id == id, _TABLE.c.revoked_at.is_(None))
                .values(revoked_at=time.time())
            )
            row = connection.execute(_SELECT.where(_TABLE.c.id == id)).one_or_none()
        if row is None:
            raise ObjectNotFound(
                f"No such key: {id[:100]}", where="KEY", fix="`journeyman keys list` shows their ids"
            )
        return _key(row)

    def find(self, text: str) -> Key | None:
        """The key of that text; None where nobody made it or it was revoked."""
        query = _SELECT.where(_TABLE.c.hash == _hash(text), _TABLE.c.revoked_at.is_(None))
        with self._engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _key(row)

    def any(self) -> bool:
        """Whether a key was ever made. Revoked ones count: a server does not open again when its last key goes."""
        with self._engine.connect() as connection:
            return connection.execute(sa.select(_TABLE.c.id).limit(1)).first() is not None


_SELECT = sa.select(*(_TABLE.c[name] for name in Key.__slots__))


def _hash(text: str) -> str:
    # A key is 256 random bits, so that no list of likely keys can be tried against a stolen hash: a slow, salted
    # hash such as scrypt, which passwords need, would only cost each request its time. It also makes the look-up by
    # equality safe: how long it takes tells something of the hash, and nothing of the key.
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _key(row: sa.Row[tuple[object, ...]]) -> Key:
    values = dict(row._mapping)
    return Key(**{**values, "limits": Limits(**values["limits"])})
