"""OpenAI's wire shapes for running graders."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from journeyman.api.strict import Strict


class ValidateGrader(Strict):
    """The body of POST /v1/fine_tuning/alpha/graders/validate."""

    grader: dict[str, Any]


class RunGrader(Strict):
    """The body of POST /v1/fine_tuning/alpha/graders/run."""

    grader: dict[str, Any]
    model_sample: str
    item: dict[str, Any] | None = None


class GraderErrors(BaseModel):
    """Which of OpenAI's kinds of error a run met."""

    formula_parse_error: bool = False
    sample_parse_error: bool = False
    truncated_observation_error: bool = False
    unresponsive_reward_error: bool = False
    invalid_variable_error: bool = False
    other_error: bool = False
    python_grader_server_error: bool = False
    python_grader_server_error_type: str | None = None
    python_grader_runtime_error: bool = False
    python_grader_runtime_error_details: str | None = None
    model_grader_server_error: bool = False
    model_grader_refusal_error: bool = False
    model_grader_parse_error: bool = False
    model_grader_server_error_details: str | None = None


class GraderMetadata(BaseModel):
    """What was run, and how it went. `error_details` is ours: the error in words."""

    name: str
    type: str
    errors: GraderErrors
    execution_time: float
    scores: dict[str, Any]
    token_usage: int | None = None
    sampled_model_name: str | None = None
    error_details: str | None = None


class GraderRun(BaseModel):
    """A grader's reward for one sample."""

    reward: float
    metadata: GraderMetadata
    sub_rewards: dict[str, Any]
    model_grader_token_usage_per_model: dict[str, Any] = {}


class ValidatedGrader(BaseModel):
    """A grader that can be used."""

    grader: dict[str, Any]
