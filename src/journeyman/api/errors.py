"""Every refusal in OpenAI's envelope: {"error": {"message", "type", "param", "code"}}.

A JourneymanError becomes a status by its class; a body that does not fit becomes 400, never 422; anything else is
a bug, of which the client learns a request id and nothing more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException

from journeyman.api.rendering import Json
from journeyman.api.wire import ErrorEnvelope, WireError
from journeyman.database import UNREACHABLE
from journeyman.errors import (
    BaseNotFound,
    DataError,
    GraderError,
    JobConflict,
    JobNotFound,
    JourneymanError,
    ModelConflict,
    ModelNotFound,
    ObjectNotFound,
    PlanError,
    QueueFull,
    RequestError,
    TaskError,
)
from journeyman.files import NO_ROOM

# Conflicts are 400, not 409: OpenAI's SDKs send a 409 again, twice.
_STATUS: tuple[tuple[type[JourneymanError], int], ...] = (
    (ModelNotFound, 404),
    (ModelConflict, 403),
    (JobNotFound, 404),
    (ObjectNotFound, 404),
    (BaseNotFound, 404),
    (QueueFull, 429),
    (RequestError, 400),
    (DataError, 400),
    (TaskError, 400),
    (PlanError, 400),
    (GraderError, 400),
    (JobConflict, 400),
)

MAX_PROBLEMS = 5
"""How many of a body's problems one message names."""

_PARAM = re.compile(r"[A-Za-z_]\w*(\[\d+\])*(\.\w+(\[\d+\])*)*")


class RefusedError(RequestError):
    """A request that is refused with a status of its own; `where` names the field."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        where: str | None = None,
        fix: str | None = None,
        headers: Mapping[str, str] | None = None,
    ):
        super().__init__(message, where=where, fix=fix, code=code)
        self.status = status
        self.headers = headers or {}


def status_of(error: JourneymanError) -> int:
    """The HTTP status of an error; 500 for what only the server's owner can mend."""
    if isinstance(error, RefusedError):
        return error.status
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def envelope(message: str, *, status: int, code: str, param: str | None = None) -> ErrorEnvelope:
    """The error as OpenAI's SDKs read it."""
    kind: Literal["server_error", "requests", "invalid_request_error"]
    kind = "server_error" if status >= 500 else "requests" if status == 429 else "invalid_request_error"
    return ErrorEnvelope(error=WireError(message=message, type=kind, param=param, code=code))


def envelope_of(error: Exception, request_id: str) -> tuple[int, ErrorEnvelope]:
    """The status and envelope of any exception; a bug's words stay on the server."""
    if _no_room(error):
        message = "The server's disk is full. Nothing of this request was kept; send it again once there is room."
        return 507, envelope(message, status=507, code="disk_full")
    if isinstance(error, JourneymanError):
        status = status_of(error)
        return status, envelope(_message(error), status=status, code=error.code, param=_param(error))
    if isinstance(error, UNREACHABLE):
        message = "The server's database can't be reached at the moment, or is locked. Try again."
        return 503, envelope(message, status=503, code="database_unavailable")
    message = f"The server had an error while processing your request. Its log names it by the request id {request_id}."
    return 500, envelope(message, status=500, code="internal_error")


def _no_room(error: Exception) -> bool:
    """Whether a file or SQLite's own could not be written for want of room."""
    if isinstance(error, OSError):
        return error.errno in NO_ROOM
    return isinstance(error, OperationalError) and "database or disk is full" in str(error.orig)


