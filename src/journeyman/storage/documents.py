"""Objects of the API as documents: one table for all kinds, ordered by when they were added."""

from __future__ import annotations

import secrets
import string
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal

import sqlalchemy as sa

from journeyman import database
from journeyman.errors import ObjectNotFound, RequestError
from journeyman.storage.webhooks import announce

DEFAULT_PROJECT = "default"
"""Where everything belongs that is created without a key of a project."""

PREFIXES: Mapping[str, str] = {
    "file": "file-",
    "upload": "upload_",
    "upload.part": "part_",
    "batch": "batch_",
    "chat.completion": "chatcmpl-",
    "response": "resp_",
    "eval": "eval_",
    "eval.run": "evalrun_",
    "eval.run.output_item": "outputitem_",
    "checkpoint.permission": "cp_",
}
"""How ids of each kind begin, as OpenAI's do."""

REMOVED = "removed"
"""The kind of what is left of a document that was removed: its place in the lists of its kind, which is its `parent`."""

PLACE_KEPT_S = 24 * 3600.0
"""So long a list goes on after a document that was removed: a client that pages through a list may delete what it has read."""

_BASE62 = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True)
class Document:
    """One object: what kind it is, what it belongs to, and its content as JSON."""

    id: str
    kind: str
    parent: str | None
    project: str
    created_at: float
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Outline:
    """A document without its content: how large that is, and what it says at the path that was asked for."""

    id: str
    parent: str | None
    project: str
    created_at: float
    size_bytes: int
    said: str | None


@dataclass(frozen=True, slots=True)
class Page:
    """Some documents of a list, and whether more follow."""

    items: list[Document]
    has_more: bool


