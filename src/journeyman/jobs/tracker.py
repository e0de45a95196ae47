"""Passing a job's numbers on to Weights & Biases, where the job asked for it and the library is installed.

The names are those of OpenAI's integration: the run's id is the job's, its configuration holds model, files,
hyperparameters and seed, its metrics are those of the job's events.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from journeyman.errors import RequestError
from journeyman.settings import secret

OnEvent = Callable[[Mapping[str, Any]], None]

METRICS = {
    "step": ("train_loss", "train_mean_token_accuracy", "learning_rate", "gradient_norm"),
    "validation": ("valid_loss", "valid_mean_token_accuracy"),
}

log = logging.getLogger("journeyman.jobs")


def insist_on_wandb() -> None:
    """Raise RequestError, with the mend, where this machine can't pass numbers on to wandb."""
    if importlib.util.find_spec("wandb") is None:
        raise RequestError(
            "The integration wandb needs a library that is not installed on this server",
            where="integrations",
            fix='the server\'s owner installs it with `pip install "journeyman[wandb]"`; without it, leave integrations '
            "out: the job's events and its result file hold the same numbers",
            code="integration_not_installed",
        )
    if secret("WANDB_API_KEY") is None and secret("WANDB_MODE") not in ("offline", "disabled"):
        raise RequestError(
            "The integration wandb has no key on this server",
            where="integrations",
            fix="the server's owner sets WANDB_API_KEY, or WANDB_MODE=offline, for the server and its workers",
            code="integration_not_configured",
        )


@contextmanager
def tracked(
    job_id: str, folder: Path, details: Mapping[str, Any], on_event: OnEvent
) -> Iterator[OnEvent]:
    """An `on_event` that also feeds the runs that `details["integrations"]` asks for, which end with the block.

    A tracker that fails is logged, and the training goes on: its numbers are in the job's own events.
    """
    runs = [
        run
        for integration in details.get("integrations") or ()
        if (run := _begun(job_id, folder, details, integration["wandb"])) is not None
    ]
    if not runs:
        yield on_event
        return

    def also(event: Mapping[str, Any]) -> None:
        on_event(event)
        if numbers := _numbers(event):
            for run in runs:
                _guarded(job_id, lambda run=run: run.log(numbers, step=event["step"]))  # type: ignore[misc]

    try:
        yield also
    finally:
        for run in runs:
            _guarded(job_id, run.finish)


def _begun(job_id: str, folder: Path, details: Mapping[str, Any], asked: Mapping[str, Any]) -> Any:
    def begin() -> Any:
        import wandb

        return wandb.init(
            project=asked["project"],
            entity=asked.get("entity"),
            name=asked.get("name") or job_id,
            id=job_id,
            resume="allow",  # a job that goes on after a death feeds the same run
            dir=folder,
            tags=[*(asked.get("tags") or ()), "journeyman", str(details.get("model"))[:64]],
            config={
                name: details.get(name)
                for name in ("model", "training_file", "validation_file", "hyperparameters", "seed")
            },
            settings=wandb.Settings(silent=True, console="off", disable_git=True, save_code=False),
        )

    return _guarded(job_id, begin)


def _guarded(job_id: str, action: Callable[[], Any]) -> Any:
    try:
        return action()
    except Exception as error:  # whatever a tracker does, the job goes on
        log.warning("%s: wandb failed: %r", job_id, error, extra={"job_id": job_id})
        return None


def _numbers(event: Mapping[str, Any]) -> dict[str, float]:
    full = "full_" if event.get("full") else ""
    return {f"{full}{name}": event[name] for name in METRICS.get(event["type"], ()) if name in event}
