"""Graders over HTTP that can't be run, or would not end: refused or an error, and never a reward of 0."""

from __future__ import annotations

import threading
import time

import httpx
import openai
import pytest

from journeyman.api.server import serve
from journeyman.errors import JourneymanError

from .scripted import Scripted

BARE = {"type": "python", "source": "def grade(sample, item):\n    return 1.0"}
MULTI = {"type": "multi", "name": "m", "graders": {"own": BARE}, "calculate_output": "own"}


@pytest.mark.parametrize("grader", [BARE, MULTI], ids=["alone", "in a multi"])
@pytest.mark.parametrize("switch", ["off", "on"])
def test_source_that_can_not_be_run_here_is_refused(client, monkeypatch, tmp_path, grader, switch):
    monkeypatch.setenv("JOURNEYMAN_PYTHON_GRADERS", switch)
    monkeypatch.setenv("PATH", str(tmp_path))
    graders = client.fine_tuning.alpha.graders
    for call in (graders.validate, lambda grader: graders.run(grader=grader, model_sample="x")):
        with pytest.raises(openai.BadRequestError) as caught:
            call(grader=grader)
        assert (caught.value.code, caught.value.param) == ("python_graders_unavailable", "grader")
        assert "off" in caught.value.message if switch == "off" else "not installed" in caught.value.message


def test_an_eval_gives_a_grader_its_name_where_it_has_none(client):
    config = {"type": "custom", "item_schema": {"type": "object", "properties": {}}}
    made = client.evals.create(data_source_config=config, testing_criteria=[BARE])
    (criterion,) = made.testing_criteria
    assert criterion.name == "python" and criterion.id.startswith("python-")


@pytest.mark.parametrize("switch", ["off", "on"])
def test_the_start_says_that_python_graders_can_not_be_run(monkeypatch, tmp_path, caplog, switch):
    monkeypatch.setenv("JOURNEYMAN_PYTHON_GRADERS", switch)
    monkeypatch.setenv("PATH", str(tmp_path))

    def stop(_url: str) -> None:
        raise JourneymanError("begun", code="begun")

    with pytest.raises(JourneymanError, match="begun"):
        serve(Scripted(), port=0, on_ready=stop)
    assert ("bubblewrap" in caplog.text) is (switch == "on")


@pytest.mark.parametrize(
    ("grader", "sample"),
    [
        ({"type": "regex", "name": "g", "pattern": "(a+)+$"}, "a" * 40 + "!"),
        ({"type": "json_schema", "name": "g", "schema": {"type": "string", "pattern": "^(a+)+$"}}, f'"{"a" * 40}!"'),
    ],
    ids=["regex", "json_schema"],
)
def test_a_pattern_that_does_not_end_holds_nobody_up(server, grader, sample):
    replies = []

    def run() -> None:
        body = {"grader": grader, "model_sample": sample}
        replies.append(httpx.post(f"{server.url}/v1/fine_tuning/alpha/graders/run", json=body, timeout=30))

    asking = threading.Thread(target=run)
    asking.start()
    began_s = time.monotonic()
    waits_s = []
    while asking.is_alive():
        asked_s = time.monotonic()
        assert httpx.get(f"{server.url}/healthz", timeout=30).status_code == 200
        waits_s.append(time.monotonic() - asked_s)
    assert len(waits_s) > 1 and max(waits_s) < 1
    assert time.monotonic() - began_s < 10
    (reply,) = replies
    assert reply.status_code == 200 and "longer than 1 s" in reply.text
