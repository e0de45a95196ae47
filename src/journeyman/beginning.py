"""What a training begins with: its task, its base or the model that it goes on from, and its wishes.

Called by the workspace, in whose models and checkpoints it looks; nothing is loaded, and no row is read.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from journeyman.errors import CheckpointError, PlanError
from journeyman.jobs.materials import Start
from journeyman.models import bases
from journeyman.models.bases import Base
from journeyman.models.names import CHECKPOINT
from journeyman.plan.plan import Plan, Wishes
from journeyman.request import TrainRequest, asked_wishes, base_name
from journeyman.task import Task

if TYPE_CHECKING:
    from journeyman.workspace import Workspace


def task_and_base(workspace: Workspace, request: TrainRequest) -> tuple[Task, Base]:
    """What `Workspace.task_and_base` promises."""
    task = workspace.task(request.source)
    return task, base_of(workspace, base_name(task, request))


def base_of(workspace: Workspace, name: str, *, fetch: bool = True) -> Base:
    """The base of that name, or the one that a fine-tuned model stands on. Raises CheckpointError where it has changed."""
    start = start_of(workspace, name)
    base = bases.resolve(start.base if start else name, fetch=fetch)
    if start and base.fingerprint != start.base_fingerprint:
        raise CheckpointError(
            f"the base {base.name} has changed since {start.id} was trained on it",
            where=str(base.folder),
            fix="train on the base itself, or put the former one back",
        )
    return base


def start_of(workspace: Workspace, name: str) -> Start | None:
    """What a training goes on from, where its base is named by an `ft:` id or a checkpoint's. Raises ModelNotFound."""
    if not name.startswith("ft:"):
        return None
    if CHECKPOINT in name:
        job, folder = workspace.checkpoint_folder(name)
        plan = Plan.read(job.folder / "plan.json")
        full, rank, top_layers = plan.method.value == "full", plan.rank.value, plan.top_layers.value
        return Start(name, job.base, plan.base_hash, full, rank, top_layers, folder)
    version = workspace.registry.get(name)
    choices = version.plan["choices"]
    rank, top_layers = (int(choices[n]["value"]) if n in choices else 0 for n in ("rank", "top_layers"))
    full = version.method == "full"
    return Start(version.id, version.base_source, version.base_fingerprint, full, rank, top_layers, version.folder)


def wishes_of(workspace: Workspace, task: Task, request: TrainRequest) -> Wishes:
    """What `Workspace.wishes_of` promises."""
    wishes, start = asked_wishes(task, request), start_of(workspace, base_name(task, request))
    if start is None:
        return wishes
    full, rank, top_layers = start.full, start.rank, start.top_layers or None
    if (wishes.full and not full) or wishes.rank not in (None, rank) or wishes.top_layers not in (None, top_layers):
        was = "full" if full else f"LoRA of rank {rank}" + (f" on the last {top_layers} layers" if top_layers else "")
        raise PlanError(
            f"{start.id} was trained as {was}, and goes on as that only",
            where="rank",
            fix="leave out --full, --rank and --top-layers, or train on the base itself",
        )
    return replace(wishes, full=full, rank=None if full else rank, top_layers=top_layers)
