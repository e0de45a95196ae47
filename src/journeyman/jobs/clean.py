"""What takes up room and is needed by nobody: found first, and deleted only when asked to.

Never touched: what a registered model needs (its folder, its base, the rows it is evaluated on), what a job needs that has
not ended, and files that a client may still ask for, unless they are older than what the user names.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from journeyman.jobs.needed import given_paths
from journeyman.jobs.state import JobState
from journeyman.jobs.store import Job, JobStore
from journeyman.models.registry import Registry, Version
from journeyman.settings import Settings
from journeyman.storage.documents import Document, Documents, Outline
from journeyman.storage.files import MODEL, FileStore
from journeyman.storage.uploads import LIFE_S

Kind = Literal["leftovers", "jobs", "checkpoints", "files", "responses", "completions", "eval-runs"]
KINDS: Sequence[Kind] = ("leftovers", "jobs", "checkpoints", "files", "responses", "completions", "eval-runs")

ENDED_RUN = ("completed", "canceled", "failed")


@dataclass(frozen=True, slots=True)
class Removable:
    """Something that can go: what it is, where, how much room it takes and why nobody needs it."""

    kind: Kind
    path: Path | None
    """None for what stands in the database."""
    size_bytes: int
    reason: str
    file: Document | None = None
    """The client's file that it is, which is forgotten with its bytes."""
    ids: Sequence[str] = ()
    """The objects in the database that it is, all of one project."""


def removable(
    settings: Settings,
    store: JobStore,
    registry: Registry,
    files: FileStore,
    documents: Documents,
    kinds: Sequence[str],
    *,
    older_than_s: float,
) -> list[Removable]:
    """All of these kinds that can go, the largest first.

    `leftovers`: what arrived in part and was never completed. `jobs`: folders of jobs that ended that long ago without a
    model that is still registered. `checkpoints`: those of ended jobs whose model is registered; they can no longer be
    called then. `files`: those of clients, of that age, that no job needs that is still to run. `responses`, stored
    `completions` and `eval-runs`: those of that age, but for responses that a younger one goes on from, and runs that go on.
    """
    now_s = time.time()
    before = now_s - older_than_s
    jobs, versions = store.list(), registry.list()
    needed = _needed(jobs, versions)
    found = [
        *_leftovers(settings, now_s),
        *_of_jobs(jobs, versions, needed, before),
        *_files(files, documents.everywhere("file"), needed, before),
    ]
    if "responses" in kinds:
        found += _by_project("responses", _old_responses(documents, before))
    if "completions" in kinds:
        found += _by_project("completions", [c for c in documents.outlines("chat.completion") if c.created_at <= before])
    if "eval-runs" in kinds:
        found += _by_project("eval-runs", _old_runs(documents, before))
    return sorted((item for item in found if item.kind in kinds), key=lambda item: -item.size_bytes)


def remove(item: Removable, files: FileStore, documents: Documents) -> bool:
    """Delete it; false where somebody began to use it or was quicker."""
    if item.path is None:
        documents.forget(item.ids)
        return True
    if item.file is not None:
        files.of(item.file.project).remove(item.file.id)
        return True
    if item.path.is_dir():
        shutil.rmtree(item.path, ignore_errors=True)
    else:
        item.path.unlink(missing_ok=True)
    return not item.path.exists()


def _needed(jobs: Sequence[Job], versions: Sequence[Version]) -> set[Path]:
    """Paths that a registered model or a job that has not ended reads."""
    needed = {version.folder for version in versions}
    needed |= {Path(version.base_source) for version in versions}
    for job in jobs:
        if not job.status.terminal or job.lease_owner is not None:
            needed |= {job.folder, Path(job.base), *given_paths(job)}
    return {path.resolve() for path in needed}


def _is_needed(path: Path, needed: set[Path]) -> bool:
    """Whether anything needed is the path, or below it, or above it."""
    path = path.resolve()
    return any(other == path or other in path.parents or path in other.parents for other in needed)


