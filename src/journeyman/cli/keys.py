"""`keys`: create, list, revoke."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from journeyman.cli import options
from journeyman.cli.show import Screen, size

if TYPE_CHECKING:
    from journeyman.storage.keys import Key

group = typer.Typer(
    help="Keys that clients of the server call with: create, list, revoke.", no_args_is_help=True
)


def register(app: typer.Typer) -> None:
    """Add the group."""
    app.add_typer(group, name="keys")


@group.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose key it is, for you to know it by.")],
    project: Annotated[
        str,
        typer.Option(
            "--project", help="Files, jobs, models, responses and evals are seen by keys of their project only; `models share` lets others call a model."
        ),
    ] = "default",
    storage_mib: Annotated[
        int | None, typer.Option("--storage-mib", min=1, help="It adds no file that would bring its project above this.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="It creates no job while its project has this many queued or running.")
    ] = None,
    requests_per_minute: Annotated[
        int | None, typer.Option("--requests-per-minute", min=1, help="More get 429 with Retry-After; each server counts for itself.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """A new key. Its text is shown this once. From the first one on, the server accepts no request without a key."""
    from journeyman.storage.keys import Limits
    from journeyman.workspace import Workspace

    screen = Screen(as_json=as_json)
    limits = Limits(
        storage_bytes=None if storage_mib is None else storage_mib * 2**20,
        jobs=jobs,
        requests_per_minute=requests_per_minute,
    )
    key, text = Workspace().keys.create(name, project, limits)
    screen.line(text, style="bold")
    screen.line(f"  {key.id}, project {key.project}. Keep it now: only a hash of it is stored.", style="dim")
    screen.result({**asdict(key), "key": text})


@group.command(name="list")
def list_keys(as_json: options.AsJson = False) -> None:
    """All keys, oldest first, revoked ones too."""
    from journeyman.workspace import Workspace

    screen = Screen(as_json=as_json)
    keys = Workspace().keys.list()
    rows = [(k.id, k.name, k.project, f"…{k.hint}", _limits(k), _day(k.created_at), _day(k.revoked_at)) for k in keys]
    screen.table(["id", "name", "project", "key", "limits", "created", "revoked"], rows)
    screen.result({"keys": [asdict(key) for key in keys]})


@group.command()
def revoke(
    key: Annotated[str, typer.Argument(metavar="KEY", help="The key's id, key_…, as `keys list` shows it.")],
    as_json: options.AsJson = False,
) -> None:
    """Accept a key no longer, from the next request on. What it made stays with its project."""
    from journeyman.workspace import Workspace

    screen = Screen(as_json=as_json)
    revoked = Workspace().keys.revoke(key)
    screen.line(f"{revoked.id} ({revoked.name}) is no longer accepted")
    screen.result(asdict(revoked))


def _limits(key: Key) -> str:
    limits = key.limits
    parts = (
        limits.storage_bytes and size(limits.storage_bytes),
        limits.jobs and f"{limits.jobs} jobs",
        limits.requests_per_minute and f"{limits.requests_per_minute}/min",
    )
    return ", ".join(part for part in parts if part)


def _day(time_s: float | None) -> str:
    return "" if time_s is None else datetime.fromtimestamp(time_s).strftime("%Y-%m-%d %H:%M")
