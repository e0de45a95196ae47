"""Who may call whose models: what a permission opens, and that nothing else does."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import suppress

import openai
import pytest
from typer.testing import CliRunner

from journeyman.api.models import Catalogue
from journeyman.cli.main import app
from journeyman.errors import ModelNotFound
from journeyman.jobs.state import JobState, move

from .conftest import Running, add_version, running

ROW = b'{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}\n'
HI = [{"role": "user", "content": "Hi"}]
MODEL = "ft:tiny:local:theirs:Aa11Bb22"


class Projects:
    """A server with a key for each of three projects, and a model that shop's job has made."""

    def __init__(self, server: Running, base) -> None:
        self.workspace = server.workspace
        keys = server.workspace.keys
        self.owner, self.shop, self.desk, self.lab = (
            server.client(keys.create("k", project)[1]) for project in ("default", "shop", "desk", "lab")
        )
        file = self.shop.files.create(file=("a.jsonl", io.BytesIO(ROW * 12)), purpose="fine-tune")
        self.job = self.workspace.job(self.shop.fine_tuning.jobs.create(model="tiny", training_file=file.id).id)
        add_version(server.workspace, base, MODEL, job=self.job.id)
        self.workspace.registry.set_alias("live", MODEL)

    def checkpoint(self) -> str:
        """A checkpoint of shop's job: the name is all that is looked up here."""
        folder = self.job.folder / "checkpoints" / "step-000003"
        folder.mkdir(parents=True)
        (folder / "state.json").touch()
        return self.workspace.checkpoint_name(self.job, 3)


@pytest.fixture
def projects(tmp_path, base) -> Iterator[Projects]:
    with running(tmp_path, base) as server:
        yield Projects(server, base)


def test_weights_are_downloaded_with_a_key_of_the_jobs_own_project_only(projects):
    job, engine = projects.job, projects.workspace.jobs.engine
    move(engine, job.id, JobState.RUNNING)
    move(engine, job.id, JobState.SUCCEEDED, model=MODEL)
    projects.workspace.share(MODEL, ["desk"])
    file_id = projects.shop.fine_tuning.jobs.retrieve(job.id).model_extra["weights_file"]
    assert projects.shop.files.content(file_id).read()
    for other in (projects.desk, projects.lab, projects.owner):
        with pytest.raises(openai.NotFoundError):
            other.files.content(file_id)
        assert file_id not in {file.id for file in other.files.list()}


def calls(client: openai.OpenAI, model: str) -> list[Callable[[], object]]:
    """Every way in which a key can reach a model."""
    source = {
        "type": "completions",
        "model": model,
        "source": {"type": "file_content", "content": [{"item": {}}]},
        "input_messages": {"type": "template", "template": HI},
    }

    def run() -> object:
        config = {"type": "custom", "item_schema": {"type": "object", "properties": {}}}
        grader = {"type": "string_check", "name": "g", "input": "a", "reference": "a", "operation": "eq"}
        of = client.evals.create(data_source_config=config, testing_criteria=[grader])
        return client.evals.runs.create(of.id, data_source=source)

    def train() -> object:
        file = client.files.create(file=("a.jsonl", io.BytesIO(ROW * 12)), purpose="fine-tune")
        return client.fine_tuning.jobs.create(model=model, training_file=file.id)

    return [
        lambda: client.models.retrieve(model),
        lambda: client.chat.completions.create(model=model, messages=HI, max_tokens=1),
        lambda: client.completions.create(model=model, prompt="Hi", max_tokens=1),
        lambda: client.responses.create(model=model, input="Hi", max_output_tokens=16),
        lambda: client.responses.input_tokens.count(model=model, input="Hi"),
        run,
        train,
    ]


def judged(client: openai.OpenAI, model: str) -> bool:
    """Whether a model can be asked as a judge."""
    grader = {
        "type": "label_model", "name": "j", "model": model, "input": HI, "labels": ["a", "b"], "passing_labels": ["a", "b"],
    }  # fmt: skip
    return client.fine_tuning.alpha.graders.run(grader=grader, model_sample="x").reward == 1.0


