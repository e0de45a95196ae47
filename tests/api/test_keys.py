"""Keys as they are made, used and revoked, and what each project sees."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import httpx
import openai
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from journeyman.api.server import prepare
from journeyman.cli.main import app
from journeyman.errors import JourneymanError, RequestError
from journeyman.workspace import Workspace

from .conftest import Running, running

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
