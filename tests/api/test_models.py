from __future__ import annotations

import openai
import pytest

from journeyman.files import write_jsonl
from journeyman.workspace import Workspace

from .conftest import Running, add_version, running
from .scripted import serving

HI = [{"role": "user", "content": "Hi"}]
TUNED = "ft:tiny:local:voice:Ab12Cd34"


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, base):
    with running(tmp_path_factory.mktemp("tuned"), base) as server:
        add_version(server.workspace, base, TUNED)
        server.workspace.registry.set_alias("live", TUNED)
        yield server


def test_list_names_bases_tuned_models_and_aliases(tuned: Running):
    models = {model.id: model for model in tuned.client().models.list()}
    assert list(models) == ["starter-1", "tiny", TUNED, "live"]
    assert models[TUNED].created == 1_700_000_000 and models[TUNED].owned_by == "local"
    assert all(model.object == "model" and isinstance(model.created, int) for model in models.values())


def test_retrieve(tuned: Running):
    client = tuned.client()
    assert client.models.retrieve(TUNED).id == TUNED
    assert client.models.retrieve("live").id == "live"
    assert client.models.retrieve("starter").id == "starter-1"


def test_a_tuned_model_and_its_alias_answer_under_the_full_id(tuned: Running):
    for name in (TUNED, "live"):
        answer = tuned.client().chat.completions.create(model=name, messages=HI, max_tokens=3)
        assert answer.model == TUNED


def test_a_base_answers_and_is_tuned_under_the_name_that_stands_in_a_script(tmp_path, base):
    workspace = Workspace(tmp_path / "home")
    train = tmp_path / "train.jsonl"
    write_jsonl(train, [{"messages": [*HI, {"role": "assistant", "content": f"Hello {n}"}]} for n in range(12)])
    name = "gpt-4.1-mini-2025-04-14"
    with serving(workspace, bases=[f"{name}={base}"]) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="sk-any", max_retries=0, timeout=60)
        assert [model.id for model in client.models.list()] == ["starter-1", name]
        assert client.chat.completions.create(model=name, messages=HI, max_tokens=3).model == "tiny"
        with train.open("rb") as file:
            uploaded = client.files.create(file=file, purpose="fine-tune")
        job = client.fine_tuning.jobs.create(model=name, training_file=uploaded.id)
        assert workspace.job(job.id).base == str(base)
        with pytest.raises(openai.PermissionDeniedError):
            client.models.delete(name)


def test_delete(tuned: Running, base):
    doomed = "ft:tiny:local:old:Zz98Yy76"
    version = add_version(tuned.workspace, base, doomed)
    client = tuned.client()
    receipt = client.models.delete(doomed)
    assert receipt.id == doomed and receipt.deleted and receipt.object == "model"
    assert not version.folder.exists()
    for call in (client.models.retrieve, client.models.delete):
        with pytest.raises(openai.NotFoundError) as caught:
            call(doomed)
        assert caught.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model=doomed, messages=HI)


@pytest.mark.parametrize("name", ["starter-1", "tiny", "live"])
def test_a_base_or_an_alias_is_not_deleted(tuned: Running, name):
    with pytest.raises(openai.PermissionDeniedError) as caught:
        tuned.client().models.delete(name)
    assert caught.value.code == "model_not_deletable"
    assert tuned.client().models.retrieve(TUNED)


@pytest.mark.parametrize("name", ["nope", "ft:x:y::z", "/etc", "../..", "Qwen/Qwen3-0.6B", "a" * 5000])
def test_an_unknown_name_is_not_a_path_and_not_fetched(tuned: Running, name):
    client = tuned.client()
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model=name, messages=HI)
    error = caught.value
    assert (error.code, error.param, error.type) == ("model_not_found", None, "invalid_request_error")
    assert "does not exist or you do not have access to it." in error.message


def test_the_bases_own_folder_is_not_a_model_id(tuned: Running, base):
    with pytest.raises(openai.NotFoundError):
        tuned.client().chat.completions.create(model=str(base), messages=HI)


def test_an_unknown_id_with_a_slash(tuned: Running):
    with pytest.raises(openai.NotFoundError) as caught:
        tuned.client().models.retrieve("Qwen/Qwen3-0.6B")
    assert "`Qwen/Qwen3-0.6B`" in caught.value.message
