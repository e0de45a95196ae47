"""/v1/fine_tuning/alpha/graders: whether a grader is sound, and what it says of a sample."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request

from journeyman.api.errors import RefusedError
from journeyman.api.gate import project_of
from journeyman.api.wire_graders import (
    GraderErrors,
    GraderMetadata,
    GraderRun,
    RunGrader,
    ValidatedGrader,
    ValidateGrader,
)
from journeyman.errors import GraderError, JourneymanError
from journeyman.grade import python
from journeyman.grade.judged import Judge, Question, no_judge
from journeyman.grade.parse import parse, runs_source
from journeyman.grade.score import Grader, NotMeasurableError, Sample, Score

if TYPE_CHECKING:
    from journeyman.api.models import Catalogue
    from journeyman.workspace import Workspace


def router(workspace: Workspace, catalogue: Catalogue) -> APIRouter:
    """The routes of graders."""
    routes = APIRouter(prefix="/v1/fine_tuning/alpha/graders")

    @routes.post("/validate")
    def validate_grader(body: ValidateGrader) -> ValidatedGrader:
        """Check a grader without running it. One that could not be run here is refused."""
        _insist_on_sandbox(parsed(body.grader))
        return ValidatedGrader(grader=body.grader)

    @routes.post("/run")
    def run_grader(body: RunGrader, request: Request) -> GraderRun:
        """Grade one sample."""
        judge = ServedJudge(workspace, catalogue, project_of(request))
        grader = parsed(body.grader, judge=judge)
        _insist_on_sandbox(grader)
        return run(grader, body)

    return routes


class ServedJudge:
    """Asks a judge among the models that a project can call here, and no other: no URL, no folder of the machine.

    Raises NotMeasurableError for any other, and where the model can't answer.
    """

    def __init__(self, workspace: Workspace, catalogue: Catalogue, project: str) -> None:
        self._workspace = workspace
        self._catalogue = catalogue
        self._project = project

    def __call__(self, question: Question) -> str:
        """The judge's answer."""
        if question.url:
            raise NotMeasurableError("url: this server asks no judge elsewhere; name one of its own models")
        try:
            model = self._catalogue.find(question.model, self._project).source
            return self._workspace.judge(replace(question, model=model))
        except JourneymanError as error:
            raise NotMeasurableError(f"the judge {question.model} can't be asked: {error.message}") from error


def parsed(value: dict[str, Any], where: str = "grader", *, judge: Judge = no_judge) -> Grader:
    """A grader from its object. Raises RefusedError naming every problem."""
    try:
        return parse([value], judge)[0]
    except GraderError as error:
        raise RefusedError(
            400, " ".join([error.message + ":", *error.problems]), code="invalid_grader", where=where
        ) from None


def _insist_on_sandbox(grader: Grader) -> None:
    """Refuse source that can't be run here: a reward of 0 would be taken for the sample's. Raises RefusedError."""
    reason = python.unavailable() if runs_source(grader.source) else None
    if reason is not None:
        raise RefusedError(
            400, f"This server can't run python graders: {reason}", code="python_graders_unavailable", where="grader",
            fix="let its owner set JOURNEYMAN_PYTHON_GRADERS=on and install bubblewrap, or use another grader",
        )  # fmt: skip


def run(grader: Grader, body: RunGrader) -> GraderRun:
    """What a grader says. One that can't measure has reward 0, as OpenAI has it, and says why."""
    started_s = time.perf_counter()
    score = grader.grade(Sample(body.model_sample), body.item or {})
    took_s = time.perf_counter() - started_s
    value = score.value or 0.0
    metadata = GraderMetadata(
        name=grader.name,
        type=grader.type,
        errors=_errors(grader, score),
        execution_time=took_s,
        scores={grader.name: value},
        error_details=score.error,
    )
    return GraderRun(reward=value, metadata=metadata, sub_rewards={grader.name: value})


def _errors(grader: Grader, score: Score) -> GraderErrors:
    if score.error is None:
        return GraderErrors()
    if grader.type == "python":
        return GraderErrors(python_grader_runtime_error=True, python_grader_runtime_error_details=score.error)
    unknown = "unknown variable" in score.error
    return GraderErrors(
        sample_parse_error=score.value is not None,
        invalid_variable_error=score.value is None and unknown,
        other_error=score.value is None and not unknown,
    )
