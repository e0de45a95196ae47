"""Keys as they are made, used and revoked, and what each project sees."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from journeyman.api.errors import RefusedError
from journeyman.api.limits import Rates
from journeyman.api.server import prepare
from journeyman.cli.main import app
from journeyman.errors import JourneymanError, RequestError
from journeyman.storage.keys import Keys, Limits
from journeyman.workspace import Workspace

from .conftest import Running, add_version, running
from .scripted import Scripted, serving

ROW = b'{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}\n'


@pytest.fixture
def open_server(tmp_path, base) -> Iterator[Running]:
    with running(tmp_path, base) as server:
        yield server


def refused(server: Running, key: str) -> bool:
    try:
        server.client(key).models.list()
    except openai.AuthenticationError as error:
        return error.code == "invalid_api_key"
    return False


def test_a_key_closes_the_server_and_its_end_does_not_open_it(open_server: Running):
    assert not refused(open_server, "anything")
    key, text = open_server.workspace.keys.create("laptop")
    assert refused(open_server, "anything") and not refused(open_server, text)
    assert refused(open_server, text[:-1]) and refused(open_server, key.id)
    open_server.workspace.keys.revoke(key.id)
    assert refused(open_server, text) and refused(open_server, "anything")
    assert httpx.get(f"{open_server.url}/healthz").status_code == 200


def test_a_project_sees_its_own_files_and_jobs_only(open_server: Running):
    keys = open_server.workspace.keys
    shop, desk = (open_server.client(keys.create("k", project)[1]) for project in ("shop", "desk"))
    file = shop.files.create(file=("a.jsonl", io.BytesIO(ROW * 12)), purpose="fine-tune")
    job = shop.fine_tuning.jobs.create(model="starter", training_file=file.id)
    assert [f.id for f in shop.files.list()] == [file.id]
    assert [j.id for j in shop.fine_tuning.jobs.list()] == [job.id]
    assert not list(desk.files.list()) and not list(desk.fine_tuning.jobs.list())
    for attempt in (
        lambda: desk.files.retrieve(file.id),
        lambda: desk.files.content(file.id),
        lambda: desk.files.delete(file.id),
        lambda: desk.fine_tuning.jobs.retrieve(job.id),
        lambda: desk.fine_tuning.jobs.cancel(job.id),
        lambda: desk.fine_tuning.jobs.list_events(job.id),
    ):
        with pytest.raises(openai.NotFoundError):
            attempt()
    with pytest.raises(openai.BadRequestError) as caught:
        desk.fine_tuning.jobs.create(model="starter", training_file=file.id)
    assert caught.value.code == "invalid_file"
    assert shop.files.retrieve(file.id).id == file.id


def test_the_database_never_holds_a_key(tmp_path):
    workspace = Workspace(tmp_path)
    _, text = workspace.keys.create("laptop")
    engine = sa.create_engine(workspace.settings.database_url)
    with engine.connect() as connection:
        row = connection.execute(sa.text("SELECT * FROM api_keys")).one()
    assert len(text) > 43 and not [value for value in row if isinstance(value, str) and text in value]
    assert row.hint == text[-4:]


def test_another_host_needs_a_key(tmp_path, base):
    workspace = Workspace(tmp_path)
    with pytest.raises(JourneymanError) as caught:
        prepare(workspace, "0.0.0.0", 0)
    assert caught.value.code == "key_needed"
    workspace.keys.create("laptop")
    _, listening = prepare(workspace, "0.0.0.0", 0)
    listening.close()


def test_everything_wrong_with_a_key_is_named_at_once(tmp_path):
    with pytest.raises(RequestError) as caught:
        Workspace(tmp_path).keys.create("", "a b")
    assert len(caught.value.problems) == 2


def test_the_commands(tmp_path, monkeypatch):
    monkeypatch.setenv("JOURNEYMAN_HOME", str(tmp_path))

    def run(*words: str) -> dict:
        result = CliRunner().invoke(app, ["keys", *words, "--json"])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    made = run("create", "laptop", "--project", "shop")
    found = Workspace(tmp_path).keys.find(made["key"])
    assert found is not None and (found.name, found.project) == ("laptop", "shop")
    assert made["key"] not in json.dumps(run("list"))
    assert run("revoke", made["id"])["revoked_at"]
    assert Workspace(tmp_path).keys.find(made["key"]) is None
    wrong = CliRunner().invoke(app, ["keys", "revoke", "key_nobody"])
    assert wrong.exit_code == 1 and "keys list" in str(wrong.exception.fix)


def test_a_model_is_deleted_by_its_own_project_only(open_server: Running, base):
    keys = open_server.workspace.keys
    shop, desk = (open_server.client(keys.create("k", project)[1]) for project in ("shop", "desk"))
    file = shop.files.create(file=("a.jsonl", io.BytesIO(ROW * 12)), purpose="fine-tune")
    job = shop.fine_tuning.jobs.create(model="starter", training_file=file.id)
    model = "ft:tiny:local:theirs:Aa11Bb22"
    add_version(open_server.workspace, base, model, job=job.id)
    with pytest.raises(openai.NotFoundError):
        desk.models.delete(model)
    shop.fine_tuning.checkpoints.permissions.create(model, project_ids=["desk"])
    with pytest.raises(openai.PermissionDeniedError) as caught:
        desk.models.delete(model)
    assert caught.value.code == "model_not_deletable" and "another project" in caught.value.message
    assert desk.models.retrieve(model).id == model
    assert shop.models.delete(model).deleted


def test_a_database_that_can_not_be_reached_is_no_bug(tmp_path):
    """The look-up of the key is the first that needs it."""
    workspace = Scripted()
    workspace.keys = Keys(sa.create_engine(f"sqlite:///{tmp_path}/no/such/folder.db"))
    with serving(workspace) as url:
        reply = httpx.get(f"{url}/v1/models", headers={"authorization": "Bearer jm-x"})
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["type"]) == (503, "database_unavailable", "server_error")
    assert "x-should-retry" not in reply.headers and str(tmp_path) not in reply.text


# ── limits ────────────────────────────────────────────────────────────────────────────────────────────────────


def limited(server: Running, project: str, **limits: int) -> openai.OpenAI:
    _, text = server.workspace.keys.create("limited", project, Limits(**limits))
    return server.client(text)


def test_a_rate_fills_steadily_holds_a_minute_and_is_each_keys_own():
    now_s = 0.0
    rates = Rates(lambda: now_s)
    for left in (1, 0):
        assert rates.take("a", 2)["x-ratelimit-remaining-requests"] == str(left)
    with pytest.raises(RefusedError) as caught:
        rates.take("a", 2)
    assert caught.value.headers["retry-after"] == "31" and caught.value.headers["x-ratelimit-reset-requests"] == "1m0s"
    assert rates.take("b", 2)["x-ratelimit-limit-requests"] == "2"
    now_s = 29.0
    with pytest.raises(RefusedError):
        rates.take("a", 2)
    now_s = 30.0
    assert rates.take("a", 2)["x-ratelimit-remaining-requests"] == "0"
    now_s = 10_000.0
    assert rates.take("a", 2)["x-ratelimit-remaining-requests"] == "1", "no more than a minute's worth is saved up"


def test_too_many_requests_get_429_and_openais_headers(open_server: Running):
    client = limited(open_server, "shop", requests_per_minute=2)
    first = client.models.with_raw_response.list()
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    client.models.list()
    with pytest.raises(openai.RateLimitError) as caught:
        client.models.list()
    error, headers = caught.value, caught.value.response.headers
    assert (error.code, error.type) == ("rate_limit_exceeded", "requests")
    assert 1 <= int(headers["retry-after"]) <= 31
    assert headers["x-ratelimit-remaining-requests"] == "0"
    free = limited(open_server, "shop").models.with_raw_response.list()
    assert "x-ratelimit-limit-requests" not in free.headers


def test_a_project_that_holds_its_bytes_takes_no_more_files(open_server: Running, tmp_path):
    client = limited(open_server, "shop", storage_bytes=1000)
    kept = client.files.create(file=("a.txt", b"x" * 600), purpose="user_data")
    for too_much in (
        lambda: client.files.create(file=("b.txt", b"x" * 401), purpose="user_data"),
        lambda: client.uploads.create(bytes=401, filename="b.txt", mime_type="text/plain", purpose="assistants"),
    ):
        with pytest.raises(openai.RateLimitError) as caught:
            too_much()
        assert caught.value.code == "insufficient_quota" and "1,000 bytes" in caught.value.message
        assert caught.value.response.headers["x-should-retry"] == "false"
    begun = client.uploads.create(bytes=300, filename="b.txt", mime_type="text/plain", purpose="assistants")
    with pytest.raises(openai.RateLimitError):
        client.files.create(file=("c.txt", b"x" * 101), purpose="user_data")
    client.uploads.parts.create(begun.id, data=b"x" * 300)
    client.uploads.parts.create(begun.id, data=b"x" * 100)
    with pytest.raises(openai.BadRequestError, match="may hold 600 bytes"):
        client.uploads.parts.create(begun.id, data=b"x" * 201)
    client.uploads.cancel(begun.id)
    client.files.delete(kept.id)
    client.files.create(file=("b.txt", b"x" * 1000), purpose="user_data")
    with pytest.raises(openai.RateLimitError):
        client.files.create(file=("c.txt", b"x"), purpose="user_data")
    assert not [path for path in open_server.workspace.settings.files_folder.iterdir() if path.name.startswith(".")]


def test_a_project_with_its_jobs_queued_takes_no_more(open_server: Running):
    client = limited(open_server, "shop", jobs=1)
    file = client.files.create(file=("a.jsonl", io.BytesIO(ROW * 12)), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(model="starter", training_file=file.id)
    with pytest.raises(openai.RateLimitError) as caught:
        client.fine_tuning.jobs.create(model="starter", training_file=file.id)
    assert caught.value.code == "insufficient_quota" and "1 jobs" in caught.value.message
    client.fine_tuning.jobs.pause(job.id)
    other = client.fine_tuning.jobs.create(model="starter", training_file=file.id)
    with pytest.raises(openai.RateLimitError):
        client.fine_tuning.jobs.resume(job.id)
    client.fine_tuning.jobs.cancel(other.id)
    assert client.fine_tuning.jobs.resume(job.id).status == "queued"


@pytest.fixture
def two_servers(open_server: Running) -> Iterator[tuple[str, str]]:
    """Two servers of one home, with workspaces of their own."""
    with serving(Workspace(open_server.workspace.settings.home), bases=[str(open_server.base)]) as other:
        yield open_server.url, other


def at_once(urls: tuple[str, str], key: str, *paths: str, **body) -> list[int]:
    """The statuses of eight requests that are sent to both servers together; `paths` are one for each, or one for all."""
    together = threading.Barrier(8)

    def send(number: int) -> int:
        with httpx.Client(base_url=urls[number % 2], headers={"authorization": f"Bearer {key}"}, timeout=60) as client:
            together.wait()
            return client.post(paths[number % len(paths)], **body).status_code

    with ThreadPoolExecutor(8) as threads:
        return sorted(threads.map(send, range(8)))


def test_limits_hold_for_requests_that_come_together(open_server: Running, two_servers):
    workspace = open_server.workspace
    _, key = workspace.keys.create("limited", "shop", Limits(storage_bytes=10_000, jobs=2))
    file = open_server.client(key).files.create(file=("a.jsonl", io.BytesIO(ROW * 12)), purpose="fine-tune")

    queued = at_once(two_servers, key, "/v1/fine_tuning/jobs", json={"model": "starter", "training_file": file.id})
    assert queued == [200] * 2 + [429] * 6
    assert len(workspace.jobs.unended()) == 2 == len(list(workspace.settings.jobs_folder.iterdir()))

    form = {"files": {"file": ("b.txt", b"x" * 3000)}, "data": {"purpose": "user_data"}}
    assert at_once(two_servers, key, "/v1/files", **form) == [200] * 2 + [429] * 6
    uploads = workspace.uploads.of("shop")
    assert uploads.stored_bytes() == file.bytes + 6000
    assert len(list(workspace.settings.files_folder.iterdir())) == 3

    begun = {"bytes": 1000, "filename": "c.txt", "mime_type": "text/plain", "purpose": "assistants"}
    assert at_once(two_servers, key, "/v1/uploads", json=begun) == [200] * 2 + [429] * 6
    assert uploads.stored_bytes() == file.bytes + 8000

    (upload, _) = uploads.documents.page("upload").items
    part = {"files": {"data": ("part", b"x" * 900)}}
    assert at_once(two_servers, key, f"/v1/uploads/{upload.id}/parts", **part) == [200] * 2 + [400] * 6


def test_jobs_that_are_resumed_together_stay_within_the_limit(open_server: Running, two_servers):
    client = limited(open_server, "shop")
    file = client.files.create(file=("a.jsonl", io.BytesIO(ROW * 12)), purpose="fine-tune")
    ids = [client.fine_tuning.jobs.create(model="starter", training_file=file.id).id for _ in range(8)]
    for job_id in ids:
        client.fine_tuning.jobs.pause(job_id)
    _, key = open_server.workspace.keys.create("limited", "shop", Limits(jobs=1))
    paths = [f"/v1/fine_tuning/jobs/{job_id}/resume" for job_id in ids]
    assert at_once(two_servers, key, *paths) == [200] + [429] * 7
    assert [job.status for job in open_server.workspace.jobs.unended()].count("queued") == 1


def test_limits_are_given_on_the_command_line_and_listed(tmp_path, monkeypatch):
    monkeypatch.setenv("JOURNEYMAN_HOME", str(tmp_path))
    run = CliRunner().invoke
    asked = ["keys", "create", "ci", "--storage-mib", "10", "--jobs", "2", "--requests-per-minute", "60", "--json"]
    made = json.loads(run(app, asked).stdout)
    assert made["limits"] == {"storage_bytes": 10 * 2**20, "jobs": 2, "requests_per_minute": 60}
    (listed,) = json.loads(run(app, ["keys", "list", "--json"]).stdout)["keys"]
    assert listed["limits"] == made["limits"]
    assert run(app, ["keys", "create", "ci", "--jobs", "0"]).exit_code == 2
    with pytest.raises(RequestError) as caught:
        Workspace(tmp_path).keys.create("", limits=Limits(jobs=0))
    assert len(caught.value.problems) == 2
