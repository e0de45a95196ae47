"""Judge models over HTTP: those that the server serves, and no other."""

from __future__ import annotations

import pytest

GRADER = {
    "type": "label_model", "name": "kind", "model": "starter", "labels": ["yes", "no"], "passing_labels": ["yes", "no"],
    "input": [{"role": "user", "content": "Is this kind? {{ sample.output_text }}"}],
}  # fmt: skip


def run(client, grader):
    """What the SDK's own call gives."""
    return client.fine_tuning.alpha.graders.run(grader=grader, model_sample="Good morning.").model_dump()


def test_a_model_that_is_served_judges(client):
    found = run(client, GRADER)
    assert found["reward"] == 1.0 and found["metadata"]["error_details"] is None, "whatever it says is a label that passes"


@pytest.mark.parametrize(
    "change", [{"url": "http://127.0.0.1:9/v1"}, {"model": "gpt-4o"}, {"model": "/etc"}, {"model": "../starter"}],
    ids=["elsewhere", "unknown", "a folder", "a path"],
)  # fmt: skip
def test_no_other_is_asked(client, change):
    found = run(client, GRADER | change)
    assert found["reward"] == 0.0
    assert found["metadata"]["errors"]["other_error"]
