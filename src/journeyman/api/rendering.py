"""JSON as it leaves the server."""

from __future__ import annotations

import json
from typing import Any

from fastapi.responses import JSONResponse


def json_bytes(value: Any) -> bytes:
    """JSON in UTF-8. Half of a surrogate pair, which UTF-8 can't hold, is written as JSON's own escape of it.

    Requests with one are refused (api/sound.py); rows that an earlier version kept must not make a list unreadable.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")  # Python's escape of a surrogate is JSON's: \ud83d


class Json(JSONResponse):
    """The response class of all routes."""

    def render(self, content: Any) -> bytes:
        """The body."""
        return json_bytes(content)
