"""A finished job's metrics as the CSV that OpenAI gives: one row a step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy.exc import IntegrityError

from journeyman.errors import ObjectNotFound
from journeyman.files import write_text
from journeyman.jobs.state import JobState
from journeyman.jobs.store import Job
from journeyman.storage.files import FileStore

HEADER = "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy"
"""OpenAI's columns; its events call the third one train_mean_token_accuracy."""


def result_file(files: FileStore, job: Job, history: Sequence[Mapping[str, Any]]) -> list[str]:
    """The id of the job's metrics file, which is written at the first call after the job has ended well; else nothing."""
    if job.status is not JobState.SUCCEEDED:
        return []
    file_id = f"file-{job.id.removeprefix('ftjob-')}"
    try:
        files.documents.get("file", file_id)
    except ObjectNotFound:
        scratch = files.scratch()
        write_text(scratch, metrics_csv(history))
        with suppress(IntegrityError):  # another request has just kept the same file
            files.keep(scratch, "step_metrics.csv", "fine-tune-results", id=file_id)
    return [file_id]


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
