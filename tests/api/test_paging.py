"""Lists that are paged through: while what was read is deleted, and in the order of the last change."""

from __future__ import annotations

import time

import openai
import pytest

from journeyman.errors import RequestError
from journeyman.storage.documents import PLACE_KEPT_S, Documents
from journeyman.workspace import Workspace

from .conftest import running

CONFIG = {"type": "custom", "item_schema": {"type": "object"}}
CHECK = {"type": "string_check", "name": "c", "input": "a", "reference": "a", "operation": "eq"}


@pytest.fixture
def documents(tmp_path) -> Documents:
    return Workspace(tmp_path).documents


def some(documents: Documents, count: int, kind: str = "response") -> list[str]:
    return [documents.add(kind, {"n": n}).id for n in range(count)]


def test_what_was_read_can_be_deleted_while_the_list_goes_on(tmp_path, base):
    with running(tmp_path, base) as server:
        client = server.client()
        made = [client.evals.create(data_source_config=CONFIG, testing_criteria=[CHECK]).id for _ in range(26)]
        assert [client.evals.delete(e.id).eval_id for e in client.evals.list()] == made
        assert not list(client.evals.list())
        files = [client.files.create(file=(f"{n}.jsonl", b"{}"), purpose="evals").id for n in range(5)]
        assert [client.files.delete(f.id).id for f in client.files.list(limit=2)] == files[::-1]
        for unknown in ("eval_nope", files[0]):
            with pytest.raises(openai.BadRequestError) as caught:
                client.evals.list(after=unknown)
            assert (caught.value.code, caught.value.param) == ("invalid_cursor", "after")


@pytest.mark.parametrize("kind", ["response", "chat.completion", "batch"])
def test_a_list_goes_on_from_what_was_removed(documents, kind):
    ids = some(documents, 6, kind)
    for removed in (ids[2], ids[5]):
        documents.remove(kind, removed)
    assert [d.id for d in documents.page(kind, after=ids[2], order="asc").items] == ids[3:5]
    assert [d.id for d in documents.page(kind, after=ids[5], order="desc").items] == [*ids[4:2:-1], *ids[1::-1]]
    new = documents.add(kind, {}).id
    assert [d.id for d in documents.page(kind, after=ids[5], order="asc").items] == [new], "no later one takes its place"
    assert documents.count(kind) == 5
    for other in (documents.of("other"), documents):
        with pytest.raises(RequestError, match="No object"):
            other.page(kind if other is not documents else "eval", after=ids[2])


def test_what_was_removed_leaves_no_trace_for_ever(documents, monkeypatch):
    first, second, third = some(documents, 3)
    documents.remove("response", first)
    later_s = time.time() + PLACE_KEPT_S + 1
    monkeypatch.setattr(time, "time", lambda: later_s)
    documents.remove("response", second)
    assert [d.id for d in documents.page("response", after=second, order="asc").items] == [third]
    with pytest.raises(RequestError, match="No object"):
        documents.page("response", after=first)


def test_what_was_removed_does_not_change(documents):
    response = documents.add("response", {})
    documents.remove("response", response.id)
    assert documents.change(response, {"n": 1}) is None


def test_what_was_removed_comes_again_under_its_id(documents):
    documents.add("file", {"n": 1}, id="file-a")
    documents.remove("file", "file-a")
    documents.add("file", {"n": 2}, id="file-a")
    assert [d.body["n"] for d in documents.page("file").items] == [2]


def test_evals_are_listed_by_their_last_change(tmp_path, base):
    with running(tmp_path, base) as server:
        client = server.client()
        made = [client.evals.create(data_source_config=CONFIG, testing_criteria=[CHECK]).id for _ in range(4)]
        assert client.evals.update(made[1], name="b").to_dict().keys() == client.evals.retrieve(made[0]).to_dict().keys()
        client.evals.update(made[0], metadata={"a": "b"})
        wanted = [made[2], made[3], made[1], made[0]]
        assert [e.id for e in client.evals.list(order_by="updated_at", limit=1)] == wanted
        assert [e.id for e in client.evals.list(order_by="updated_at", order="desc", limit=3)] == wanted[::-1]
        assert [e.id for e in client.evals.list(limit=3)] == made
        deleting = client.evals.list(order_by="updated_at", limit=1)
        assert [client.evals.delete(e.id).eval_id for e in deleting] == wanted
