"""What a job needs is not deleted; a deleted model is gone with its checkpoints; nobody is told of others' models or folders."""

from __future__ import annotations

import openai
import pytest

from journeyman.jobs.state import JobState

from .conftest import add_version, running
from .test_jobs import ended, rows
from .working import working


@pytest.fixture
def it(tmp_path, base):
    with running(tmp_path / "home", base) as server:
        yield server


@pytest.fixture
def client(it):
    return it.client()


def uploaded(client, count=12):
    return client.files.create(file=("train.jsonl", rows(count)), purpose="fine-tune").id


def test_a_file_that_a_job_has_still_to_read_stays(it, client):
    train, valid = uploaded(client), uploaded(client)
    job = client.fine_tuning.jobs.create(model="tiny", training_file=train, validation_file=valid)
    for file in (train, valid):
        with pytest.raises(openai.BadRequestError) as refused:
            client.files.delete(file)
        assert (refused.value.code, refused.value.param) == ("file_in_use", "file_id") and job.id in str(refused.value)
    client.fine_tuning.jobs.cancel(job.id)
    assert client.files.delete(train).deleted and client.files.delete(valid).deleted


def test_a_job_whose_file_is_gone_says_so_without_a_path(it, client):
    train = uploaded(client)
    job = client.fine_tuning.jobs.create(model="tiny", training_file=train)
    it.workspace.files.remove(train)
    with working(it.workspace):
        job = ended(client, job.id)
    assert (job.status, job.error.code, job.error.param) == ("failed", "file_not_found", "training_file")
    events = [event.message for event in client.fine_tuning.jobs.list_events(job.id)]
    assert train in events[0] and train in job.error.message
    assert not [text for text in (job.error.message, *events) if str(it.workspace.settings.home) in text or ".jsonl" in text]


def test_a_job_that_is_paused_while_it_fails_tells_no_failure(it, client, monkeypatch):
    job = client.fine_tuning.jobs.create(model="tiny", training_file=uploaded(client))

    def paused_and_failed(workspace, job, on_event):
        it.workspace.pause(job.id)
        raise OSError("gone")

    monkeypatch.setattr("journeyman.training.materials", paused_and_failed)
    with pytest.raises(OSError, match="gone"):
        it.workspace.resume(job.id)
    assert it.workspace.job(job.id).status is JobState.PAUSED
    assert not [event for event in client.fine_tuning.jobs.list_events(job.id) if "failed" in event.message]


def test_a_model_that_a_job_goes_on_from_stays_and_other_models_are_not_named(it, client, base):
    other = add_version(it.workspace, base, "ft:tiny:local:other:othersOn")
    begun = add_version(it.workspace, base, "ft:tiny:local:mine:mineOnly").id
    job = client.fine_tuning.jobs.create(model=begun, training_file=uploaded(client))
    with pytest.raises(openai.BadRequestError) as refused:
        client.models.delete(begun)
    assert refused.value.code == "model_in_use"
    it.workspace.registry.remove(begun)
    with working(it.workspace):
        job = ended(client, job.id)
    assert (job.status, job.error.code) == ("failed", "model_not_found") and begun in job.error.message
    shown = [job.error.message, *(event.message for event in client.fine_tuning.jobs.list_events(job.id))]
    assert not [text for text in shown if other.id in text or "journeyman models" in text]


def test_a_deleted_model_takes_its_checkpoints_along(it, client):
    train = uploaded(client)
    say = [{"role": "user", "content": "Say 3"}]
    with working(it.workspace):
        job = ended(client, client.fine_tuning.jobs.create(model="tiny", training_file=train, hyperparameters={"n_epochs": 1}).id)
    name = client.fine_tuning.jobs.checkpoints.list(job.id).data[0].fine_tuned_model_checkpoint
    assert client.chat.completions.create(model=name, messages=say, max_tokens=2).model == name
    it.workspace.share(name, ["friends"])
    follower = client.fine_tuning.jobs.create(model=name, training_file=train)
    with pytest.raises(openai.BadRequestError, match=follower.id):
        client.models.delete(job.fine_tuned_model)
    client.fine_tuning.jobs.cancel(follower.id)
    assert client.models.delete(job.fine_tuned_model).deleted
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model=name, messages=say, max_tokens=2)
    assert client.fine_tuning.jobs.checkpoints.list(job.id).data == []
    assert not list(it.workspace.job(job.id).folder.rglob("*.safetensors"))
    assert not it.workspace.permissions.given_to("friends")
    assert not any(load for load in it.workspace.loads() if job.id in load)


def test_epochs_that_were_asked_for_are_all_trained(it, client):
    with working(it.workspace):
        asked = client.fine_tuning.jobs.create(
            model="tiny", training_file=uploaded(client),
            hyperparameters={"n_epochs": 30, "batch_size": 4},
            method={"type": "supervised", "supervised": {"hyperparameters": {"batch_size": 12, "learning_rate_multiplier": 50}}},
        )  # fmt: skip
        job = ended(client, asked.id)
    progress = job.model_extra["progress"]
    assert job.status == "succeeded" and progress["step"] == progress["total_steps"] == 30
    assert (job.hyperparameters.n_epochs, job.hyperparameters.batch_size) == (30, 12), "the method's own counts"
    assert "no early stop" in job.model_extra["choices"]["patience"]["reason"]


def test_a_seed_is_drawn_where_none_is_sent(it, client):
    train = uploaded(client)
    first, second = (client.fine_tuning.jobs.create(model="tiny", training_file=train) for _ in range(2))
    assert first.seed != second.seed
    assert first.seed == client.fine_tuning.jobs.retrieve(first.id).seed == it.workspace.job(first.id).wishes.seed
    assert client.fine_tuning.jobs.create(model="tiny", training_file=train, seed=0).seed == 0


def test_what_has_ended_is_refused_alike_and_a_suffix_says_what_it_needs(client):
    train = uploaded(client)
    job = client.fine_tuning.jobs.create(model="tiny", training_file=train)
    client.fine_tuning.jobs.cancel(job.id)
    for ask in (client.fine_tuning.jobs.cancel, client.fine_tuning.jobs.pause, client.fine_tuning.jobs.resume):
        with pytest.raises(openai.BadRequestError) as refused:
            ask(job.id)
        assert (refused.value.code, refused.value.param) == ("job_conflict", "fine_tune_id")
    with pytest.raises(openai.BadRequestError, match="needs a letter from A to Z or a digit"):
        client.fine_tuning.jobs.create(model="tiny", training_file=train, suffix="日本語")
