"""What every request passes: an id, the key, the size of its body, and a net under bugs."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from journeyman.api.errors import RefusedError, envelope_of, error_response, headers_of
from journeyman.api.limits import Rates
from journeyman.logs import request_id
from journeyman.storage.documents import DEFAULT_PROJECT
from journeyman.storage.keys import Limits

if TYPE_CHECKING:
    from journeyman.api.metrics import Metrics
    from journeyman.storage.keys import Key, Keys

MAX_BODY_BYTES = 16 * 1024 * 1024
"""A chat request above this is refused: it would not fit any context."""

MAX_FILE_BYTES = 512 * 1024 * 1024
"""OpenAI's limit for a file in one request; larger ones are sent in parts."""

MAX_PART_BYTES = 64 * 1024 * 1024
"""OpenAI's limit for a part of an upload."""

FORM_BYTES = 1024 * 1024
"""What a form may hold beside its file."""

GUARDED = ("/v1", "/metrics")
"""Where a key is asked for. What else there is (/healthz, the API's description) tells nothing of anybody's."""

BEARER = {"www-authenticate": "Bearer"}

CUT = 499
"""What is counted for an answer that its client did not wait for: no status of HTTP, and the one nginx writes."""

log = logging.getLogger("journeyman.api")
access = logging.getLogger("journeyman.access")


def project_of(request: Request) -> str:
    """The project that the request's key belongs to."""
    project: str = request.state.project
    return project


def insist_on_owner(request: Request) -> None:
    """What tells of all projects is for keys of the default one. Raises RefusedError."""
    if project_of(request) != DEFAULT_PROJECT:
        raise RefusedError(
            403,
            "This tells of all projects, and your key belongs to one.",
            code="key_not_allowed",
            fix="use a key of the default project",
        )


