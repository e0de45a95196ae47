"""`clean`: make room."""

from __future__ import annotations

from typing import Annotated

import typer

from journeyman.cli import options
from journeyman.cli.show import Screen, size


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(clean)


def clean(
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="KIND", help="leftovers, jobs, checkpoints, files, responses, completions or eval-runs. Can be repeated. Default: leftovers and jobs."),
    ] = None,
    older_than_days: Annotated[
        float, typer.Option("--older-than-days", min=0, help="How long ago a job ended, or a file or an object of the database was kept.")
    ] = 30.0,
    delete: Annotated[bool, typer.Option("--delete", help="Delete it. Without this, what would be freed is shown.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Show, or delete, what takes up room and nobody needs: what arrived in part, folders of jobs that ended without a model, and on demand checkpoints, clients' files, stored responses and completions, and runs of evals. What a registered model or a job that has not ended needs is never touched."""
    from journeyman.workspace import Workspace

    screen = Screen(as_json=as_json)
    found = Workspace().clean(only or ("leftovers", "jobs"), older_than_days=older_than_days, delete=delete)
    rows = [(item.kind, size(item.size_bytes), str(item.path or "in the database"), item.reason) for item in found]
    if rows:
        screen.table(["kind", "size", "path", "why"], rows)
    total_bytes = sum(item.size_bytes for item in found)
    if delete:
        screen.line(f"{size(total_bytes)} freed", style="bold")
    else:
        screen.line(f"{size(total_bytes)} would be freed; --delete does it", style="bold")
    items = [
        {"kind": i.kind, "path": str(i.path) if i.path else None, "bytes": i.size_bytes, "reason": i.reason} for i in found
    ]
    screen.result({"deleted": delete, "bytes": total_bytes, "items": items})
