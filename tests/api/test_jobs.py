"""Fine-tuning jobs, through the SDK, on a tiny base."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import re
import struct
import tarfile
import time
from collections.abc import Iterator

import httpx
import openai
import pytest
from openai.pagination import SyncCursorPage
from openai.types import FileObject
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint
from typer.testing import CliRunner

from journeyman.cli.main import app
from journeyman.files import hash_file
from journeyman.jobs.results import metrics_csv

from .conftest import running
from .scripted import serving
from .test_files import strict
from .working import working


def rows(n: int, start: int = 0) -> bytes:
    def row(i: int) -> str:
        messages = [{"role": "user", "content": f"Say {i}"}, {"role": "assistant", "content": f"{i}"}]
        return json.dumps({"messages": messages}) + "\n"

    return "".join(row(i) for i in range(start, start + n)).encode()


@pytest.fixture(scope="module")
def it(tmp_path_factory, base):
    with running(tmp_path_factory.mktemp("home"), base) as server:
        yield server


@pytest.fixture(scope="module")
def client(it):
    return it.client()


@pytest.fixture(scope="module")
def train(client):
    return client.files.create(file=("train.jsonl", rows(24)), purpose="fine-tune").id


@pytest.fixture(scope="module")
def done(it, client, train):
    valid = client.files.create(file=("valid.jsonl", rows(10, 100)), purpose="fine-tune").id
    method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1, "batch_size": 4}}}
    with working(it.workspace):
        job = client.fine_tuning.jobs.create(
            model="tiny", training_file=train, validation_file=valid, suffix="Acc", seed=3, method=method
        )
        return ended(client, job.id)


def ended(client, job_id):
    while (job := client.fine_tuning.jobs.retrieve(job_id)).status not in ("succeeded", "failed", "cancelled"):
        time.sleep(0.05)
    return job


def test_a_job_ends_with_a_model_that_answers(client, done):
    strict(FineTuningJob, done)
    assert done.status == "succeeded", done.error
    assert done.fine_tuned_model.startswith("ft:tiny:local:Acc:") and done.trained_tokens > 0 and done.finished_at
    assert (done.hyperparameters.n_epochs, done.hyperparameters.batch_size, done.seed) == (1, 4, 3)
    assert done.method.supervised.hyperparameters.n_epochs == 1
    extra = done.model_extra
    assert extra["learning_rate"] == extra["choices"]["learning_rate"]["value"] and extra["choices"]["rank"]["reason"]
    say = [{"role": "user", "content": "Say 3"}]
    assert client.chat.completions.create(model=done.fine_tuned_model, messages=say, max_tokens=3).model == done.fine_tuned_model


def test_events_are_openais_and_page_from_the_newest(client, done):
    pages = client.fine_tuning.jobs.list_events(done.id, limit=3)
    assert isinstance(pages, SyncCursorPage)
    events = list(pages)
    for event in events:
        strict(FineTuningJobEvent, event)
    assert len({event.id for event in events}) == len(events)
    assert events[0].message == "The job has successfully completed"
    assert events[-1].message == f"Created fine-tuning job: {done.id}"
    metrics = [event.data for event in events if event.type == "metrics"]
    assert all({"step", "train_loss", "total_steps", "train_mean_token_accuracy"} <= set(data) for data in metrics)
    assert any("full_valid_loss" in data for data in metrics)
    messages = [event.message for event in events]
    assert f"Validating training file: {done.training_file} and validation file: {done.validation_file}" in messages
    assert any(re.fullmatch(r"Step 5/5: training loss=\d+\.\d\d, full validation loss=\d+\.\d\d", m) for m in messages)
    snapshots = {m.partition(" with Snapshot ID: ")[2] for m in messages if m.startswith("Checkpoint created at step")}
    listed = {c.fine_tuned_model_checkpoint for c in client.fine_tuning.jobs.checkpoints.list(done.id)}
    assert listed <= snapshots


def test_a_checkpoint_is_a_model(client, done):
    found = list(client.fine_tuning.jobs.checkpoints.list(done.id, limit=1))
    for checkpoint in found:
        strict(FineTuningJobCheckpoint, checkpoint)
    name = found[-1].fine_tuned_model_checkpoint
    assert name.endswith(f":ckpt-step-{found[-1].step_number}")
    assert client.models.retrieve(name).id == name
    listed = {model.id: model.created for model in client.models.list()}
    assert listed[name] == client.models.retrieve(name).created
    assert {c.fine_tuned_model_checkpoint for c in client.fine_tuning.jobs.checkpoints.list(done.id)} <= set(listed)
    answer = client.chat.completions.create(model=name, messages=[{"role": "user", "content": "Say 3"}], max_tokens=3)
    assert answer.model == name
    for unknown in (name + "9", name.replace("tiny", "tinier")):
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve(unknown)


def test_the_result_file_is_a_csv_of_steps(client, done):
    (file_id,) = done.result_files
    file = client.files.retrieve(file_id)
    strict(FileObject, file)
    assert file.purpose == "fine-tune-results"
    lines = client.files.content(file_id).read().decode().splitlines()
    assert lines[0] == "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy"
    assert [int(line.split(",")[0]) for line in lines[1:]] == list(range(1, len(lines)))
    assert lines[-1].count(",") == 4 and all(lines[-1].split(","))


def test_a_result_file_is_base64_where_the_server_is_told_so(it, base, done):
    (file_id,) = done.result_files
    plain = it.client().files.content(file_id).read()
    with serving(it.workspace, bases=[str(base)], base64_results=True) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="sk-any", max_retries=0)
        assert base64.b64decode(client.files.content(file_id).read()) == plain
        assert client.files.content(done.training_file).read() == rows(24)


@pytest.fixture(scope="module")
def of_the_command_line(it, base, tmp_path_factory):
    """A job that `journeyman train` began and ended in the same home."""
    source = tmp_path_factory.mktemp("data") / "desk.jsonl"
    source.write_bytes(rows(24))
    home = {"JOURNEYMAN_HOME": str(it.workspace.settings.home)}
    words = ["train", str(source), "--base", str(base), "--epochs", "1", "--suffix", "desk", "--json"]
    trained = CliRunner().invoke(app, words, env=home, catch_exceptions=False)
    told = json.loads(trained.stdout)
    listed = CliRunner().invoke(app, ["jobs", "--json"], env=home, catch_exceptions=False)
    return told, json.loads(listed.stdout)["jobs"]


def test_jobs_of_the_command_line_and_of_the_api_are_one_list(it, client, done, of_the_command_line):
    told, at_the_command_line = of_the_command_line
    job = client.fine_tuning.jobs.retrieve(told["job"])
    strict(FineTuningJob, job)
    assert (job.status, job.fine_tuned_model, job.user_provided_suffix) == ("succeeded", told["model"], "desk")
    assert (job.model, job.training_file) == ("tiny", "desk.jsonl")
    listed = [job.id for job in client.fine_tuning.jobs.list()]
    here = [job["id"] for job in at_the_command_line]
    assert told["job"] in here and done.id in here
    assert [job_id for job_id in listed if job_id in here] == here
    say = [{"role": "user", "content": "Say 3"}]
    assert client.chat.completions.create(model=told["model"], messages=say, max_tokens=3).model == told["model"]
    assert told["model"] in {model.id for model in client.models.list()}
    assert it.workspace.list_jobs(project="desk") == ([], False)


def test_the_weights_are_a_file_that_is_made_of_the_models_folder(it, client, base, done, tmp_path):
    file_id = done.model_extra["weights_file"]
    file, version = client.files.retrieve(file_id), it.workspace.registry.get(done.fine_tuned_model)
    strict(FileObject, file)
    assert file.filename.startswith("ft-tiny-local-Acc-") and file.filename.endswith(".tar")
    content = client.files.content(file_id).read()
    assert file.bytes == len(content) and content == client.files.content(file_id).read()
    assert file_id in {file.id for file in client.files.list(purpose="fine-tune-results")}
    for asked, status, part in (
        ("bytes=0-99", 206, content[:100]), ("bytes=1000-", 206, content[1000:]), ("bytes=-700", 206, content[-700:]),
        ("bytes=5-2", 200, content), ("bytes=0-1,5-6", 200, content), ("lines=1-2", 200, content),
    ):
        reply = httpx.get(f"{it.url}/v1/files/{file_id}/content", headers={"range": asked})
        assert (reply.status_code, reply.content) == (status, part), asked
        assert (reply.headers.get("content-range") is not None) == (status == 206)
    tag = reply.headers["etag"]
    for known, status in ((tag, 206), ('"other"', 200)):
        headers = {"range": "bytes=10-", "if-range": known}
        assert httpx.get(f"{it.url}/v1/files/{file_id}/content", headers=headers).status_code == status
    beyond = httpx.get(f"{it.url}/v1/files/{file_id}/content", headers={"range": f"bytes={len(content)}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(content)}")
    assert beyond.json()["error"]["code"] == "range_not_satisfiable"
    with serving(it.workspace, bases=[str(base)], base64_results=True) as url:
        decoding = openai.OpenAI(base_url=f"{url}/v1", api_key="sk-any", max_retries=0)
        assert decoding.files.content(file_id).read() == content
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        tar.extractall(tmp_path, filter="data")
    folder = tmp_path / file.filename.removesuffix(".tar")
    assert {path.name: hash_file(path) for path in folder.iterdir()} == version.files
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json"} <= version.files.keys()
    assert it.workspace.files.stored_bytes() < sum(file.bytes for file in client.files.list())
    assert file_id not in {item.file.id for item in it.workspace.clean(("files",), older_than_days=0) if item.file}


def test_the_weights_file_is_deleted_with_its_model_and_not_alone(it, client, of_the_command_line):
    told, _ = of_the_command_line
    file_id = client.fine_tuning.jobs.retrieve(told["job"]).model_extra["weights_file"]
    with pytest.raises(openai.BadRequestError) as caught:
        client.files.delete(file_id)
    assert caught.value.code == "file_not_deletable" and told["model"] in caught.value.message
    assert client.models.delete(told["model"]).deleted
    assert client.fine_tuning.jobs.retrieve(told["job"]).model_extra["weights_file"] is None
    for call in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError):
            call(file_id)


def test_the_report_of_the_rows_is_in_short_in_the_job_and_whole_in_a_file(it, client):
    train = client.files.create(file=("twice.jsonl", rows(24) + rows(12)), purpose="fine-tune").id
    job = client.fine_tuning.jobs.create(model="tiny", training_file=train, seed=0, hyperparameters={"n_epochs": 1})
    assert job.model_extra["dataset_report"] is None and job.model_extra["weights_file"] is None
    with working(it.workspace):
        job = ended(client, job.id)
    short = job.model_extra["dataset_report"]
    assert (short["rows"]["read"], short["rows"]["kept"], short["rows"]["refused"]) == (36, 36, 0)
    assert short["findings"] and all(finding["message"] for finding in short["findings"])
    assert all(finding["rows"] > 0 for finding in short["findings"] if finding["code"] != "few_effective_examples")
    text = client.files.content(short["file"]).text
    whole = json.loads(text)
    assert whole["verdict"] == short["verdict"] and whole["rows"] == short["rows"]
    assert [(f["code"], len(f["rows"])) for f in whole["findings"]] == [(f["code"], f["rows"]) for f in short["findings"]]
    assert f"{train}.jsonl" in text and str(it.workspace.settings.home) not in text
    client.files.delete(short["file"])
    assert client.fine_tuning.jobs.retrieve(job.id).model_extra["dataset_report"] == short


def test_rows_are_held_out_unless_a_job_asks_for_none(it, client, train, done):
    split = done.model_extra["dataset_report"]["rows"]
    assert split["train"] + split["held_out"] == 24 and split["held_out"] > 0 and split["validation"] == 10
    (told,) = [e.message for e in client.fine_tuning.jobs.list_events(done.id, limit=100) if e.message.startswith("Training on")]
    assert told.startswith(f"Training on {split['train']} row(s), with 10 more for validation and {split['held_out']} held out")
    assert '"hold_out": false' in told
    asked = {"model": "tiny", "training_file": train, "hyperparameters": {"n_epochs": 1}, "extra_body": {"hold_out": False}}
    every = client.fine_tuning.jobs.create(**asked)
    valid = client.fine_tuning.jobs.create(**asked, validation_file=done.validation_file)
    with working(it.workspace):
        every, valid = ended(client, every.id), ended(client, valid.id)
    assert (every.status, valid.status) == ("succeeded", "succeeded"), (every.error, valid.error)
    rows_of = [job.model_extra["dataset_report"]["rows"] for job in (every, valid)]
    assert [(r["train"], r["validation"], r["held_out"]) for r in rows_of] == [(24, 0, 0), (24, 10, 0)]
    assert client.fine_tuning.jobs.checkpoints.list(every.id).data[0].step_number == every.model_extra["progress"]["step"]


LEAKING = "My key is sk-" + "ab12" * 10 + ", please use it"


def test_errors_of_the_check_are_told_and_stop_a_job_only_where_that_is_asked(it, client):
    leaking = rows(23) + json.dumps({"messages": [{"role": "user", "content": LEAKING}, {"role": "assistant", "content": "Done."}]}).encode()
    train = client.files.create(file=("leaking.jsonl", leaking), purpose="fine-tune").id
    asked = {"model": "tiny", "training_file": train, "hyperparameters": {"n_epochs": 1}}
    like_openai = client.fine_tuning.jobs.create(**asked)
    stopped = client.fine_tuning.jobs.create(**asked, extra_body={"despite_errors": False})
    with working(it.workspace):
        like_openai, stopped = ended(client, like_openai.id), ended(client, stopped.id)
    assert like_openai.status == "succeeded"
    (told,) = [e for e in client.fine_tuning.jobs.list_events(like_openai.id, limit=100) if e.level == "warn"]
    assert told.message.startswith("The check of the examples found 1 error") and "[secrets]" in told.message
    assert stopped.status == "failed" and stopped.error.code == "check_errors"
    assert "sk-ab12ab12ab12" not in told.message + stopped.error.message


def test_a_suffix_that_no_id_can_hold_is_made_one_and_shown_as_it_was(client, train):
    job = client.fine_tuning.jobs.create(model="tiny", training_file=train, suffix="Marv, the Bot")
    assert job.user_provided_suffix == "Marv, the Bot"
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"


def test_what_was_not_measured_is_an_empty_cell():
    step = {"type": "step", "step": 1, "train_loss": "inf", "train_mean_token_accuracy": 0.5}
    assert metrics_csv([step]).splitlines()[1] == "1,,0.50000,,"


def test_jobs_are_found_by_their_labels(client, train):
    a, b = (client.fine_tuning.jobs.create(model="tiny", training_file=train, metadata={"k": v}) for v in ("a", "b"))
    assert [job.id for job in client.fine_tuning.jobs.list(metadata={"k": "a"})] == [a.id]
    listed = [job.id for job in client.fine_tuning.jobs.list(limit=1)]
    assert listed.index(b.id) < listed.index(a.id)
    assert not {a.id, b.id} & {job.id for job in client.fine_tuning.jobs.list(extra_query={"metadata": "null"})}
    for job in (a, b):
        assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"


@pytest.mark.parametrize("filter", [{"metadata": "foo"}, {"metadata": ""}, {"metadata[]": "foo"}, {"metadata[" + "k" * 65 + "]": "foo"}])
def test_a_filter_without_a_label_is_refused(client, filter):
    with pytest.raises(openai.BadRequestError) as caught:
        client.fine_tuning.jobs.list(extra_query=filter)
    assert caught.value.param == "metadata" and "metadata[key]=value" in caught.value.message


def test_pause_resume_cancel(client, train):
    job = client.fine_tuning.jobs.create(model="tiny", training_file=train, hyperparameters={"n_epochs": 50})
    assert job.status == "queued" and job.error is None and job.hyperparameters.n_epochs == 50
    assert client.fine_tuning.jobs.pause(job.id).status == "paused"
    for _ in range(2):  # a client whose request had no answer asks again
        assert client.fine_tuning.jobs.resume(job.id).status == "queued"
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    for call in (client.fine_tuning.jobs.cancel, client.fine_tuning.jobs.pause, client.fine_tuning.jobs.resume):
        with pytest.raises(openai.BadRequestError):
            call(job.id)


def test_a_job_shows_that_its_rows_are_read_and_how_far_its_checkpoints_are(it, client, train):
    job = client.fine_tuning.jobs.create(model="tiny", training_file=train, hyperparameters={"n_epochs": 2})
    seen = []

    def look(event):
        now = client.fine_tuning.jobs.retrieve(job.id)
        strict(FineTuningJob, now)
        seen.append((event["type"], now.status))
        if event["type"] == "checkpoint":
            assert now.model_extra["progress"]["step"] == event["step"]

    it.workspace.resume(job.id, on_event=look)
    assert ("data", "validating_files") in seen and ("planned", "running") in seen
    assert sum(kind == "checkpoint" for kind, _ in seen) > 1


@pytest.mark.parametrize("field", ["training_file", "validation_file"])
@pytest.mark.parametrize(
    ("name", "purpose"),
    [("a.jsonl", "assistants"), ("a.csv", "user_data"), ("a.jsonl", "evals"), ("a.jsonl", "batch"), ("a.png", "vision")],
)
def test_a_file_for_something_else_is_refused(client, train, name, purpose, field):
    other = client.files.create(file=(name, rows(12)), purpose=purpose).id
    with pytest.raises(openai.BadRequestError) as caught:
        client.fine_tuning.jobs.create(**{"model": "tiny", "training_file": train, field: other})
    assert (caught.value.param, caught.value.code) == (field, "invalid_file_purpose")
    assert other in caught.value.message and f"'{purpose}'" in caught.value.message and ".jsonl" in caught.value.message


def test_what_a_job_leaves_is_no_training_file(client, done):
    left = [*done.result_files, done.model_extra["dataset_report"]["file"], done.model_extra["weights_file"]]
    for file_id in left:
        with pytest.raises(openai.BadRequestError) as caught:
            client.fine_tuning.jobs.create(model="tiny", training_file=file_id)
        assert (caught.value.param, caught.value.code) == ("training_file", "invalid_file_purpose")


def test_a_mend_is_said_once_and_needs_no_command_line(it, client):
    file = client.files.create(file=("bad.jsonl", rows(12) + b"{cut off\n{cut off\n"), purpose="fine-tune").id
    unclear = "".join(json.dumps({"a": f"Say {i}", "b": f"{i} it is", "c": f"And {i}"}) + "\n" for i in range(12)).encode()
    columns = client.files.create(file=("columns.jsonl", unclear), purpose="fine-tune").id
    with working(it.workspace):
        job, of_columns = (ended(client, client.fine_tuning.jobs.create(model="tiny", training_file=f).id) for f in (file, columns))
    assert job.error.message.count("write one complete JSON object a line") == 1
    assert f"{file}:13: " in job.error.message and f"{file}:14: " in job.error.message
    assert of_columns.error.code == "ambiguous_columns" and "--" not in of_columns.error.message
    assert "name the columns input and output" in of_columns.error.message


@pytest.mark.parametrize(
    ("content", "code", "told"),
    [
        (rows(3), "invalid_n_examples", "Training file has 3 example(s), but must have at least 10 examples"),
        (rows(12) + b'{"messages": [{"role": "robot", "content": "x"}]}\n', "invalid_file_format", ":13: "),
        (rows(12) + b"{cut off\n", "invalid_file_format", ":13: invalid_json"),
    ],
)
def test_a_bad_file_fails_the_job_and_says_where(it, client, content, code, told):
    file = client.files.create(file=("bad.jsonl", content), purpose="fine-tune").id
    with working(it.workspace):
        job = ended(client, client.fine_tuning.jobs.create(model="tiny", training_file=file).id)
    assert job.status == "failed" and job.error.code == code and job.error.param == "training_file", job.error
    assert told in job.error.message and str(it.workspace.settings.home) not in job.error.message
    strict(FineTuningJob, job)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"training_file": "file-nope"}, "training_file"),
        ({"validation_file": "file-nope"}, "validation_file"),
        ({"model": "nope"}, "model"),
        ({"suffix": ": :"}, "suffix"),
        ({"suffix": "x" * 65}, "suffix"),
        ({"seed": -1}, "seed"),
        ({"metadata": {str(i): "x" for i in range(17)}}, "metadata"),
        ({"hyperparameters": {"n_epochs": 51}}, "hyperparameters.n_epochs"),
        ({"method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.1}}}}, "method.type"),
        ({"method": {"type": "reinforcement", "reinforcement": {"grader": {"type": "string_check"}}}}, "method.type"),
        ({"method": {"type": "magic"}}, "method.type"),
        ({"method": {"type": "supervised", "dpo": {}}}, "method.dpo"),
        ({"method": {"type": "supervised", "reinforcement": {"grader": {}}}}, "method.reinforcement"),
    ],
)
def test_what_can_not_be_asked_is_refused_by_field(client, train, change, param):
    with pytest.raises(openai.BadRequestError) as caught:
        client.fine_tuning.jobs.create(**{"model": "tiny", "training_file": train, **change})
    assert caught.value.param == param and "literal" not in caught.value.message


WANDB = [{"type": "wandb", "wandb": {"project": "p", "tags": ["ours"]}}]


def test_wandb_is_refused_with_the_mend_where_it_has_no_library_or_no_key(client, train, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    for told in ("WANDB_API_KEY", "journeyman[wandb]"):
        with pytest.raises(openai.BadRequestError, match=re.escape(told)) as caught:
            client.fine_tuning.jobs.create(model="tiny", training_file=train, integrations=WANDB)
        assert caught.value.param == "integrations"
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)


def logged(data: bytes) -> Iterator[bytes]:
    """The records of wandb's offline file: 7 bytes of its own, then LevelDB's log format, in blocks of 32 KiB."""
    at, record = 7, b""
    while at + 7 <= len(data):
        if (left := 32_768 - at % 32_768) < 7:
            at += left
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or its last piece
            yield record
            record = b""


def test_wandb_is_told_every_step_under_the_jobs_id(it, client, train, monkeypatch):
    pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_MODE", "offline")
    job = client.fine_tuning.jobs.create(
        model="tiny", training_file=train, integrations=WANDB, hyperparameters={"n_epochs": 1}
    )
    assert job.integrations[0].wandb.model_dump()["run_id"] == job.id
    with working(it.workspace):
        job = ended(client, job.id)
    assert job.status == "succeeded", job.error
    (path,) = it.workspace.job(job.id).folder.glob(f"wandb/offline-run-*/run-{job.id}.wandb")
    steps = []
    for data in logged(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.HasField("run"):
            config = {item.key: json.loads(item.value_json) for item in record.run.config.update}
            assert (record.run.run_id, record.run.project) == (job.id, "p")
            assert config["training_file"] == train
        keys = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
        if "train_loss" in keys:
            steps.append(float(keys["train_loss"]))
    told = [e["train_loss"] for e in it.workspace.history(it.workspace.job(job.id)) if e["type"] == "step"]
    assert steps == pytest.approx(told)


def test_an_unknown_job(it, client):
    for path in ("", "/events", "/checkpoints"):
        reply = httpx.get(f"{it.url}/v1/fine_tuning/jobs/ftjob-nope{path}")
        error = reply.json()["error"]
        assert reply.status_code == 404
        assert (error["code"], error["param"]) == ("fine_tune_not_found", "fine_tune_id")


def test_permissions_of_a_checkpoint(client, done):
    name = next(iter(client.fine_tuning.jobs.checkpoints.list(done.id))).fine_tuned_model_checkpoint
    permissions = client.fine_tuning.checkpoints.permissions
    made = list(permissions.create(name, project_ids=["p1", "p2"]))
    assert [p.project_id for p in made] == ["p1", "p2"]
    assert permissions.delete(made[0].id, fine_tuned_model_checkpoint=name).deleted
    assert [p.project_id for p in permissions.retrieve(name).data] == ["p2"]