def test_a_model_is_called_from_another_project_only_while_a_permission_stands(projects: Projects):
    permissions = projects.shop.fine_tuning.checkpoints.permissions
    for name in (MODEL, "live"):
        for call in calls(projects.desk, name):
            with pytest.raises((openai.NotFoundError, openai.BadRequestError)) as caught:
                call()
            assert caught.value.code in ("model_not_found", "model_not_available")
        assert not judged(projects.desk, name)
    assert [m.id for m in projects.desk.models.list()] == ["starter-1", "tiny"]

    (given,) = permissions.create(MODEL, project_ids=["desk"]).data
    for name in (MODEL, "live"):
        for call in calls(projects.desk, name):
            call()
        assert judged(projects.desk, name)
    assert [m.id for m in projects.desk.models.list()] == ["starter-1", "tiny", MODEL, "live"]
    with pytest.raises(openai.NotFoundError):
        projects.lab.models.retrieve(MODEL)

    assert permissions.delete(given.id, fine_tuned_model_checkpoint=MODEL).deleted
    with pytest.raises(openai.NotFoundError) as caught:
        projects.desk.chat.completions.create(model=MODEL, messages=HI)
    assert "does not exist or you do not have access to it." in caught.value.message


def test_its_own_project_and_the_owner_need_no_permission(projects: Projects):
    for client in (projects.shop, projects.owner):
        for call in calls(client, MODEL):
            call()
        assert MODEL in [m.id for m in client.models.list()]


def test_what_the_command_line_trained_is_the_owners(projects: Projects, base):
    model = "ft:tiny:local::Cc33Dd44"
    add_version(projects.workspace, base, model)
    assert projects.owner.models.retrieve(model).id == model
    with pytest.raises(openai.NotFoundError):
        projects.shop.models.retrieve(model)
    projects.workspace.share(model, ["shop"])
    assert projects.shop.models.retrieve(model).id == model


def test_a_checkpoint_is_permitted_by_itself(projects: Projects):
    name = projects.checkpoint()
    projects.shop.fine_tuning.checkpoints.permissions.create(MODEL, project_ids=["desk"])
    assert projects.shop.models.retrieve(name).id == name
    assert [name in {m.id for m in of.models.list()} for of in (projects.shop, projects.desk, projects.owner)] == [True, False, True]
    with pytest.raises(openai.NotFoundError):
        projects.desk.models.retrieve(name)
    projects.owner.fine_tuning.checkpoints.permissions.create(name, project_ids=["desk"])
    assert projects.desk.models.retrieve(name).id == name
    assert name in {m.id for m in projects.desk.models.list()}


def test_nobody_permits_themselves(projects: Projects):
    foreign = projects.desk.fine_tuning.checkpoints.permissions
    for attempt in (
        lambda: foreign.create(MODEL, project_ids=["desk"]),
        lambda: foreign.list(MODEL),
        lambda: foreign.delete("cp_x", fine_tuned_model_checkpoint=MODEL),
    ):
        with pytest.raises(openai.NotFoundError) as caught:
            attempt()
        assert caught.value.code == "model_not_found"
    projects.workspace.share(MODEL, ["desk"])
    with pytest.raises(openai.PermissionDeniedError) as caught:
        foreign.create(MODEL, project_ids=["lab"])
    assert caught.value.code == "key_not_allowed"
    # What was kept under the caller's own project before permissions meant anything.
    projects.workspace.documents.of("lab").add("checkpoint.permission", {"project_id": "lab"}, parent=MODEL)
    with pytest.raises(openai.NotFoundError):
        projects.lab.models.retrieve(MODEL)


