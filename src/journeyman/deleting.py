"""Deleting: a fine-tuned model with all that is its own, and what takes up room and nobody needs.

Called by the workspace; what is needed by whom is `jobs/needed.py` and `jobs/clean.py`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from journeyman.errors import JobConflict, JobNotFound, RequestError
from journeyman.jobs.checkpoints import names_of
from journeyman.jobs.clean import KINDS, Removable, removable, remove
from journeyman.jobs.needed import follower_of
from journeyman.jobs.results import forget_weights_file
from journeyman.jobs.store import Job
from journeyman.models.registry import Version

if TYPE_CHECKING:
    from journeyman.workspace import Workspace


def delete_model(
    workspace: Workspace, model_id: str, *, unload: Callable[[Sequence[str], Sequence[Path]], None]
) -> Version:
    """What `Workspace.delete_model` promises; `unload` drops models by name and by folder from memory."""
    owner, version = workspace.project_of(model_id), workspace.registry.by_id(model_id)
    job = _job_of(workspace, version)
    names = [version.id, *(names_of(job, workspace.settings.org) if job else ())]
    _refuse_followed(workspace, version.id, names, owner)
    workspace.registry.remove(version.id)
    for name in names:
        workspace.permissions.forget(name, owner)
    folders = [version.folder]
    if job is not None:
        forget_weights_file(workspace.files.of(owner), job)
        folders += [job.folder / "checkpoints", job.folder / "callable"]
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    unload(names, folders)
    return version


def _job_of(workspace: Workspace, version: Version) -> Job | None:
    """The job that made a model; None where it is gone."""
    try:
        return workspace.jobs.get(version.job)
    except JobNotFound:
        return None


def _refuse_followed(workspace: Workspace, model_id: str, names: Sequence[str], owner: str) -> None:
    """Raise JobConflict where a job that has not ended goes on from one of these; a job of another project is not named."""
    if (job := follower_of(names, workspace.jobs.unended())) is not None:
        who = f"the job {job.id}" if job.project == owner else "a job of another project"
        raise JobConflict(
            f"The model `{model_id}` is in use: {who}, which has not ended, goes on from it or from a checkpoint of its job",
            where="model",
            fix="cancel that job, or wait for its end",
            code="model_in_use",
        )


def clean(workspace: Workspace, kinds: Sequence[str], *, older_than_days: float, delete: bool) -> list[Removable]:
    """What `Workspace.clean` promises."""
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise RequestError(
            f"nothing is called {', '.join(unknown)} here", where="--only", fix=f"name some of {', '.join(KINDS)}",
            code="invalid_value",
        )  # fmt: skip
    found = removable(
        workspace.settings, workspace.jobs, workspace.registry, workspace.files, workspace.documents, kinds,
        older_than_s=older_than_days * 86_400,
    )  # fmt: skip
    return [item for item in found if not delete or remove(item, workspace.files, workspace.documents)]
