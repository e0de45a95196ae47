"""Webhooks: addresses that are told when a job, an eval run or a batch ends, and a row for each delivery until it arrived.

A delivery is written in the transaction that ends the job, so that no death in between loses it. Whoever sends it, a
server, claims it first by moving its next time ahead: of many servers one sends, and a server that dies while it sends
leaves the delivery to be sent again. So an event arrives at least once, always with the same id.

The signature is that of Standard Webhooks 1.0 (https://www.standardwebhooks.com), which OpenAI's SDKs verify with
`client.webhooks.unwrap`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import sqlalchemy as sa

from journeyman import database
from journeyman.errors import ObjectNotFound, RequestError

EVENTS = (
    "fine_tuning.job.succeeded",
    "fine_tuning.job.failed",
    "fine_tuning.job.cancelled",
    "eval.run.succeeded",
    "eval.run.failed",
    "eval.run.canceled",
    "batch.completed",
    "batch.failed",
    "batch.expired",
    "batch.cancelled",
)
"""What there is to be told, in OpenAI's words and spelling."""

DELAYS_S = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""How long after each failed attempt the next one comes: the schedule that Standard Webhooks suggests, three days in all."""

CLAIM_S = 60.0
"""How long a server has to send what it claimed, before another may."""

GONE = 410
"""The status by which an address says, as Standard Webhooks has it, that it wants no more."""

SECRET_BYTES = 32

_HOOKS, _DELIVERIES = database.webhooks, database.deliveries


@dataclass(frozen=True, slots=True)
class Webhook:
    """An address of a project and the events it is told. `disabled` says why it is told no more."""

    id: str
    url: str
    events: Sequence[str]
    project: str
    created_at: float
    disabled: str | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event on its way to one address. `next_at` is None once it arrived (`delivered_at`) or was given up."""

    number: int
    event: str
    webhook: str
    type: str
    body: str
    created_at: float
    attempts: int
    next_at: float | None
    delivered_at: float | None
    last_status: int | None
    last_error: str | None

    @property
    def state(self) -> str:
        """`delivered`, `waiting` for its next attempt, or `given up`."""
        if self.delivered_at is not None:
            return "delivered"
        return "given up" if self.next_at is None else "waiting"


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery that this process sends now, with where to and the secret to sign with."""

    delivery: Delivery
    url: str
    secret: str

    def headers(self, at: float) -> dict[str, str]:
        """The headers of Standard Webhooks, for sending at this time."""
        stamp = str(int(at))
        return {
            "content-type": "application/json",
            "webhook-id": self.delivery.event,
            "webhook-timestamp": stamp,
            "webhook-signature": signature(self.secret, self.delivery.event, stamp, self.delivery.body),
        }


def signature(secret: str, event: str, timestamp: str, body: str) -> str:
    """HMAC-SHA256 over id, time and body with the secret's bytes, as Standard Webhooks writes it."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, f"{event}.{timestamp}.{body}".encode(), hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def announce(connection: sa.Connection, type: str, project: str, object_id: str) -> None:
    """Write down, in the caller's transaction, that an object of a project came to its end: a delivery an address."""
    query = sa.select(_HOOKS.c.id, _HOOKS.c.events).where(
        _HOOKS.c.project == project, _HOOKS.c.disabled.is_(None)
    )
    told = [row.id for row in connection.execute(query) if type in row.events]
    if not told:
        return
    now, event = time.time(), f"evt_{secrets.token_hex(16)}"
    body = {"id": event, "object": "event", "type": type, "created_at": int(now), "data": {"id": object_id}}
    row = {"event": event, "type": type, "body": json.dumps(body), "created_at": now, "attempts": 0}
    rows = [{**row, "webhook": hook, "next_at": 0.0} for hook in told]
    connection.execute(_DELIVERIES.insert(), rows)