def test_pages_order_and_what_is_refused(projects: Projects):
    permissions = projects.shop.fine_tuning.checkpoints.permissions
    names = [f"p{n}" for n in range(12)]
    made = permissions.create(MODEL, project_ids=names).data
    assert [p.project_id for p in made] == names
    assert all(p.object == "checkpoint.permission" and p.id.startswith("cp_") for p in made)
    again = permissions.create(MODEL, project_ids=["p3", "p3", "new"]).data
    assert [p.project_id for p in again] == ["p3", "new"] and again[0].id == made[3].id

    page = permissions.list(MODEL)
    assert [p.project_id for p in page.data] == ["new", *names[:2:-1]] and page.has_more
    assert (page.first_id, page.last_id) == (page.data[0].id, page.data[-1].id)
    assert [p.project_id for p in permissions.list(MODEL, limit=5)] == ["new", *names[::-1]], "all pages"
    ascending = permissions.list(MODEL, order="ascending", limit=2, after=made[0].id)
    assert [p.project_id for p in ascending.data] == ["p1", "p2"]
    assert [p.id for p in permissions.list(MODEL, project_id="p4")] == [made[4].id]
    assert [p.id for p in projects.owner.fine_tuning.checkpoints.permissions.list("live", project_id="p4")] == [made[4].id]

    for refused, param in (
        (lambda: permissions.create(MODEL, project_ids=["a b"]), "project_ids[0]"),
        (lambda: permissions.create(MODEL, project_ids=[]), "project_ids"),
        (lambda: permissions.create("tiny", project_ids=["desk"]), "fine_tuned_model_checkpoint"),
        (lambda: permissions.list(MODEL, after="cp_nope"), "after"),
        (lambda: permissions.list(MODEL, limit=0), "limit"),
    ):
        with pytest.raises(openai.BadRequestError) as caught:
            refused()
        assert caught.value.param == param
    with pytest.raises(openai.NotFoundError):
        permissions.delete("cp_nope", fine_tuned_model_checkpoint=MODEL)


def test_permissions_go_with_their_model(projects: Projects):
    projects.workspace.share(MODEL, ["desk"])
    projects.shop.models.delete(MODEL)
    assert not projects.workspace.documents.everywhere("checkpoint.permission")


def test_the_commands(projects: Projects, monkeypatch):
    monkeypatch.setenv("JOURNEYMAN_HOME", str(projects.workspace.settings.home))

    def run(*words: str) -> dict:
        result = CliRunner().invoke(app, ["models", *words, "--json"])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    assert run("share", "live", "desk", "lab") == {"model": MODEL, "shared_with": ["desk", "lab"]}
    assert projects.desk.models.retrieve(MODEL).id == MODEL
    shown = run("show", MODEL)
    assert (shown["project"], shown["shared_with"]) == ("shop", ["desk", "lab"])
    assert run("unshare", MODEL, "desk") == {"model": MODEL, "shared_with": ["lab"]}
    with pytest.raises(openai.NotFoundError):
        projects.desk.models.retrieve(MODEL)
    assert run("share", projects.checkpoint(), "desk")["shared_with"] == ["desk"]
    wrong = CliRunner().invoke(app, ["models", "share", MODEL, "a b"])
    assert wrong.exit_code == 1 and "letters" in str(wrong.exception.fix)


def test_without_keys_everything_can_be_called(tmp_path, base):
    with running(tmp_path, base) as server:
        add_version(server.workspace, base, MODEL)
        for call in calls(server.client("anything"), MODEL):
            call()


def test_a_name_is_found_alone_as_it_is_in_the_list_of_all(projects, base):
    """`find` looks one model up, `all` lists them: for every project they must say the same."""
    workspace = projects.workspace
    catalogue = Catalogue(workspace)
    add_version(workspace, base, "ft:tiny:local:mine:Cc33Dd44")
    workspace.registry.set_alias("own", "ft:tiny:local:mine:Cc33Dd44")
    workspace.share(MODEL, ["desk"])
    names = {entry.name for entry in catalogue.all("default")}
    assert names == {"starter-1", "tiny", MODEL, "live", "ft:tiny:local:mine:Cc33Dd44", "own"}
    for project in ("default", "shop", "desk", "lab"):
        listed = {entry.name: entry for entry in catalogue.all(project)}
        found = {}
        for name in names:
            with suppress(ModelNotFound):
                found[name] = catalogue.find(name, project)
        assert found == listed, project
    assert len(catalogue.all("lab")) < len(catalogue.all("desk")) < len(names)