class Documents:
    """The documents of one project."""

    def __init__(self, engine: sa.Engine, project: str = DEFAULT_PROJECT) -> None:
        self._engine = engine
        self.project = project

    def of(self, project: str) -> Documents:
        """The documents of another project."""
        return Documents(self._engine, project)

    def reading(self, connection: sa.Connection | None) -> AbstractContextManager[sa.Connection]:
        """What to read with: a connection that is in a transaction already, or one of its own."""
        return self._engine.connect() if connection is None else nullcontext(connection)

    def add(
        self,
        kind: str,
        body: Mapping[str, Any],
        *,
        id: str | None = None,
        parent: str | None = None,
        condition: database.Condition | None = None,
    ) -> Document:
        """Keep a new document, under a fresh id unless one is given, where the condition lets it."""
        document = Document(id or new_id(kind), kind, parent, self.project, time.time(), dict(body))
        row = {name: getattr(document, name) for name in document.__slots__}
        with database.writing(self._engine, condition) as connection:
            if id is not None:  # what was removed may come again under its id
                connection.execute(_TABLE.delete().where(_TABLE.c.id == id, _TABLE.c.kind == REMOVED))
            connection.execute(_TABLE.insert().values(row))
        return document

    def get(self, kind: str, id: str, *, parent: str | None = None) -> Document:
        """A document by its id. Raises ObjectNotFound."""
        with self._engine.connect() as connection:
            row = connection.execute(self._select(kind, parent).where(_TABLE.c.id == id)).one_or_none()
        if row is None:
            raise not_found(kind, id)
        return _document(row)

    def page(
        self,
        kind: str,
        *,
        parent: str | None = None,
        after: str | None = None,
        limit: int | None = 20,
        order: Literal["asc", "desc"] = "desc",
        where: Mapping[tuple[str, ...], str] | None = None,
        labels: Mapping[str, str] | None = None,
        by: Literal["added", "updated"] = "added",
    ) -> Page:
        """Documents in the order they were added or last updated, or from the newest; `after` is the last id of the page before.

        `where` maps a path in the body to the text that must stand there; `labels` must all be in its `metadata`. A document
        was updated when its body's `updated_at` says so, or else when it was added. Raises RequestError for an `after` that
        was never in this list, or was removed more than PLACE_KEPT_S ago.
        """
        query = self._select(kind, parent)
        for path, text in (where or {}).items():
            query = query.where(_TABLE.c.body[path].as_string() == text)
        if after is not None:
            place = self._place(kind, after, by)
            query = query.where(_PLACES[by] > place if order == "asc" else _PLACES[by] < place)
        query = query.order_by(*(c.asc() if order == "asc" else c.desc() for c in _PLACES[by]))
        if limit is not None and not labels:
            query = query.limit(limit + 1)
        wanted = (labels or {}).items()
        with self._engine.connect() as connection:
            rows = (_document(row) for row in connection.execute(query))
            fitting = (document for document in rows if wanted <= document.body.get("metadata", {}).items())
            found = list(islice(fitting, None if limit is None else limit + 1))
        return Page(found[:limit], limit is not None and len(found) > limit)

    def change(
        self,
        document: Document,
        changes: Mapping[str, Any],
        *,
        only_if: Mapping[str, str] | None = None,
        announced: str | None = None,
    ) -> Document | None:
        """Set keys of the body; None, and nothing changed, where a text of `only_if` does not stand there (any more).

        `announced` is an event that the project's webhooks are told with it, in the same transaction.
        """
        table = _TABLE
        body = {**document.body, **changes}
        there = (table.c.id == document.id, table.c.kind == document.kind, table.c.project == self.project)
        statement = table.update().where(*there).values(body=body)
        for key, text in (only_if or {}).items():
            statement = statement.where(table.c.body[(key,)].as_string() == text)
        with self._engine.begin() as connection:
            changed = connection.execute(statement).rowcount == 1
            if changed and announced is not None:
                announce(connection, announced, self.project, document.id)
        return replace(document, body=body) if changed else None

    def remove(self, kind: str, id: str, *, parent: str | None = None) -> Document:
        """Forget a document and those that belong to it. Raises ObjectNotFound."""
        document, now = self.get(kind, id, parent=parent), time.time()
        place = {key: document.body[key] for key in ("updated_at",) if key in document.body}
        left = {"kind": REMOVED, "parent": kind, "body": {**place, "removed_at": now}}
        removed_at = _TABLE.c.body[("removed_at",)].as_float()
        with self._engine.begin() as connection:
            children = [
                row.id for row in connection.execute(sa.select(_TABLE.c.id).where(_TABLE.c.parent == id))
            ]
            connection.execute(_TABLE.delete().where(_TABLE.c.parent.in_([id, *children])))
            connection.execute(_TABLE.update().where(_TABLE.c.id == id).values(left))
            connection.execute(_TABLE.delete().where(_TABLE.c.kind == REMOVED, removed_at < now - PLACE_KEPT_S))
        return document

    def everywhere(self, kind: str, *, where: Mapping[tuple[str, ...], str] | None = None) -> list[Document]:
        """Documents of a kind in all projects, in the order they were added; `where` as for `page`."""
        query = sa.select(_TABLE).where(_TABLE.c.kind == kind).order_by(_TABLE.c.number)
        for path, text in (where or {}).items():
            query = query.where(_TABLE.c.body[path].as_string() == text)
        with self._engine.connect() as connection:
            return [_document(row) for row in connection.execute(query)]

    def outlines(self, kind: str, *said: str) -> list[Outline]:
        """The documents of a kind in all projects, each with the text at the path `said` of its body."""
        text = _TABLE.c.body[said].as_string() if said else sa.null()
        size = sa.func.length(sa.cast(_TABLE.c.body, sa.Text))  # JSON is kept as ASCII
        columns = (_TABLE.c.id, _TABLE.c.parent, _TABLE.c.project, _TABLE.c.created_at, size, text)
        query = sa.select(*columns).where(_TABLE.c.kind == kind).order_by(_TABLE.c.number)
        with self._engine.connect() as connection:
            return [Outline(*row) for row in connection.execute(query)]

    def forget(self, ids: Sequence[str]) -> None:
        """Forget documents of any project with those that belong to them; one that is gone already is no error."""
        for start in range(0, len(ids), _AT_ONCE):
            some = ids[start : start + _AT_ONCE]
            with self._engine.begin() as connection:
                connection.execute(_TABLE.delete().where(sa.or_(_TABLE.c.id.in_(some), _TABLE.c.parent.in_(some))))

    def count(self, kind: str, *, parent: str | None = None) -> int:
        """How many there are of a kind."""
        query = sa.select(sa.func.count()).select_from(self._select(kind, parent).subquery())
        with self._engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def _select(self, kind: str, parent: str | None) -> sa.Select[Any]:
        query = sa.select(_TABLE).where(_TABLE.c.kind == kind, _TABLE.c.project == self.project)
        return query if parent is None else query.where(_TABLE.c.parent == parent)

    def _place(self, kind: str, id: str, by: Literal["added", "updated"]) -> tuple[Any, ...]:
        """Where a document stands in the lists of its kind, or stood."""
        of_kind = sa.or_(_TABLE.c.kind == kind, sa.and_(_TABLE.c.kind == REMOVED, _TABLE.c.parent == kind))
        query = sa.select(*_PLACES[by]).where(_TABLE.c.id == id, of_kind, _TABLE.c.project == self.project)
        with self._engine.connect() as connection:
            place = connection.execute(query).one_or_none()
        if place is None:
            raise RequestError(
                f"No object with the id '{_short(id)}' is in this list", where="after", fix="begin without after",
                code="invalid_cursor",
            )  # fmt: skip
        return tuple(place)


_AT_ONCE = 500
"""So many are forgotten in one statement, between which others can write."""

_TABLE = database.documents
_UPDATED = sa.func.coalesce(_TABLE.c.body[("updated_at",)].as_float(), _TABLE.c.created_at)
_PLACES = {"added": sa.tuple_(_TABLE.c.number), "updated": sa.tuple_(_UPDATED, _TABLE.c.number)}
"""What documents are listed by, in each order: their numbers tell apart what was updated at once."""


def new_id(kind: str) -> str:
    """A fresh id of a kind: its prefix and 24 random base62 characters (143 bits)."""
    return PREFIXES[kind] + "".join(secrets.choice(_BASE62) for _ in range(24))


def not_found(kind: str, id: str) -> ObjectNotFound:
    """The error for an id that nobody knows; for a file in OpenAI's words."""
    name = {"file": "File", "upload": "Upload"}.get(kind, kind)
    return ObjectNotFound(f"No such {name} object: {_short(id)}", where="id")


def _short(id: str) -> str:
    return id if len(id) <= 100 else id[:100] + "…"


def _document(row: Any) -> Document:
    return Document(row.id, row.kind, row.parent, row.project, row.created_at, row.body)
