"""Requests drawn from our own OpenAPI document: whatever fits it, or nearly, is answered or refused, and never a 5xx.

Some eight requests an operation by default; thousands with `pytest tests/api/test_any_request.py --hypothesis-profile thousands`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.generation import GenerationMode

from journeyman.generate.engine import Piece
from journeyman.records import Usage
from journeyman.workspace import Workspace

from .scripted import serving

KEY = {"authorization": "Bearer sk-owner"}
ROW = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
GRADER = {
    "type": "string_check",
    "name": "n",
    "operation": "eq",
    "input": "{{sample.output_text}}",
    "reference": "{{item.a}}",
}


NAMED = ("model", "type", "role", "purpose", "operation", "file_id", "training_file")
"""Fields that stay as drawn, so that a cut text elsewhere gets past them."""


def cases() -> int:
    """How many requests are drawn of an operation, valid and not."""
    return settings().max_examples if settings.get_current_profile_name() == "thousands" else 4


class Answering(Workspace):
    """A real workspace, files and database and all, whose models answer from a script."""

    def stream(self, *args: Any, **more: Any) -> Iterator[Piece]:
        return self.go_on()

    def go_on(self, *args: Any) -> Iterator[Piece]:
        yield Piece(0, "Hello", "end", Usage(3, 1))

    def prompt(self, model: str, prompt: str | Sequence[int]) -> tuple[str, list[int]]:
        return "Hi", [1]


class Known:
    """An object of each kind that is there, so that requests get past the look-up."""

    def __init__(self, client: httpx.Client) -> None:
        rows = (json.dumps(ROW) + "\n").encode() * 12
        file = client.post(
            "/v1/files", files={"file": ("a.jsonl", io.BytesIO(rows))}, data={"purpose": "fine-tune"}
        ).json()
        chat = {"model": "starter", "messages": ROW["messages"][:1]}
        job = client.post(
            "/v1/fine_tuning/jobs", json={"model": "starter", "training_file": file["id"]}
        ).json()
        config = {"type": "custom", "item_schema": {"type": "object"}}
        made = client.post(
            "/v1/evals", json={"data_source_config": config, "testing_criteria": [GRADER]}
        ).json()
        content = {"type": "file_content", "content": [{"item": {"a": "x"}, "sample": {"output_text": "x"}}]}
        source = {"type": "jsonl", "source": content}
        upload = {"filename": "b.jsonl", "purpose": "fine-tune", "bytes": 3, "mime_type": "text/jsonl"}
        self.ids = {
            "file_id": file["id"],
            "training_file": file["id"],
            "job_id": job["id"],
            "completion_id": client.post("/v1/chat/completions", json={**chat, "store": True}).json()["id"],
            "response_id": client.post("/v1/responses", json={"model": "starter", "input": "Hi"}).json()[
                "id"
            ],
            "eval_id": made["id"],
            "run_id": client.post(f"/v1/evals/{made['id']}/runs", json={"data_source": source}).json()["id"],
            "upload_id": client.post("/v1/uploads", json=upload).json()["id"],
            "model": "starter",
            "checkpoint": "starter",
        }

    def put_into(self, case: schemathesis.Case) -> None:
        """Name what is there, in the path and the body."""
        for values in (case.path_parameters, case.body):
            if isinstance(values, dict):
                values.update({name: id for name, id in self.ids.items() if name in values})


@pytest.fixture(scope="module")
def client(tmp_path_factory) -> Iterator[httpx.Client]:
    workspace = Answering(tmp_path_factory.mktemp("any"))
    object.__setattr__(workspace.settings, "api_keys", ("sk-owner",))
    with serving(workspace) as url, httpx.Client(base_url=url, headers=KEY, timeout=60) as it:
        yield it


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_no_request_is_a_5xx(client, mode):
    schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
    known, answered = Known(client), dict[str, int]()
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.method != "delete":  # what is known stays there; deletions have tests of their own
            _ask_all(client, operation, mode, known, answered)
    assert len(answered) > 20 and sum(answered.values()) > 20 * min(cases(), 5)


def _cut(body: dict[str, Any]) -> str | None:
    """The body as JSON with half of a surrogate pair in each of its texts; None where it has none."""
    with suppress(TypeError):
        whole = json.dumps(body, default=str)
        cut = json.dumps(_halved(body), default=str)
        return None if cut == whole else cut
    return None


def _halved(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: it if key in NAMED else _halved(it) for key, it in value.items()}
    return [_halved(it) for it in value] if isinstance(value, list) else f"{value}\ud83d" if isinstance(value, str) else value


def _judge(label: str, reply: Any) -> None:
    assert reply.status_code < 500, (label, reply.status_code, reply.text[:500])
    if reply.status_code >= 400:
        assert set(reply.json()["error"]) == {"message", "type", "param", "code"}


def _ask_all(
    client: httpx.Client, operation: Any, mode: GenerationMode, known: Known, answered: dict[str, int]
) -> None:
    @settings(max_examples=cases(), derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode), there=st.booleans())
    def ask(case: schemathesis.Case, there: bool) -> None:
        if there:
            known.put_into(case)
        reply = case.call(base_url=str(client.base_url), headers=KEY)
        answered[operation.label] = answered.get(operation.label, 0) + 1
        _judge(operation.label, reply)
        # The document's strings are drawn without surrogates, which JavaScript sends of an emoji that it cut.
        if isinstance(case.body, dict) and (cut := _cut(case.body)) is not None:
            path = case.formatted_path
            again = client.request(case.method, path, content=cut, headers={"content-type": "application/json"})
            _judge(operation.label, again)

    with suppress(Unsatisfiable):  # an operation without parameters has no request that does not fit it
        ask()
