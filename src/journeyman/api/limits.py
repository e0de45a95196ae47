"""What a key may use: requests a minute, stored bytes, jobs at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa
from starlette.requests import Request

from journeyman.api.errors import RefusedError

if TYPE_CHECKING:
    from journeyman.database import Condition
    from journeyman.storage.keys import Limits
    from journeyman.workspace import Workspace

MINUTE_S = 60.0


def limits_of(request: Request) -> Limits:
    """The limits of the request's key."""
    limits: Limits = request.state.limits
    return limits


@dataclass(slots=True)
class _Bucket:
    left: float
    at_s: float


class Rates:
    """Requests a minute for each key, by a bucket that fills steadily and holds a minute's worth.

    Each server counts for itself: behind a load balancer a key may use its rate at each.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._buckets: dict[str, _Bucket] = {}
        self._lock = threading.Lock()

    def take(self, key_id: str, per_minute: int) -> dict[str, str]:
        """One request of a key's; OpenAI's headers about what is left. Raises RefusedError where nothing is."""
        with self._lock:
            now_s = self._now_s()
            bucket = self._buckets.setdefault(key_id, _Bucket(per_minute, now_s))
            filled = bucket.left + (now_s - bucket.at_s) * per_minute / MINUTE_S
            bucket.left, bucket.at_s = min(filled, per_minute), now_s
            allowed = bucket.left >= 1
            if allowed:
                bucket.left -= 1
            left = bucket.left
        full_s = (per_minute - left) * MINUTE_S / per_minute
        headers = {
            "x-ratelimit-limit-requests": str(per_minute),
            "x-ratelimit-remaining-requests": str(int(left)),
            "x-ratelimit-reset-requests": _duration(full_s),
        }
        if allowed:
            return headers
        wait_s = (1 - left) * MINUTE_S / per_minute
        raise RefusedError(
            429,
            f"Rate limit reached for this key: {per_minute} requests a minute. Please try again in {_duration(wait_s)}.",
            code="rate_limit_exceeded",
            headers={
                **headers,
                "retry-after": str(int(wait_s) + 1),
                "retry-after-ms": str(int(wait_s * 1000) + 1),
            },
        )


def storage_left(workspace: Workspace, request: Request) -> int | None:
    """The bytes that the key may add to its project's files and uploads; None without a limit. Raises RefusedError at 0."""
    most = limits_of(request).storage_bytes
    if most is None:
        return None
    left = most - workspace.uploads.of(request.state.project).stored_bytes()
    if left <= 0:
        raise storage_used_up(most)
    return left


def room_for(workspace: Workspace, request: Request, size_bytes: int) -> Condition | None:
    """That the key may add so many bytes still when they are added: others may have come meanwhile. None without a limit."""
    most = limits_of(request).storage_bytes
    if most is None:
        return None
    uploads = workspace.uploads.of(request.state.project)

    def insist(connection: sa.Connection) -> None:
        if uploads.stored_bytes(connection) + size_bytes > most:
            raise storage_used_up(most)

    return insist


def storage_used_up(most_bytes: int) -> RefusedError:
    """The refusal of a file that would bring the project above the key's limit."""
    return _quota(
        f"This key may store up to {most_bytes:,} bytes in its project, which this file would exceed",
        "delete files that are no longer needed, or ask the server's owner for more",
        "file",
    )


def room_for_a_job(workspace: Workspace, request: Request) -> Condition | None:
    """That the key's project has fewer jobs queued and running than the key may have. None without a limit."""
    most, project = limits_of(request).jobs, request.state.project
    if most is None:
        return None

    def insist(connection: sa.Connection) -> None:
        if workspace.jobs.count_live(project, connection) >= most:
            raise _quota(
                f"This key may have {most} jobs queued or running in its project at a time, and has",
                "wait for one to end, or cancel one",
                None,
            )

    return insist


def _quota(message: str, fix: str, where: str | None) -> RefusedError:
    """OpenAI's code for a quota, which waiting does not mend: the SDKs are told not to send it again."""
    return RefusedError(
        429, message, code="insufficient_quota", where=where, fix=fix, headers={"x-should-retry": "false"}
    )


def _duration(seconds: float) -> str:
    """As OpenAI writes it: 120ms, 7.66s, 1m0s."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}m{rest:.0f}s" if minutes else f"{rest:.2f}".rstrip("0").rstrip(".") + "s"
