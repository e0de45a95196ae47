"""/v1/fine_tuning/alpha/graders: whether a grader is sound, and what it says of a sample."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter

from journeyman.api.errors import RefusedError
from journeyman.api.wire_graders import (
    GraderErrors,
    GraderMetadata,
    GraderRun,
    RunGrader,
    ValidatedGrader,
    ValidateGrader,
)
from journeyman.errors import GraderError
from journeyman.grade.parse import parse
from journeyman.grade.score import Grader, Sample, Score


def router() -> APIRouter:
    """The routes of graders."""
    routes = APIRouter(prefix="/v1/fine_tuning/alpha/graders")

    @routes.post("/validate")
    def validate_grader(body: ValidateGrader) -> ValidatedGrader:
        """Check a grader without running it."""
        parsed(body.grader)
        return ValidatedGrader(grader=body.grader)

    @routes.post("/run")
    def run_grader(body: RunGrader) -> GraderRun:
        """Grade one sample."""
        return run(parsed(body.grader), body)

    return routes


def parsed(value: dict[str, Any], where: str = "grader") -> Grader:
    """A grader from its object. Raises RefusedError naming every problem."""
    try:
        return parse([value])[0]
    except GraderError as error:
        raise RefusedError(
            400, " ".join([error.message + ":", *error.problems]), code="invalid_grader", where=where
        ) from None


def run(grader: Grader, body: RunGrader) -> GraderRun:
    """What a grader says. One that can't measure has reward 0, as OpenAI has it, and says why."""
    started_s = time.perf_counter()
    score = grader.grade(Sample(body.model_sample), body.item or {})
    took_s = time.perf_counter() - started_s
    value = score.value or 0.0
    metadata = GraderMetadata(
        name=grader.name,
        type=grader.type,
        errors=_errors(score),
        execution_time=took_s,
        scores={grader.name: value},
        error_details=score.error,
    )
    return GraderRun(reward=value, metadata=metadata, sub_rewards={grader.name: value})


def _errors(score: Score) -> GraderErrors:
    if score.error is None:
        return GraderErrors()
    unknown = "unknown variable" in score.error
    return GraderErrors(
        sample_parse_error=score.value is not None,
        invalid_variable_error=score.value is None and unknown,
        other_error=score.value is None and not unknown,
    )