class Webhooks:
    """The webhooks of all projects, and their deliveries."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def create(self, url: str, events: Sequence[str], project: str) -> tuple[Webhook, str]:
        """A new address, and the secret that its receiver verifies with. Raises RequestError."""
        problems = [f"there is no event {name!r}" for name in events if name not in EVENTS]
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            problems.append(f"{url[:200]!r} is no http or https address")
        if problems:
            fix = f"give a full address, and events of {', '.join(EVENTS)}"
            raise RequestError("no webhook was made", fix=fix, code="invalid_value", problems=problems)
        secret = "whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
        hook = Webhook(
            f"we_{secrets.token_hex(12)}", url, list(events) or list(EVENTS), project, time.time(), None
        )
        row = {name: getattr(hook, name) for name in hook.__slots__}
        with self._engine.begin() as connection:
            connection.execute(_HOOKS.insert().values(**row, secret=secret))
        return hook, secret

    def list(self) -> list[Webhook]:
        """All webhooks, oldest first."""
        query = sa.select(*(_HOOKS.c[name] for name in Webhook.__slots__)).order_by(_HOOKS.c.created_at)
        with self._engine.connect() as connection:
            return [Webhook(**row._mapping) for row in connection.execute(query)]

    def remove(self, id: str) -> Webhook:
        """Tell an address no more; what was on its way to it is dropped with it. Raises ObjectNotFound."""
        found = [hook for hook in self.list() if hook.id == id]
        if not found:
            raise ObjectNotFound(
                f"No such webhook: {id[:100]}", where="WEBHOOK", fix="`journeyman webhooks list` shows their ids"
            )
        with self._engine.begin() as connection:
            connection.execute(_DELIVERIES.delete().where(_DELIVERIES.c.webhook == id))
            connection.execute(_HOOKS.delete().where(_HOOKS.c.id == id))
        return found[0]

    def deliveries(self, webhook: str | None = None, *, limit: int = 50) -> Sequence[Delivery]:
        """The log: the latest deliveries, newest first, of one webhook or of all."""
        query = sa.select(_DELIVERIES).order_by(_DELIVERIES.c.number.desc()).limit(limit)
        if webhook is not None:
            query = query.where(_DELIVERIES.c.webhook == webhook)
        with self._engine.connect() as connection:
            return [Delivery(**row._mapping) for row in connection.execute(query)]

    def resend(self, number: int) -> None:
        """Send a delivery again at once, and as often as a new one. Raises ObjectNotFound."""
        again = {"next_at": 0.0, "attempts": 0, "delivered_at": None}
        if not self._set(number, **again):
            raise ObjectNotFound(
                f"No such delivery: {number}", where="NUMBER", fix="`journeyman webhooks deliveries` lists them"
            )

    def claim(self, *, limit: int = 20) -> Sequence[Claim]:
        """Deliveries whose time has come, for this process to send within CLAIM_S."""
        now = database.clock(self._engine)
        query = (
            sa.select(_DELIVERIES, _HOOKS.c.url, _HOOKS.c.secret)
            .join(_HOOKS, _HOOKS.c.id == _DELIVERIES.c.webhook)
            .where(_DELIVERIES.c.next_at <= now, _HOOKS.c.disabled.is_(None))
            .order_by(_DELIVERIES.c.next_at)
            .limit(limit)
        )
        with self._engine.connect() as connection:
            rows = [dict(row._mapping) for row in connection.execute(query)]
        claimed = []
        for row in rows:
            url, secret = row.pop("url"), row.pop("secret")
            taken = (
                _DELIVERIES.update()
                .where(_DELIVERIES.c.number == row["number"], _DELIVERIES.c.next_at == row["next_at"])
                .values(next_at=now + CLAIM_S, attempts=_DELIVERIES.c.attempts + 1)
            )
            with self._engine.begin() as connection:
                if connection.execute(taken).rowcount == 1:
                    claimed.append(Claim(Delivery(**{**row, "attempts": row["attempts"] + 1}), url, secret))
        return claimed

    def settle(self, claim: Claim, *, status: int | None, error: str | None = None) -> None:
        """What became of an attempt: arrived (any 2xx), to be tried again, or given up."""
        delivery, now = claim.delivery, database.clock(self._engine)
        said = {"last_status": status, "last_error": error}
        if status is not None and 200 <= status < 300:
            self._set(delivery.number, **said, next_at=None, delivered_at=now)
            return
        over = status == GONE or delivery.attempts > len(DELAYS_S)
        next_at = None if over else now + DELAYS_S[delivery.attempts - 1]
        self._set(delivery.number, **said, next_at=next_at)
        if status == GONE:
            with self._engine.begin() as connection:
                connection.execute(
                    _HOOKS.update().where(_HOOKS.c.id == delivery.webhook).values(disabled="it answered 410 Gone")
                )

    def _set(self, number: int, **values: object) -> bool:
        with self._engine.begin() as connection:
            statement = _DELIVERIES.update().where(_DELIVERIES.c.number == number).values(**values)
            return connection.execute(statement).rowcount == 1
