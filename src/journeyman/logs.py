"""The log: a line for people, or one JSON object a line, with the request and the job that the line belongs to."""

from __future__ import annotations

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal

LogFormat = Literal["text", "json"]

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The request that the present thread or task answers."""

job_id: ContextVar[str | None] = ContextVar("job_id", default=None)
"""The job that the present process or thread works at."""

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "color_message"}


class JsonLines(logging.Formatter):
    """One object a line: `at` (UTC), `level`, `logger`, `message`, the ids, then whatever `extra` brought."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line, whatever it holds."""
        entry: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        ids = {"request_id": request_id.get(), "job_id": job_id.get()}
        entry |= {name: id for name, id in ids.items() if id is not None}
        entry |= {name: value for name, value in record.__dict__.items() if name not in _STANDARD}
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str)


def begin(form: LogFormat) -> None:
    """Let this process log to standard error: text from warnings on, JSON with every request and every job's way."""
    handler = logging.StreamHandler(sys.stderr)
    root = logging.getLogger()
    if form == "json":
        handler.setFormatter(JsonLines())
        root.setLevel(logging.INFO)
        for noisy in ("httpx", "httpcore", "alembic"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
    else:
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        root.setLevel(logging.WARNING)
    root.handlers = [handler]
