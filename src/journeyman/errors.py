"""The tree of errors a user can meet and mend.

    JourneymanError
    ├── DataError            a file of examples that can't be read, or in which nothing can be learned
    ├── TaskError            a task folder or its task.toml
    ├── PlanError            a wish that contradicts the model, the data or the machine
    ├── BaseNotFound         a base model that is not here
    ├── ModelNotFound        a model id nobody registered
    ├── ModelConflict        a model, base or alias that does not allow what was asked
    ├── JobNotFound          a job id nobody created
    ├── JobConflict          a job in a state that does not allow what was asked
    ├── TrainingError        training stopped for a reason the user can act on
    │   └── NonFiniteStep    a step whose loss or gradient is not finite
    ├── DiskFull             no room is left for what a job must write
    ├── DatabaseUnavailable  the database can't be opened when a command or a server starts
    ├── CheckpointError      a checkpoint that is missing, damaged or of another plan
    ├── ExportError          a model that can't be exported as asked
    ├── GraderError          a grader object that can't be used
    ├── ObjectNotFound       an object of the API (a file, an eval, a response, …) that nobody created or that is gone
    ├── QueueFull            more requests at once than the engine lets wait
    └── RequestError         a request to the server that can't be answered as asked

Each carries a stable `code`, the `message` with the offending value, the place (`where`: file:line or field)
and the mend (`fix`). The faces print them without a traceback; anything else that is raised is a bug.
"""

from __future__ import annotations

from collections.abc import Sequence


class JourneymanError(Exception):
    """An error the user can mend.

    `problems` holds further lines when several things are wrong at once, so that one run shows them all.
    """

    code = "error"

    def __init__(
        self,
        message: str,
        *,
        where: str | None = None,
        fix: str | None = None,
        code: str | None = None,
        problems: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.fix = fix
        self.problems = tuple(problems)
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        lines = [f"{self.where}: {self.message}" if self.where else self.message]
        lines += [f"  - {problem}" for problem in self.problems]
        if self.fix:
            lines.append(f"  mend: {self.fix}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, object]:
        """The error as the faces send it: code, message, where, fix, problems."""
        return {
            "code": self.code,
            "message": self.message,
            "where": self.where,
            "fix": self.fix,
            "problems": list(self.problems),
        }


class DataError(JourneymanError):
    """A file of examples that can't be read, or in which nothing can be learned."""

    code = "data"


class TaskError(JourneymanError):
    """A task folder or its task.toml that can't be used."""

    code = "task"


class PlanError(JourneymanError):
    """A wish that contradicts the model, the data or the machine."""

    code = "plan"


class BaseNotFound(JourneymanError):
    """A base model that is neither bundled, nor a folder, nor in the local hub cache."""

    code = "base_not_found"


class ModelNotFound(JourneymanError):
    """A model id that is not in the registry."""

    code = "model_not_found"


class ModelConflict(JourneymanError):
    """A model, base or alias that does not allow what was asked."""

    code = "model_conflict"


class JobNotFound(JourneymanError):
    """A job id that is not in the store."""

    code = "job_not_found"


class JobConflict(JourneymanError):
    """A job in a state that does not allow what was asked."""

    code = "job_conflict"


class TrainingError(JourneymanError):
    """Training stopped for a reason the user can act on."""

    code = "training"


class NonFiniteStep(TrainingError):
    """A step whose loss or gradient norm is not finite; the weights are those of the step before."""

    code = "non_finite_step"


class DiskFull(JourneymanError):
    """No room is left on the disk for what a job must write; what it had written before is whole."""

    code = "disk_full"


class DatabaseUnavailable(JourneymanError):
    """The database that JOURNEYMAN_DATABASE_URL names can't be opened."""

    code = "database_unavailable"


class CheckpointError(JourneymanError):
    """A checkpoint that is missing, damaged or belongs to another plan."""

    code = "checkpoint"


class ExportError(JourneymanError):
    """A model that can't be exported as asked, or whose files would not answer as it does."""

    code = "export"


class GraderError(JourneymanError):
    """A grader object that can't be used."""

    code = "grader"


class ObjectNotFound(JourneymanError):
    """An object of the API that nobody created, that belongs to another project, or that is gone."""

    code = "not_found"


class QueueFull(JourneymanError):
    """More requests at once than the engine lets wait; sent again after `retry_after_s` seconds, one may be answered."""

    code = "rate_limit_exceeded"

    def __init__(self, waiting: int, retry_after_s: int) -> None:
        super().__init__(
            f"{waiting} requests wait for this model already",
            fix=f"send it again in {retry_after_s} s, or fewer at once",
        )
        self.retry_after_s = retry_after_s


class RequestError(JourneymanError):
    """A request to the server that can't be answered as asked; `where` names the field."""

    code = "invalid_request"
