"""/v1/fine_tuning/alpha/graders: whether a grader is sound, and what it says of a sample."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
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
from journeyman.grade.parse import normalised, objects, parse, runs_source
from journeyman.grade.score import Grader, NotMeasurableError, Sample, Score
from journeyman.records import Usage

if TYPE_CHECKING:
    from journeyman.api.models import Catalogue
    from journeyman.workspace import Workspace


JUDGES = ("label_model", "score_model")
"""Graders that ask a model."""

TOKENS = ("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens")


def router(workspace: Workspace, catalogue: Catalogue) -> APIRouter:
    """The routes of graders."""
    routes = APIRouter(prefix="/v1/fine_tuning/alpha/graders")

    @routes.post("/validate")
    def validate_grader(body: ValidateGrader, request: Request) -> ValidatedGrader:
        """Check a grader without running it. One that could not be run here is refused."""
        grader = parsed(body.grader)
        _insist_on_sandbox(grader)
        _insist_on_judges(grader, ServedJudge(workspace, catalogue, project_of(request)))
        return ValidatedGrader(grader=normalised(grader.source))

    @routes.post("/run")
    def run_grader(body: RunGrader, request: Request) -> GraderRun:
        """Grade one sample."""
        asked: list[tuple[str, Usage]] = []
        judge = ServedJudge(
            workspace, catalogue, project_of(request), on_answer=lambda model, usage: asked.append((model, usage))
        )
        grader = parsed(body.grader, judge=judge)
        _insist_on_sandbox(grader)
        return run(grader, body, asked)

    return routes


class ServedJudge:
    """Asks a judge among the models that a project can call here, and no other: no URL, no folder of the machine.

    Raises NotMeasurableError for any other, and where the model can't answer. `on_answer` is told the judge's name and what
    its answer cost.
    """

    def __init__(
        self,
        workspace: Workspace,
        catalogue: Catalogue,
        project: str,
        *,
        on_answer: Callable[[str, Usage], None] = lambda _model, _usage: None,
    ) -> None:
        self._workspace = workspace
        self._catalogue = catalogue
        self._project = project
        self._on_answer = on_answer

    def __call__(self, question: Question) -> str:
        """What the judge says."""
        source = self.find(question.model, question.url)
        try:
            answer = self._workspace.judge.ask(replace(question, model=source))
        except JourneymanError as error:
            raise _away(question.model, error) from error
        self._on_answer(question.model, answer.usage)
        return answer.text

    def find(self, model: str, url: str = "") -> str:
        """Where a judge's model is."""
        if url:
            message = "url: this server asks no judge elsewhere; name one of its own models"
            raise NotMeasurableError(message, fault="judge_away")
        try:
            return self._catalogue.find(model, self._project).source
        except JourneymanError as error:
            raise _away(model, error) from error


def _away(model: str, error: JourneymanError) -> NotMeasurableError:
    return NotMeasurableError(f"the judge {model} can't be asked: {error.message}", fault="judge_away")


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


def _insist_on_judges(grader: Grader, judge: ServedJudge) -> None:
    """Refuse a judge that can't be asked here. Raises RefusedError."""
    for one in objects(grader.source):
        if one["type"] not in JUDGES:
            continue
        try:
            judge.find(one["model"], one.get("url") or "")
        except NotMeasurableError as error:
            where = "grader.model" if one is grader.source else "grader.graders"
            raise RefusedError(400, str(error), code="model_not_found", where=where) from None


def run(grader: Grader, body: RunGrader, asked: Sequence[tuple[str, Usage]]) -> GraderRun:
    """What a grader says. One that can't measure has reward 0, as OpenAI has it, and says why.

    `asked` are the judges that have answered once it has spoken, with what each answer cost.
    """
    started_s = time.perf_counter()
    score = grader.grade(Sample(body.model_sample), body.item or {})
    took_s = time.perf_counter() - started_s
    value = score.value or 0.0
    scores = dict(score.parts) or {grader.name: value}
    usage = _by_model(asked)
    metadata = GraderMetadata(
        name=grader.name,
        type=grader.type,
        errors=_errors(grader, score),
        execution_time=took_s,
        scores=scores,
        token_usage=sum(tokens["total_tokens"] for tokens in usage.values()) if usage else None,
        sampled_model_name=next(iter(usage)) if len(usage) == 1 else None,
        error_details=score.error,
    )
    return GraderRun(
        reward=value, metadata=metadata, sub_rewards=scores, model_grader_token_usage_per_model=usage
    )


def _by_model(asked: Sequence[tuple[str, Usage]]) -> dict[str, dict[str, int]]:
    """The tokens that each judge has read and written."""
    found: dict[str, dict[str, int]] = {}
    for model, usage in asked:
        tokens = found.setdefault(model, dict.fromkeys(TOKENS, 0))
        tokens["prompt_tokens"] += usage.prompt_tokens
        tokens["completion_tokens"] += usage.completion_tokens
        tokens["total_tokens"] += usage.total_tokens
    return found


def _errors(grader: Grader, score: Score) -> GraderErrors:
    if score.error is None:
        return GraderErrors()
    if grader.type == "python":
        return GraderErrors(python_grader_runtime_error=True, python_grader_runtime_error_details=score.error)
    if score.fault == "judge_away":
        return GraderErrors(model_grader_server_error=True, model_grader_server_error_details=score.error)
    if score.fault == "judge_unclear":
        return GraderErrors(model_grader_parse_error=True)
    unknown = "unknown variable" in score.error
    return GraderErrors(
        sample_parse_error=score.value is not None,
        invalid_variable_error=score.value is None and unknown,
        other_error=score.value is None and not unknown,
    )
