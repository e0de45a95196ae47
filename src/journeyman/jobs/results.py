"""What a job leaves as files for clients: its metrics as the CSV that OpenAI gives, the report of its data check, its weights.

Each is an object of the Files API, of the job's project, and is made when the job is first looked at after it is there.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy.exc import IntegrityError

from journeyman.database import UNREACHABLE
from journeyman.errors import ObjectNotFound
from journeyman.files import read_json, write_text
from journeyman.jobs.state import JobState
from journeyman.jobs.store import Job
from journeyman.models.registry import Version
from journeyman.storage.archive import Archive
from journeyman.storage.documents import Document
from journeyman.storage.files import RESULTS, FileStore

HEADER = "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy"
"""OpenAI's columns; its events call the third one train_mean_token_accuracy."""

METRICS_FILE = "step_metrics.csv"


def result_file(files: FileStore, job: Job, history: Sequence[Mapping[str, Any]]) -> list[str]:
    """The id of the job's metrics file, which is written at the first call after the job has ended well; else nothing."""
    if job.status is not JobState.SUCCEEDED:
        return []
    file_id = _file_id(job)
    if _known(files, file_id) is None:
        _keep(files, file_id, METRICS_FILE, metrics_csv(history))
    return [file_id]


def dataset_report(files: FileStore, job: Job) -> Mapping[str, Any] | None:
    """What the check of the job's rows found, in short, with the id of the `file` that holds all of it.

    None until the rows were read and checked, and where there is no room for the file. Paths of uploaded files are cut down to their names.
    """
    file_id = _file_id(job, "report-")
    document = _known(files, file_id)
    if document is None:
        folder = job.folder / "dataset"
        try:
            counts = read_json(folder / "manifest.json")["counts"]
            report = {"rows": counts, **without_folder(read_json(folder / "report.json"), f"{files.folder}/")}
        except FileNotFoundError:  # not written yet, or being written anew
            return None
        findings = [{**finding, "rows": len(finding["rows"])} for finding in report["findings"]]
        shown = ("code", "severity", "message", "rows", "fix")
        summary = {
            **{name: report[name] for name in ("verdict", "ready", "rows")},
            "findings": [{name: finding[name] for name in shown} for finding in findings],
        }
        text = json.dumps(report, ensure_ascii=False, indent=2) + "\n"
        try:
            document = _keep(files, file_id, "dataset_report.json", text, about=summary)
        except (OSError, *UNREACHABLE):  # a job that a full disk has paused can be looked at all the same
            return None
    return {**document.body["about"], "file": document.id}


def weights_file(files: FileStore, job: Job, version: Version) -> str | None:
    """The id of the file that `weights` gives the bytes of; None where the model's files are gone."""
    file_id = _file_id(job, "weights-")
    if _known(files, file_id) is None:
        archive = weights(version)
        try:
            size_bytes = archive.size_bytes
        except FileNotFoundError:
            return None
        with suppress(IntegrityError):  # another request has just added it
            files.add_weights(version.id, f"{archive.top}.tar", size_bytes, id=file_id)
    return file_id


def forget_weights_file(files: FileStore, job: Job) -> None:
    """The file goes with its model."""
    with suppress(ObjectNotFound):
        files.remove(_file_id(job, "weights-"))


def weights(version: Version) -> Archive:
    """The files of a model's folder, as they were published: weights, configuration, tokenizer, chat template, card."""
    top = re.sub(r"[^A-Za-z0-9._]+", "-", version.id)
    return Archive([version.folder / name for name in sorted(version.files)], top, int(version.created_at))


def _file_id(job: Job, kind: str = "") -> str:
    return f"file-{kind}{job.id.removeprefix('ftjob-')}"


def _known(files: FileStore, file_id: str) -> Document | None:
    try:
        return files.documents.get("file", file_id)
    except ObjectNotFound:
        return None


def _keep(
    files: FileStore, file_id: str, name: str, text: str, *, about: Mapping[str, Any] | None = None
) -> Document:
    scratch = files.scratch()
    write_text(scratch, text)
    try:
        return files.keep(scratch, name, RESULTS, id=file_id, about=about)
    except IntegrityError:  # another request has just kept the same file
        return files.documents.get("file", file_id)


def without_folder(value: Any, folder: str) -> Any:
    """The same value without that folder in its texts: where files of clients lie is nobody's business."""
    if isinstance(value, str):
        return value.replace(folder, "")
    if isinstance(value, list):
        return [without_folder(item, folder) for item in value]
    return {key: without_folder(item, folder) for key, item in value.items()} if isinstance(value, dict) else value


def metrics_csv(history: Sequence[Mapping[str, Any]]) -> str:
    """The steps in order, five decimals each, empty where nothing was measured. Of a repeated step the last one counts."""
    rows: dict[int, dict[str, str]] = {}
    for event in history:
        if event["type"] == "step":
            cells = {
                "loss": _cell(event["train_loss"]),
                "accuracy": _cell(event["train_mean_token_accuracy"]),
            }
            rows[event["step"]] = cells
        elif event["type"] == "validation" and event["step"] in rows:
            cells = {
                "valid_loss": _cell(event["valid_loss"]),
                "valid": _cell(event["valid_mean_token_accuracy"]),
            }
            rows[event["step"]] |= cells
    lines = [
        ",".join([str(step), *(row.get(name, "") for name in ("loss", "accuracy", "valid_loss", "valid"))])
        for step, row in sorted(rows.items())
    ]
    return "\n".join([HEADER, *lines]) + "\n"


def _cell(value: Any) -> str:
    known = isinstance(value, int | float) and math.isfinite(value)
    return f"{value:.5f}" if known else ""
