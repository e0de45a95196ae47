"""Webhooks: what a receiver gets, verified by OpenAI's own SDK, and what becomes of what it does not take."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import openai
import pytest
import sqlalchemy as sa
from openai.types.webhooks import EvalRunSucceededWebhookEvent, FineTuningJobFailedWebhookEvent

from journeyman import database
from journeyman.api.deliver import Deliverer
from journeyman.errors import ObjectNotFound, RequestError
from journeyman.jobs.state import JobState, move
from journeyman.plan.plan import Wishes
from journeyman.storage.webhooks import DELAYS_S, Webhooks
from journeyman.workspace import Workspace


@contextmanager
def receiver(*statuses: int) -> Iterator[tuple[str, list[tuple[dict[str, str], str]]]]:
    """An address that answers with these statuses, the last one again and again, and what it received."""
    received: list[tuple[dict[str, str], str]] = []
    left = list(statuses)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            received.append((dict(self.headers.items()), body))
            self.send_response(left.pop(0) if len(left) > 1 else left[0])
            self.send_header("location", "http://127.0.0.1:1/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", received
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "home")


def job(workspace: Workspace, project: str = "default") -> str:
    return workspace.jobs.create(base="b", source="s", suffix="", wishes=Wishes(), project=project).id


def end(workspace: Workspace, to: JobState = JobState.FAILED, project: str = "default") -> str:
    ended = job(workspace, project)
    move(workspace.jobs.engine, ended, to)
    return ended


def make_due(workspace: Workspace) -> None:
    """Let the time until the next attempt pass."""
    with workspace.jobs.engine.begin() as connection:
        table = database.deliveries
        connection.execute(table.update().where(table.c.next_at.is_not(None)).values(next_at=1.0))


def test_an_event_is_what_the_sdk_unwraps(workspace):
    with receiver(200) as (url, received):
        _, secret = workspace.webhooks.create(url, (), "default")
        ended = end(workspace)
        assert Deliverer(workspace).send_due() == 1
        assert Deliverer(workspace).send_due() == 0
    ((headers, body),) = received
    client = openai.OpenAI(api_key="any", webhook_secret=secret)
    event = client.webhooks.unwrap(body, headers)
    assert isinstance(event, FineTuningJobFailedWebhookEvent)
    assert (event.type, event.data.id, event.object) == ("fine_tuning.job.failed", ended, "event")
    assert headers["webhook-id"] == event.id and event.id.startswith("evt_")
    (delivery,) = workspace.webhooks.deliveries()
    assert (delivery.state, delivery.attempts, delivery.last_status) == ("delivered", 1, 200)
    for tampered in (body.replace("failed", "succeeded"), body + " "):
        with pytest.raises(openai.InvalidWebhookSignatureError):
            client.webhooks.unwrap(tampered, headers)
    with pytest.raises(openai.InvalidWebhookSignatureError):
        openai.OpenAI(api_key="any", webhook_secret="whsec_" + "A" * 44).webhooks.unwrap(body, headers)


def test_only_ends_of_the_webhooks_project_and_kind_are_told_and_each_once(workspace):
    hooks = workspace.webhooks
    hooks.create("http://127.0.0.1:1/a", ["fine_tuning.job.succeeded", "fine_tuning.job.cancelled"], "default")
    hooks.create("http://127.0.0.1:1/b", (), "other")
    engine = workspace.jobs.engine
    waiting = job(workspace)
    for state in (JobState.PAUSED, JobState.QUEUED, JobState.RUNNING):
        move(engine, waiting, state)
    assert not hooks.deliveries()
    end(workspace, JobState.FAILED)
    assert not hooks.deliveries()
    move(engine, waiting, JobState.SUCCEEDED)
    other = end(workspace, JobState.CANCELLED, project="other")
    newest, oldest = hooks.deliveries()
    assert (oldest.type, newest.type) == ("fine_tuning.job.succeeded", "fine_tuning.job.cancelled")
    assert other in newest.body and waiting in oldest.body


def test_what_is_not_taken_comes_again_later_with_the_same_id_until_it_is_given_up(workspace):
    with receiver(500) as (url, received):
        workspace.webhooks.create(url, (), "default")
        end(workspace)
        deliverer = Deliverer(workspace)
        for attempt in range(1, len(DELAYS_S) + 2):
            assert deliverer.send_due() == 1
            assert deliverer.send_due() == 0, "not before its time"
            (delivery,) = workspace.webhooks.deliveries()
            assert (delivery.attempts, delivery.last_status) == (attempt, 500)
            if attempt <= len(DELAYS_S):
                with workspace.jobs.engine.connect() as connection:
                    now = connection.execute(sa.select(database.clock(workspace.jobs.engine))).scalar_one()
                assert now < delivery.next_at <= now + DELAYS_S[attempt - 1]
            make_due(workspace)
        assert delivery.state == "given up"
        assert deliverer.send_due() == 0
        assert len({headers["webhook-id"] for headers, _ in received}) == 1
        workspace.webhooks.resend(delivery.number)
        assert deliverer.send_due() == 1


def test_nobody_there_a_redirect_and_an_address_that_has_gone(workspace):
    hooks = workspace.webhooks
    nobody, _ = hooks.create("http://127.0.0.1:1/", (), "default")
    with receiver(307) as (redirecting, redirected), receiver(410) as (gone, asked):
        hooks.create(redirecting, (), "default")
        gone_hook, _ = hooks.create(gone, (), "default")
        end(workspace)
        Deliverer(workspace).send_due()
        end(workspace)
        assert len(redirected) == len(asked) == 1
    (first,) = hooks.deliveries(nobody.id)[1:]
    assert first.state == "waiting" and first.last_status is None and "ConnectError" in first.last_error
    (told,) = hooks.deliveries(gone_hook.id)
    assert told.state == "given up"
    assert [hook.disabled for hook in hooks.list()] == [None, None, "it answered 410 Gone"]


def test_of_two_servers_one_sends_and_a_dead_one_is_stood_in_for(workspace):
    workspace.webhooks.create("http://127.0.0.1:1/", (), "default")
    end(workspace)
    other = Webhooks(workspace.jobs.engine)
    assert [len(workspace.webhooks.claim()), len(other.claim())] == [1, 0]
    make_due(workspace)  # the claim has run out, and nobody said what became of it
    (again,) = other.claim()
    assert again.delivery.attempts == 2


def test_an_eval_run_is_told_of_too(workspace):
    with receiver(200) as (url, received):
        _, secret = workspace.webhooks.create(url, ["eval.run.succeeded"], "default")
        documents = workspace.documents
        run = documents.add("eval.run", {"status": "in_progress"})
        for _ in range(2):
            documents.change(run, {"status": "completed"}, only_if={"status": "in_progress"}, announced="eval.run.succeeded")
        Deliverer(workspace).send_due()
    ((headers, body),) = received
    event = openai.OpenAI(api_key="any").webhooks.unwrap(body, headers, secret=secret)
    assert isinstance(event, EvalRunSucceededWebhookEvent) and event.data.id == run.id


def test_what_can_be_no_webhook_is_refused_with_all_that_is_wrong(workspace):
    with pytest.raises(RequestError) as caught:
        workspace.webhooks.create("ftp://x", ["job.ended", "fine_tuning.job.failed"], "default")
    assert len(caught.value.problems) == 2 and "fine_tuning.job.failed" in caught.value.fix
    with pytest.raises(ObjectNotFound):
        workspace.webhooks.remove("we_nope")
    hook, _ = workspace.webhooks.create("https://example.test/x", (), "default")
    end(workspace)
    workspace.webhooks.remove(hook.id)
    assert not workspace.webhooks.list() and not workspace.webhooks.deliveries()