class Gate:
    """ASGI middleware around the whole app.

    `owner_keys` are those of the server's owner and belong to the default project, `keys` those that were made for
    projects. While there is none of either, any key passes, on this machine's own names only.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        owner_keys: Sequence[str],
        keys: Keys,
        metrics: Metrics,
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        self._app = app
        self._owner_keys = tuple(key.encode() for key in owner_keys)
        self._keys = keys
        self._metrics = metrics
        self._rates = Rates()
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        reply = _Reply(send, f"req_{uuid.uuid4().hex}")
        request_id.set(reply.request_id)
        scope.setdefault("state", {}).update(request_id=reply.request_id, project=DEFAULT_PROJECT, limits=Limits())
        self._metrics.under_way.inc()
        try:
            await self._answer(scope, receive, reply)
        finally:
            self._metrics.under_way.dec()
            self._note(scope, reply)

    async def _answer(self, scope: Scope, receive: Receive, reply: _Reply) -> None:
        max_bytes = self._limit_of(scope)
        try:
            key = await self._admit(scope)
            if key is not None:
                scope["state"].update(project=key.project, limits=key.limits)
                if key.limits.requests_per_minute is not None:
                    reply.headers = self._rates.take(key.id, key.limits.requests_per_minute)
            _check_length(scope, max_bytes)
            await self._app(scope, _limited(receive, max_bytes), reply.send)
        except asyncio.CancelledError:  # the server stops, and has waited as long as it may
            log.warning("request %s was cut by the server's stop: %s %s", reply.request_id, scope["method"], scope["path"])
            if not reply.started:
                status, body = envelope_of(RefusedError(503, "The server stops. Ask again.", code="server_stopping"), reply.request_id)
                await error_response(status, body)(scope, receive, reply.send)
        except Exception as error:
            if not isinstance(error, RefusedError):
                log.exception("request %s failed: %s %s", reply.request_id, scope["method"], scope["path"])
            if reply.started:
                return  # the connection is cut, and the client sees an answer that did not end
            status, body = envelope_of(error, reply.request_id)
            await error_response(status, body, headers_of(error))(scope, receive, reply.send)

    def _note(self, scope: Scope, reply: _Reply) -> None:
        """Count the request, and log it without its query, which may hold what is not for a log."""
        method, seconds = scope["method"], reply.seconds
        route = getattr(scope.get("route"), "path", None) or "unknown"
        self._metrics.count(method, route, reply.status, seconds)
        access.info(
            "%s %s %d", method, scope["path"], reply.status,
            extra={
                "method": method, "path": scope["path"], "status": reply.status,
                "seconds": round(seconds, 4), "project": scope["state"]["project"],
            },
        )  # fmt: skip

    def _limit_of(self, scope: Scope) -> int:
        """How large a body may be: only forms that bring a file are larger than a conversation."""
        path = scope["path"].rstrip("/")
        if path == "/v1/files":
            return MAX_FILE_BYTES + FORM_BYTES
        if path.startswith("/v1/uploads/") and path.endswith("/parts"):
            return MAX_PART_BYTES + FORM_BYTES
        return self._max_body_bytes

    async def _admit(self, scope: Scope) -> Key | None:
        """The request's key, None where it is the owner's or none is asked for. Raises RefusedError."""
        headers = Headers(scope=scope)
        if bool(self._owner_keys) or await run_in_threadpool(self._keys.any):
            if not scope["path"].startswith(GUARDED):
                return None
            return await self._known(headers.get("authorization", ""))
        if not is_local(_hostname(headers.get("host", ""))):
            # A web page can let its own name point to 127.0.0.1; without a key, the name is what tells it apart.
            raise RefusedError(
                403,
                "without a key this server answers on localhost only",
                code="host_not_allowed",
                fix="make a key with `journeyman keys create`, or call it as http://127.0.0.1",
            )
        if _from_elsewhere(headers):
            raise RefusedError(
                403,
                "without a key this server answers no pages of other origins",
                code="origin_not_allowed",
                fix="make a key with `journeyman keys create`, which such a page has to send",
            )
        return None

    async def _known(self, authorization: str) -> Key | None:
        scheme, _, given = authorization.partition(" ")
        given = given.strip()
        if scheme.lower() != "bearer" or not given:
            raise RefusedError(
                401,
                "You didn't provide an API key. Send it as a header: Authorization: Bearer YOUR_KEY",
                code="invalid_api_key",
                headers=BEARER,
            )
        # All keys are compared, so that the time taken does not tell which one was near.
        matches = [hmac.compare_digest(given.encode(), key) for key in self._owner_keys]
        if any(matches):
            return None
        found = await run_in_threadpool(self._keys.find, given)
        if found is None:
            raise RefusedError(401, "Incorrect API key provided.", code="invalid_api_key", headers=BEARER)
        return found


class _Reply:
    """The way back to the client, with the headers that every response carries."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._started_s = time.perf_counter()
        self.request_id = request_id
        self.started = False
        self.status = CUT
        self.headers: Mapping[str, str] = {}

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._started_s

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self.request_id
            headers.update(self.headers)
            headers["openai-processing-ms"] = str(round(self.seconds * 1000))
        await self._send(message)


def is_local(host: str) -> bool:
    """Whether a host name or address means this machine and no other."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _hostname(host: str) -> str:
    """The Host header without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()


def _from_elsewhere(headers: Headers) -> bool:
    """Whether a web page of another origin sends this: a browser says so, and no page can keep it from that.

    A form of any page can send files to this machine, and needs no answer to have done its harm.
    """
    origin = headers.get("origin")
    return headers.get("sec-fetch-site") == "cross-site" or (
        origin is not None and origin.partition("://")[2].lower() != headers.get("host", "").lower()
    )


def _limited(receive: Receive, max_bytes: int) -> Receive:
    """A body without a Content-Length is counted while it comes."""
    seen_bytes = 0

    async def counted() -> Message:
        nonlocal seen_bytes
        message = await receive()
        if message["type"] == "http.request":
            seen_bytes += len(message.get("body", b""))
            if seen_bytes > max_bytes:
                # The framework lets only its own exceptions through while it reads a body.
                raise HTTPException(413, _too_large(max_bytes).message)
        return message

    return counted


def _check_length(scope: Scope, max_bytes: int) -> None:
    """Refuse a body by the length it announces, before any of it is read. Raises RefusedError."""
    length = Headers(scope=scope).get("content-length", "")
    if length.isascii() and length.isdigit() and int(length[:20]) > max_bytes:
        raise _too_large(max_bytes)


def _too_large(max_bytes: int) -> RefusedError:
    return RefusedError(413, f"The body is larger than {max_bytes} bytes.", code="request_too_large")