def _leftovers(settings: Settings, now_s: float) -> Iterator[Removable]:
    """What is still arriving is younger than an upload may live."""
    for folder, pattern, reason in (
        (settings.files_folder, ".incoming-*", "a file that did not arrive whole"),
        (settings.uploads_folder, "upload_*", "parts of an upload that was not completed"),
    ):
        for path in folder.glob(pattern):
            if _changed_at(path) < now_s - 2 * LIFE_S:
                yield Removable("leftovers", path, _size(path), reason)


def _of_jobs(
    jobs: Sequence[Job], versions: Sequence[Version], needed: set[Path], before: float
) -> Iterator[Removable]:
    registered = {version.job for version in versions}
    for job in jobs:
        ended = job.status.terminal and job.lease_owner is None
        if not ended or (job.finished_at or job.created_at) > before or not job.folder.is_dir():
            continue
        if job.id not in registered and not _is_needed(job.folder, needed):
            reason = "its model was deleted" if job.status is JobState.SUCCEEDED else f"the job is {job.status}"
            yield Removable("jobs", job.folder, _size(job.folder), reason)
        if job.id in registered:
            for name in ("checkpoints", "callable"):
                path = job.folder / name
                if path.is_dir() and not _is_needed(path, needed - {job.folder.resolve()}):
                    yield Removable("checkpoints", path, _size(path), f"{job.model} stands without them")


def _files(
    files: FileStore, documents: Sequence[Document], needed: set[Path], before: float
) -> Iterator[Removable]:
    for document in documents:
        if MODEL in document.body:  # it takes no room beside its model, with which it goes
            continue
        path = files.folder / files.stored_name(document)
        expires_at = document.body["expires_at"]
        expired = expires_at is not None and expires_at <= time.time()
        if (expired or document.created_at <= before) and not _is_needed(path, needed):
            reason = "expired" if expired else f"{document.body['purpose']}: {document.body['filename']}"
            yield Removable("files", path, int(document.body["bytes"]), reason, document)


def _old_responses(documents: Documents, before: float) -> list[Outline]:
    """Responses of that age that none goes on from that is younger, by way of others or at once."""
    all_of_them = {one.id: one for one in documents.outlines("response", "response", "previous_response_id")}
    kept: set[str] = set()
    for one in all_of_them.values():
        at: Outline | None = one if one.created_at > before else None
        while at is not None and at.id not in kept:
            kept.add(at.id)
            at = all_of_them.get(at.said or "")
    return [one for one in all_of_them.values() if one.id not in kept]


def _old_runs(documents: Documents, before: float) -> list[Outline]:
    """Runs of that age that have ended, each as large as it is with its items."""
    runs = documents.outlines("eval.run", "status")
    old = {run.id: run for run in runs if run.created_at <= before and run.said in ENDED_RUN}
    for item in documents.outlines("eval.run.output_item"):
        if (run := old.get(item.parent or "")) is not None:
            old[run.id] = replace(run, size_bytes=run.size_bytes + item.size_bytes)
    return list(old.values())


def _by_project(kind: Kind, found: Sequence[Outline]) -> Iterator[Removable]:
    """What stands in the database goes by project: there may be very many."""
    for project in sorted({one.project for one in found}):
        own = [one for one in found if one.project == project]
        reason = f"{len(own)} of the project {project}"
        yield Removable(kind, None, sum(one.size_bytes for one in own), reason, ids=[one.id for one in own])


def _changed_at(path: Path) -> float:
    """When anything in it last changed."""
    try:
        return max((p.stat().st_mtime for p in (path, *path.rglob("*"))), default=0.0)
    except FileNotFoundError:  # it is being worked at
        return time.time()


def _size(path: Path) -> int:
    """The bytes it takes on the disk."""
    sizes = (p.stat() for p in (path, *path.rglob("*")) if p.is_file() and not p.is_symlink())
    return sum(stat.st_size for stat in sizes)
