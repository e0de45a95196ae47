"""Judge models over HTTP: those that the server serves, and no other."""

from __future__ import annotations

import httpx
import openai
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
    told = found["metadata"]
    assert found["reward"] == 1.0 and told["error_details"] is None, "whatever it says is a label that passes"
    (usage,) = [dict(tokens) for tokens in found["api_model_grader_token_usage_per_model"].values()]
    assert usage["prompt_tokens"] > 0 < usage["completion_tokens"]
    assert told["token_usage"] == usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert (told["sampled_model_name"], list(found["api_model_grader_token_usage_per_model"])) == ("starter", ["starter"])


def test_a_multi_shows_what_its_graders_gave_and_what_its_judges_read(client):
    said = {"type": "string_check", "name": "said", "input": "{{ sample.output_text }}", "reference": "No", "operation": "eq"}
    multi = {"type": "multi", "name": "m", "graders": {"said": said, "kind": GRADER, "again": GRADER}, "calculate_output": "0.5 * kind + said"}
    found, once = run(client, multi), run(client, GRADER)
    assert found["reward"] == 0.5
    assert found["sub_rewards"] == found["metadata"]["scores"] == {"said": 0.0, "kind": 1.0, "again": 1.0}
    assert found["metadata"]["token_usage"] > once["metadata"]["token_usage"], "two judges were asked"


@pytest.mark.parametrize(
    "change", [{"url": "http://127.0.0.1:9/v1"}, {"model": "gpt-4o"}, {"model": "/etc"}, {"model": "../starter"}],
    ids=["elsewhere", "unknown", "a folder", "a path"],
)  # fmt: skip
def test_no_other_is_asked(client, change):
    found = run(client, GRADER | change)
    assert found["reward"] == 0.0
    errors = found["metadata"]["errors"]
    assert errors["api_model_grader_server_error"] and not errors["other_error"]
    assert "judge" in errors["api_model_grader_server_error_details"]
    for grader, param in ((GRADER | change, "grader.model"), (in_a_multi(GRADER | change), "grader.graders")):
        assert run(client, grader)["metadata"]["errors"]["api_model_grader_server_error"]
        with pytest.raises(openai.BadRequestError) as refused:
            client.fine_tuning.alpha.graders.validate(grader=grader)
        assert (refused.value.code, refused.value.param) == ("model_not_found", param)


def test_a_judge_that_is_cut_gives_no_verdict(client):
    found = run(client, GRADER | {"sampling_params": {"max_completions_tokens": 1}})
    errors = found["metadata"]["errors"]
    assert found["reward"] == 0.0 and errors["api_model_grader_parse_error"] and not errors["other_error"]
    assert found["metadata"]["token_usage"] > 0, "it was asked all the same"


def test_a_judge_that_is_served_is_valid_and_has_its_range(client, server):
    score = {key: GRADER[key] for key in ("name", "model", "input")} | {"type": "score_model", "pass_threshold": None}
    url = f"{server.url}/v1/fine_tuning/alpha/graders/validate"
    for form in (lambda one: {"a": one}, lambda one: [one], lambda one: one):
        multi = {"type": "multi", "name": "m", "graders": form(score), "calculate_output": "a" if "a" in form(score) else "kind"}
        reply = httpx.post(url, json={"grader": multi})
        whole = {key: value for key, value in score.items() if value is not None} | {"range": [0, 1]}
        assert reply.json() == {"grader": multi | {"graders": form(whole)}}
    assert client.fine_tuning.alpha.graders.validate(grader=score).grader.range == [0, 1]


def in_a_multi(grader):
    return {"type": "multi", "name": "m", "graders": {"a": grader}, "calculate_output": "a"}
