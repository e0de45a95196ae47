"""Sending what webhooks wait for: the only traffic that leaves a server by itself, and only to addresses its owner gave."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx

from journeyman.database import UNREACHABLE
from journeyman.storage.webhooks import Claim

if TYPE_CHECKING:
    from journeyman.workspace import Workspace

POLL_S = 1.0
"""How often a server looks for deliveries: one small query."""

TIMEOUT_S = 10.0
"""A receiver that has not answered by then is asked again later."""

AT_ONCE = 8
"""Deliveries under way, so that a slow receiver does not hold up the others."""

log = logging.getLogger("journeyman.webhooks")


class Deliverer:
    """Sends deliveries in the background, from `start` to `close`."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="webhooks", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Send no more; what is under way is sent again by whoever is next, unless it arrived."""
        self._ended.set()

    def _go_on(self) -> None:
        while not self._ended.wait(POLL_S):
            try:
                self.send_due()
            except UNREACHABLE as error:
                log.warning("the database does not answer: %s", error)
            except Exception:
                log.exception("deliveries could not be sent")

    def send_due(self) -> int:
        """Send what is due, once; how many deliveries that were."""
        claims = self._workspace.webhooks.claim()
        if claims:
            # Redirects are not followed: where events go is for the owner to say.
            with httpx.Client(timeout=TIMEOUT_S) as client, ThreadPoolExecutor(AT_ONCE) as threads:
                list(threads.map(lambda claim: self._send(client, claim), claims))
        return len(claims)

    def _send(self, client: httpx.Client, claim: Claim) -> None:
        delivery = claim.delivery
        status, error = None, None
        try:
            headers = claim.headers(time.time())
            # Streamed, and never read: what a receiver says beside its status could be without end.
            with client.stream("POST", claim.url, content=delivery.body.encode(), headers=headers) as reply:
                status = reply.status_code
        except (httpx.HTTPError, httpx.InvalidURL) as raised:
            error = f"{type(raised).__name__}: {raised}"[:500]
        self._workspace.webhooks.settle(claim, status=status, error=error)
        log.info(
            "%s to %s: %s", delivery.type, delivery.webhook, status or error,
            extra={"event": delivery.event, "webhook": delivery.webhook, "attempt": delivery.attempts},
        )  # fmt: skip