def error_response(
    status: int, body: ErrorEnvelope, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The response that carries an envelope. A bug is not worth sending the same again for, and the SDKs are told so."""
    extra = {"x-should-retry": "false"} if status >= 500 and status != 503 else {}
    return Json(body.model_dump(), status_code=status, headers={**extra, **(headers or {})})


def install(app: FastAPI) -> None:
    """Let the app answer in envelopes only."""
    app.add_exception_handler(JourneymanError, _refused)
    app.add_exception_handler(RequestValidationError, _misfit)
    app.add_exception_handler(HTTPException, _no_route)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    return error_response(*envelope_of(error, request.state.request_id), headers_of(error))


def headers_of(error: Exception) -> Mapping[str, str]:
    """What the headers of a refusal say beside its body."""
    if isinstance(error, QueueFull):
        return {"retry-after": str(error.retry_after_s)}
    return error.headers if isinstance(error, RefusedError) else {}


async def _misfit(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    problems = error.errors()
    if any(problem["loc"] == ("body",) and isinstance(problem.get("input"), bytes) for problem in problems):
        return error_response(400, _no_json(request.headers.get("content-type", "")))
    sent = _UNKNOWN if error.body is None else error.body  # what a form or a query held is not at hand
    return error_response(400, misfit_envelope(problems, sent))


def _no_json(kind: str) -> ErrorEnvelope:
    """A body that does not say it is JSON stays unread: a web page may send those unasked. In OpenAI's words.

    Source: https://github.com/openai/openai-openapi/issues/194.
    """
    sent = f"you specified the header 'Content-Type: {_shortened(kind)}'" if kind else "there is no header Content-Type"
    message = (
        f"Unsupported content type: '{_shortened(kind)}'. This API method only accepts 'application/json' requests, but {sent}. "
        "Send the header 'Content-Type: application/json' (curl: -H 'Content-Type: application/json')."
    )
    return envelope(message, status=400, code="unsupported_content_type")


async def _no_route(request: Request, error: Exception) -> JSONResponse:
    """What the framework refuses by itself: an unknown URL, a wrong method, an unreadable body."""
    assert isinstance(error, HTTPException)
    method, path = request.method, request.url.path
    known = {
        404: (f"Invalid URL ({method} {path})", "unknown_url"),
        405: (f"Not allowed to {method} on {path}.", "method_not_allowed"),
        413: (str(error.detail), "request_too_large"),
    }
    message, code = known.get(error.status_code, (str(error.detail), "invalid_request"))
    body = envelope(message, status=error.status_code, code=code)
    return error_response(error.status_code, body, error.headers)


def _message(error: JourneymanError) -> str:
    parts = [error.message, *error.problems]
    # OpenAI's wording for an unknown model is matched on by scripts: nothing is added to it.
    if error.fix and not isinstance(error, ModelNotFound) and not any(error.fix in part for part in parts):
        parts.append(f"Mend: {error.fix}.")
    if len(parts) == 1:  # no period either: OpenAI's other texts are matched on too
        return error.message
    return " ".join(part if part.endswith((".", "!", "?")) else f"{part}." for part in parts)


def _param(error: JourneymanError) -> str | None:
    """The field of the request; a file or folder of the server is not told, and OpenAI names none for a model."""
    if isinstance(error, ModelNotFound) or error.where is None:
        return None
    named = isinstance(error, RequestError | ObjectNotFound)
    return error.where if named and _PARAM.fullmatch(error.where) else None


# ── bodies that do not fit ────────────────────────────────────────────────────────────────────────────────────


_UNKNOWN = object()


@dataclass(frozen=True)
class _Misfit:
    """One of pydantic's problems, at its place in what was sent."""

    path: tuple[str | int, ...]
    union: tuple[str | int, ...] | None
    """The place of the union that one of whose branches it comes from; None outside of any."""
    kind: str
    said: str
    input: Any

    @classmethod
    def of(cls, problem: Mapping[str, Any], sent: Any) -> _Misfit:
        kind, loc = str(problem["type"]), tuple(problem["loc"])
        if sent is _UNKNOWN or loc[:1] in (("query",), ("path",)):
            path, union = loc[1:] if loc[:1] in (("body",), ("query",), ("path",)) else loc, None
        else:
            path, union = _placed(loc[1:] if loc[:1] == ("body",) else loc, sent, missing=kind == "missing")
        said = str(problem["msg"])
        if loc[-1:] == ("[key]",):  # pydantic names the key itself, which the client invented
            path, said = path[:-1], f"of a key, {said}"
        return cls(path, union, kind, said, problem.get("input"))

    @property
    def of_type(self) -> bool:
        return self.kind.endswith("_type") or self.kind == "string_unicode"


def _placed(
    loc: tuple[str | int, ...], sent: Any, *, missing: bool
) -> tuple[tuple[str | int, ...], tuple[str | int, ...] | None]:
    """The parts of a problem's place that are in what was sent, and where the first union is.

    pydantic puts the names of a union's branches in between ('n_epochs', 'constrained-int'), and what validators made
    of the input ('functions', 0, 'function', 'name'): no field of the request has such a name.
    """
    path: tuple[str | int, ...] = ()
    union: tuple[str | int, ...] | None = None
    for number, part in enumerate(loc):
        if part in sent if isinstance(sent, dict) else isinstance(sent, list) and part in range(len(sent)):
            sent = sent[part]
        elif not (missing and number == len(loc) - 1):
            union = path if union is None else union
            continue
        path = (*path, part)
    return path, union


def _settled(misfits: Sequence[_Misfit]) -> list[_Misfit]:
    """One problem a place: of a union's branches those that went furthest into the input, and of these what they expect."""
    kept: dict[tuple[str | int, ...], list[_Misfit]] = {}
    for misfit in misfits:
        siblings = [other for other in misfits if misfit.union is not None and other.union == misfit.union]
        if len(misfit.path) > len(misfit.union or ()) or all(len(other.path) <= len(misfit.path) for other in siblings):
            kept.setdefault(misfit.path, []).append(misfit)
    return [_merged(found) for found in kept.values()]


def _merged(found: Sequence[_Misfit]) -> _Misfit:
    """The problems of one place as one; a branch of another type says nothing where one of the right type does."""
    told = [misfit for misfit in found if not misfit.of_type]
    if all(misfit.kind == "literal_error" for misfit in told):
        told = list(found)
    told.sort(key=lambda misfit: misfit.kind == "literal_error")
    first, *others = dict.fromkeys(misfit.said for misfit in told)
    return replace(told[0], said=" or ".join([first, *(said.removeprefix("Input should be ") for said in others)]))


def misfit_envelope(problems: Sequence[Mapping[str, Any]], sent: Any = _UNKNOWN) -> ErrorEnvelope:
    """pydantic's problems with what was `sent`, if that is at hand, in OpenAI's words; `param` and `code` are those of the first."""
    if not problems:
        return envelope("The request does not fit.", status=400, code="invalid_request")
    described = [_describe(misfit) for misfit in _settled([_Misfit.of(problem, sent) for problem in problems])]
    named: dict[tuple[str, str], list[str]] = {}  # what is wrong in several places is said once, with all their names
    for saying, _, param in described[:MAX_PROBLEMS]:
        named.setdefault(saying, []).append(f"'{param or 'body'}'")
    message = " ".join(f"{before}{', '.join(names)}{after}" for (before, after), names in named.items())
    _, code, param = described[0]
    if code == "invalid_json":
        return envelope("We could not parse the JSON body of your request.", status=400, code=code)
    return envelope(message, status=400, code=code, param=param)


def _describe(misfit: _Misfit) -> tuple[tuple[str, str], str, str | None]:
    """One problem as what is said before and after the name of its place, code, and param."""
    kind, param = misfit.kind, param_of(misfit.path)
    if kind == "json_invalid":
        return ("", ""), "invalid_json", None
    if kind == "missing":
        return ("Missing required parameter: ", "."), "missing_required_parameter", param
    if kind == "extra_forbidden":
        return ("Unknown parameter: ", "."), "unknown_parameter", param
    if kind in ("unsupported_parameter", "unsupported_value"):
        return ("Unsupported parameter: ", f". {misfit.said}"), "unsupported_parameter", param
    if misfit.of_type:
        got = json.dumps(_json_kind(misfit.input))
        return ("Invalid type for ", f": {misfit.said}, but got {got}."), "invalid_type", param
    return ("Invalid value for ", f": {misfit.said}."), "invalid_value", param


def param_of(path: Sequence[str | int]) -> str | None:
    """('messages', 0, 'content') as OpenAI writes it: messages[0].content."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return _shortened(text) or None


def _shortened(text: str, limit: int = 100) -> str:
    """Field names that a client invents can be of any length, and of characters that no reply can carry."""
    clean = text.encode("utf-8", "replace").decode()
    return clean if len(clean) <= limit else clean[:limit] + "…"


def _json_kind(value: object) -> str:
    if isinstance(value, bool):
        return "boolean"
    kinds = {str: "string", int: "integer", float: "number", list: "array", dict: "object"}
    return kinds.get(type(value), "null" if value is None else "unreadable text")
